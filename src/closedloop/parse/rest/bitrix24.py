"""How to ask one Bitrix24 portal for deals, and to write into them; sends nothing, sees no network."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from closedloop.domain.deal import Deal
from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CallerError
from closedloop.parse.base import Check, Conversation, DealPage, Refusal
from closedloop.parse.rest.answers import Table, chunks, inside, object_id, rows, table
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, PAGE, Answers, batch, command
from closedloop.parse.rest.bitrix24_check import check_commands, read_checks
from closedloop.parse.rest.bitrix24_deal import (
    NAME,
    ItemId,
    Related,
    deal_id_of,
    deal_of,
    is_owners_field,
    read_deal_id,
    step_of,
)
from closedloop.parse.rest.bitrix24_known import CONTACT, DEAL, LEAD, Known, Need, stage_needs
from closedloop.parse.rest.bitrix24_refusal import refusal_of
from closedloop.parse.rest.bitrix24_related import read_related
from closedloop.parse.rest.bitrix24_sweep import Sweep, cursor_of, page_commands, read_cursor, read_pages


class Bitrix24Api:
    """The conversations with one portal; remembers the names of its fields and the stages of its funnels.

    `session_field` is the field of the session as the owner named it, None for any of the usual names.
    `with_steps`: every stage that a deal entered is asked for as well, at the price of about a call more
    for ten deals. Source: docs/protocols/bitrix24.md, 5.
    """

    name: str = NAME
    # The portal's bucket drains two calls a second and overflows at 50, which others on this address share.
    calls_per_second: float = 2
    burst: int = 40

    def __init__(self, *, session_field: str | None = None, with_steps: bool = False) -> None:
        self.session_field = session_field
        self.with_steps = with_steps
        self.known = Known()

    def refusal(self, request: Request, reply: Reply) -> Refusal | None:
        """Return why a reply is no success, None when it is one; looks at status and body."""
        return refusal_of(request, reply)

    def read_deals(self, deal_ids: Sequence[str]) -> Conversation[Mapping[str, Deal | None]]:
        """Return each deal as it is now (`662`, `DYNAMIC_1032_21`, `SMART_INVOICE_9`); None for a gone one.

        A deal that the portal does not show for another reason (no rights, an id that is none of its own)
        is not in the mapping: nothing is known of it.
        """
        wanted = {deal_id: at for deal_id in deal_ids if (at := read_deal_id(deal_id)) is not None}
        listed = yield from batch(_list_commands(wanted.values()))
        items = _listed(listed)
        missing = [at for at in dict.fromkeys(wanted.values()) if at not in items]
        alone = yield from batch({_get_name(at): _get_command(at) for at in missing})
        for at in missing:
            if item := table(inside(alone.results.get(_get_name(at)), "item")):
                items[at] = item
        gone = {at for at in missing if _is_gone(alone, at)}
        deals = yield from self._complete({at: items[at] for at in wanted.values() if at in items})
        return {deal_id: deals.get(at) for deal_id, at in wanted.items() if at in deals or at in gone}

    def first_cursor(self, since: datetime) -> str:
        """Return the cursor of a sweep over the deals that changed at `since` or later."""
        return cursor_of(Sweep(since=since))

    def changed_deals(self, cursor: str) -> Conversation[DealPage]:
        """Return the next changed deals, up to 500. No deal is passed over, whatever changes or vanishes.

        The cursor of the last page begins the next sweep: ten minutes before this one began, by the portal's
        clock. Leads, smart processes and invoices are not swept. Raises CallerError for a text that is no
        cursor, TransientError for an answer from which nothing follows.
        """
        sweep = read_cursor(cursor)
        found = read_pages(sweep, (yield from batch(page_commands(sweep))))
        items = {ItemId(DEAL, object_id(item.get("id"))): item for item in found.items}
        deals = yield from self._complete(items)
        return DealPage(
            deals=list(deals.values()),
            cursor=cursor_of(found.following),
            is_last=found.is_last,
            total=found.total,
        )

    def check(self) -> Conversation[Sequence[Check]]:
        """Return what `doctor` shows: rights, stages, the field of the session."""
        answers = yield from batch(check_commands())
        return read_checks(answers, self.session_field)

    def write_fields(self, deal_id: str, fields: Mapping[str, str]) -> Conversation[None]:
        """Put texts into fields (`UF_CRM_…`) of a deal. Raises CallerError for an id that is none."""
        at = read_deal_id(deal_id)
        if at is None:
            raise CallerError("deal_id", "is no id of a deal of Bitrix24", shown=deal_id)
        yield Request(
            method="POST",
            path="crm.item.update",
            body={
                "entityTypeId": at.entity_type,
                "id": int(at.number),
                "fields": dict(fields),
                "useOriginalUfNames": "Y",
            },
        )

    def _complete(self, items: Mapping[ItemId, Table]) -> Conversation[dict[ItemId, Deal]]:
        """Return the deals of items, with what belongs to them, and with names and stages learnt."""
        related = yield from read_related(items, with_steps=self.with_steps)
        yield from self.known.learn(
            [need for at, item in items.items() for need in self._needs(at, item, related[at])]
        )
        return {
            at: deal_of(at, item, related[at], self.known, self.session_field) for at, item in items.items()
        }

    def _needs(self, at: ItemId, item: Table, related: Related) -> Iterable[Need]:
        yield Need(at.entity_type, field="id")
        for entity_type, told in [
            (at.entity_type, item),
            (LEAD, related.lead),
            *((CONTACT, contact) for contact in related.contacts),
        ]:
            yield from (Need(entity_type, field=name) for name in told if is_owners_field(name))
        yield from stage_needs(self.known, at.entity_type, [step_of(item), *related.steps])


def _list_commands(wanted: Iterable[ItemId]) -> dict[str, str]:
    """Return the commands that list objects by id; only deals are sure to be a type that exists."""
    by_type: dict[int, list[str]] = {}
    for at in dict.fromkeys(wanted):
        by_type.setdefault(at.entity_type, []).append(at.number)
    return {
        f"{'' if entity_type == DEAL else OPTIONAL}list_{entity_type}_{number}": command(
            "crm.item.list",
            {
                "entityTypeId": entity_type,
                "filter": {"@id": list(part)},
                "order": {"id": "ASC"},
                "select": ["*"],
                "useOriginalUfNames": "Y",
                "start": -1,
            },
        )
        for entity_type, numbers in by_type.items()
        for number, part in enumerate(chunks(numbers, PAGE))
    }


def _listed(answers: Answers) -> dict[ItemId, Table]:
    return {
        ItemId(int(name.split("_")[-2]), object_id(item.get("id"))): item
        for name, result in answers.results.items()
        for item in rows(inside(result, "items"))
    }


def _get_name(at: ItemId) -> str:
    return f"{OPTIONAL}get_{deal_id_of(at)}"


def _get_command(at: ItemId) -> str:
    return command(
        "crm.item.get", {"entityTypeId": at.entity_type, "id": at.number, "useOriginalUfNames": "Y"}
    )


def _is_gone(answers: Answers, at: ItemId) -> bool:
    failure = answers.failures.get(_get_name(at))
    return failure is not None and failure.is_absence
