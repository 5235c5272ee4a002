"""One object of Bitrix24's API, with its lead and contacts, to a deal; asks nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from closedloop.domain.deal import Deal, Outcome, Step
from closedloop.parse.fields import MAX_TEXT
from closedloop.parse.rest.answers import (
    Table,
    currency,
    inside,
    moment,
    number,
    object_id,
    rows,
    text,
    texts,
)
from closedloop.parse.rest.bitrix24_known import CONTACT, DEAL, INVOICE, LEAD, Known
from closedloop.parse.rest.funnels import is_qualified, reached
from closedloop.parse.search import (
    Candidate,
    best_first,
    contact_candidates,
    field_candidates,
    text_candidates,
)

NAME = "bitrix24"
_DEAL_ID = re.compile(
    r"(?:DEAL_)?(?P<deal>[1-9][0-9]{0,17})|SMART_INVOICE_(?P<invoice>[1-9][0-9]{0,17})"
    r"|DYNAMIC_(?P<type>[1-9][0-9]{0,8})_(?P<number>[1-9][0-9]{0,17})"
)
_OUTCOMES: Mapping[str, Outcome] = {"P": "open", "S": "won", "F": "lost"}
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# Running texts, and how the journal calls them; other names are shown as they are.
_TEXTS = {"comments": "comment", "sourcedescription": "SOURCE_DESCRIPTION", "title": "title"}


class ItemId(NamedTuple):
    """An object of the portal: 2 and 662 is the deal 662."""

    entity_type: int
    number: str


class Related(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to a deal: the lead that it was, its contacts, the stages that it entered."""

    lead: Table = {}
    contacts: Sequence[Table] = ()
    steps: tuple[Step, ...] = ()


def read_deal_id(deal_id: str) -> ItemId | None:
    """Return what `662`, `DYNAMIC_1032_21` or `SMART_INVOICE_9` is; None for what is no id of Bitrix24."""
    found = _DEAL_ID.fullmatch(deal_id)
    if found is None:
        return None
    if found["type"]:
        return ItemId(int(found["type"]), found["number"])
    return ItemId(INVOICE, found["invoice"]) if found["invoice"] else ItemId(DEAL, found["deal"])


def deal_id_of(item: ItemId) -> str:
    """Return the id as the webhooks call it, too: `662`, `DYNAMIC_1032_21`, `SMART_INVOICE_9`."""
    names = {DEAL: "", INVOICE: "SMART_INVOICE_"}
    return names.get(item.entity_type, f"DYNAMIC_{item.entity_type}_") + item.number


def deal_of(at: ItemId, item: Table, related: Related, known: Known, session_field: str | None) -> Deal:
    """Return one item of `crm.item.list` as a deal, with all that leads back to its visitor.

    Fields are looked at in the order deal, lead, contacts; comments and UTM fields come last. A won or lost
    deal is closed since it entered its stage. Source: docs/protocols/bitrix24.md, 4 and 5.2.
    """
    now = step_of(item)
    funnels = known.funnels.get(at.entity_type, {})
    outcome = _outcome(item, known, at.entity_type, now)
    changed_at = moment(item.get("updatedTime")) or moment(item.get("createdTime"))
    return Deal(
        crm=NAME,
        deal_id=deal_id_of(at),
        title=text(item.get("title")),
        funnel=now.funnel,
        stage=now.stage,
        outcome=outcome,
        passed=reached(funnels, now, outcome, related.steps),
        is_qualified=is_qualified(funnels, now, outcome, related.steps),
        value=number(item.get("opportunity")),
        currency=currency(item.get("currencyId")),
        fields=goal_fields(item, known.labels.get(at.entity_type, {})),
        created_at=moment(item.get("createdTime")),
        changed_at=changed_at or _LONG_AGO,
        closed_at=None if outcome == "open" else moment(item.get("movedTime")),
        steps=related.steps,
        findings=tuple(best_first(_candidates(at, item, related, known, session_field))),
    )


def step_of(item: Table) -> Step:
    """Return the stage in which an item is now."""
    entered_at = moment(item.get("movedTime")) or _LONG_AGO
    return Step(funnel=text(item.get("categoryId")) or "0", stage=text(item.get("stageId")), at=entered_at)


def is_owners_field(name: str) -> bool:
    """Tell a field that the owner made, `UF_CRM_1721244482` or, in old portals, `ufCrm_1721244482`."""
    return name.lower().startswith(("uf_", "ufcrm"))


def goal_fields(item: Table, labels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return every short text of an item by its name and its labels: `{"UF_CRM_7": "300|RUB", "Маржа": …}`.

    A name goes before a label that is spelled like it; of two fields with one label the first counts.
    """
    told = {name: value for name, node in item.items() if 0 < len(value := text(node)) <= MAX_TEXT}
    found = dict(told)
    for name, value in told.items():
        for label in labels.get(name, ()):
            found.setdefault(label, value)
    return found


def _outcome(item: Table, known: Known, entity_type: int, now: Step) -> Outcome:
    """Return the outcome, which smart processes tell by their stage only."""
    told = _OUTCOMES.get(text(item.get("stageSemanticId")))
    if told is not None:
        return told
    stages = known.funnels.get(entity_type, {}).get(now.funnel, ())
    outcomes: dict[str, Outcome] = {stage.stage_id: stage.outcome for stage in stages}
    return outcomes.get(now.stage, "open")


def _candidates(
    at: ItemId, item: Table, related: Related, known: Known, session_field: str | None
) -> Iterator[Candidate]:
    places = [
        (at.entity_type, f"deal {deal_id_of(at)}", item),
        (LEAD, f"lead {text(related.lead.get('ID'))}", related.lead),
        *((CONTACT, f"contact {text(contact.get('ID'))}", contact) for contact in related.contacts),
    ]
    for entity_type, place, told in places:
        labels = known.labels.get(entity_type, {})
        yield from field_candidates(_searched(told, labels), place, session_field=session_field)
        yield from contact_candidates(_multiple(told), place)
    for _, place, told in places:
        for name, node in told.items():
            if name := _TEXTS.get(name.replace("_", "").lower(), ""):
                yield from text_candidates(text(node), f"{place}, {name}")


def _searched(told: Table, labels: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for name, node in told.items():
        if is_owners_field(name):
            for value in texts(node):
                yield from ((spelling, value) for spelling in (name, *labels.get(name, ())))
        elif name.lower().startswith(("utm", "origin")):
            yield name, text(node)


def _multiple(told: Table) -> Iterator[tuple[str, str]]:
    for name in ("PHONE", "EMAIL"):
        for value in rows(told.get(name)):
            yield name, text(inside(value, "VALUE"))


def linked_ids(item: Table) -> tuple[str, list[str]]:
    """Return the id of an item's lead, empty when it has none, and those of its contacts, main one first."""
    several = item.get("contactIds")
    contacts = [item.get("contactId"), *(several if isinstance(several, list) else [])]
    lead = object_id(item.get("leadId")) or object_id(item.get("parentId1"))
    return lead, list(dict.fromkeys(filter(None, map(object_id, contacts))))
