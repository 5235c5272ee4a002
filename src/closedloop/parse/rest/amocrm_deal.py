"""One lead of amoCRM's API, with its contacts, to a deal; asks nothing."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from closedloop.domain.deal import Deal, Step
from closedloop.parse.crm.amocrm import outcome_of
from closedloop.parse.fields import MAX_TEXT
from closedloop.parse.rest.answers import (
    Json,
    Table,
    inside,
    moment,
    number,
    object_id,
    rows,
    text,
    texts,
)
from closedloop.parse.rest.funnels import Funnels, Stage, is_qualified, reached
from closedloop.parse.search import (
    Candidate,
    best_first,
    contact_candidates,
    field_candidates,
    text_candidates,
)

NAME = "amocrm"
_UNSORTED = "1"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What an account says of itself: its money, and the stages of its pipelines."""

    currency: str | None = None
    funnels: Funnels = {}


def deal_of(lead: Table, contacts: Sequence[Table], account: Account, session_field: str | None) -> Deal:
    """Return one lead as a deal, with all that leads back to its visitor.

    Fields are looked at before those of the contacts. Source: docs/protocols/amocrm.md, 1.6 and 4.
    """
    now = step_of(lead)
    outcome = outcome_of(now.stage)
    return Deal(
        crm=NAME,
        deal_id=object_id(lead.get("id")),
        title=text(lead.get("name")),
        funnel=now.funnel,
        stage=now.stage,
        outcome=outcome,
        passed=reached(account.funnels, now, outcome, ()),
        is_qualified=is_qualified(account.funnels, now, outcome, ()),
        value=_value(lead),
        currency=account.currency,
        fields=goal_fields(lead),
        created_at=moment(lead.get("created_at")),
        changed_at=moment(lead.get("updated_at")) or moment(lead.get("created_at")) or _LONG_AGO,
        closed_at=None if outcome == "open" else moment(lead.get("closed_at")),
        findings=tuple(best_first(_candidates(lead, contacts, session_field))),
        is_deleted=lead.get("is_deleted") is True,
    )


def step_of(lead: Table) -> Step:
    """Return the stage in which a lead is now; amoCRM does not say since when."""
    entered_at = moment(lead.get("closed_at")) or moment(lead.get("updated_at")) or _LONG_AGO
    return Step(
        funnel=object_id(lead.get("pipeline_id")), stage=object_id(lead.get("status_id")), at=entered_at
    )


def funnels_of(answer: Json) -> dict[str, Sequence[Stage]]:
    """Return the stages of `leads/pipelines` by pipeline, in the order in which people see them.

    The request box is left out: what is in it is no deal yet.
    """
    found: dict[str, Sequence[Stage]] = {}
    for pipeline in rows(inside(answer, "_embedded", "pipelines")):
        statuses = rows(inside(pipeline, "_embedded", "statuses"))
        ordered = sorted(statuses, key=lambda status: int(object_id(status.get("sort")) or 0))
        found[object_id(pipeline.get("id"))] = [
            Stage(stage_id=stage_id, outcome=outcome_of(stage_id))
            for status in ordered
            if (stage_id := object_id(status.get("id"))) and text(status.get("type")) != _UNSORTED
        ]
    return found


def contact_ids(lead: Table) -> list[str]:
    """Return the ids of a lead's contacts, the main one first."""
    linked = rows(inside(lead, "_embedded", "contacts"))
    ordered = sorted(linked, key=lambda contact: contact.get("is_main") is not True)
    return list(filter(None, (object_id(contact.get("id")) for contact in ordered)))


def goal_fields(lead: Table) -> dict[str, str]:
    """Return every short text of a lead by the id, the code and the name of its field.

    An id or code goes before a name that is spelled like it; of two fields with one name the first counts.
    """
    told = [(spellings, "; ".join(values)) for spellings, values in _fields(lead)]
    fitting = [(spellings, value) for spellings, value in told if 0 < len(value) <= MAX_TEXT]
    found = {"price": text(lead.get("price"))} if text(lead.get("price")) else {}
    for place in range(3):
        for spellings, value in fitting:
            found.setdefault(spellings[place], value)
    found.pop("", None)
    return found


def _value(lead: Table) -> Decimal | None:
    exact = number(lead.get("price_with_minor_units"))
    return number(lead.get("price")) if exact is None else exact


def _fields(told: Table) -> Iterator[tuple[tuple[str, str, str], list[str]]]:
    """Yield the id, the code and the name of each field, and its values."""
    for field in rows(told.get("custom_fields_values")):
        spellings = (
            object_id(field.get("field_id")),
            text(field.get("field_code")),
            text(field.get("field_name")),
        )
        yield spellings, [one for value in rows(field.get("values")) for one in texts(value.get("value"))]


def _candidates(lead: Table, contacts: Sequence[Table], session_field: str | None) -> Iterator[Candidate]:
    place = f"deal {object_id(lead.get('id'))}"
    yield from field_candidates(_searched(lead), place, session_field=session_field)
    for contact in contacts:
        at = f"contact {object_id(contact.get('id'))}"
        yield from field_candidates(_searched(contact), at, session_field=session_field)
        yield from contact_candidates(_named(contact), at)
    yield from _texts_of(lead, place)


def _searched(told: Table) -> Iterator[tuple[str, str]]:
    for (field_id, code, name), values in _fields(told):
        for value in values:
            yield from ((spelling, value) for spelling in (code, name, field_id) if spelling)


def _named(contact: Table) -> Iterator[tuple[str, str]]:
    for (_, code, name), values in _fields(contact):
        yield from ((code or name, value) for value in values)


def _texts_of(lead: Table, place: str) -> Iterator[Candidate]:
    """Yield what stands in the title and in fields of several lines, into which forms are poured."""
    yield from text_candidates(text(lead.get("name")), f"{place}, name")
    for field in rows(lead.get("custom_fields_values")):
        if text(field.get("field_type")) == "textarea":
            at = f"{place}, {text(field.get('field_code')) or text(field.get('field_name'))}"
            for value in rows(field.get("values")):
                yield from text_candidates(text(value.get("value")), at)
