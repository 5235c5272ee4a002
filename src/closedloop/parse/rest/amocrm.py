"""How to ask one amoCRM or Kommo account for deals, and to write into them; sends nothing itself."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus

import msgspec

from closedloop.domain.deal import Deal
from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CallerError
from closedloop.parse.base import Check, Conversation, DealPage, Refusal
from closedloop.parse.rest.amocrm_check import read_checks
from closedloop.parse.rest.amocrm_deal import NAME, Account, contact_ids, deal_of, funnels_of, step_of
from closedloop.parse.rest.amocrm_refusal import refusal_of
from closedloop.parse.rest.answers import (
    Table,
    chunks,
    currency,
    inside,
    object_id,
    read_object,
    rows,
    sweep_of,
    text,
)
from closedloop.parse.rest.funnels import unknown

MAX_PAGE = 250
MIN_PAGE = 25
# Ids of so many leads in one address stay below the 8 KB that servers take.
MAX_IDS = 125
MAX_CONTACTS = 10  # of one lead: beyond are the people of a company, not visitors
# Lists lag behind what is saved.
OVERLAP_S = 60
LEADS, CONTACTS, FIELDS = "api/v4/leads", "api/v4/contacts", "api/v4/leads/custom_fields"

Query = Sequence[tuple[str, str]]


class Sweep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cursor: leads that changed in the second `since` (Unix) or later, in the order of their changes.

    With a `page` only those of this one second, more than fit into a page: from its last page to its first.
    """

    since: int
    page: int = 0
    limit: int = MAX_PAGE


class AmoCrmApi:
    """The conversations with one account; remembers its currency and the stages of its pipelines.

    `session_field` is the id, code or name of the field of the session, None for any of the usual names.
    Source: docs/protocols/amocrm.md, 3 and 4.
    """

    name: str = NAME
    calls_per_second: float = 5
    burst: int = 2  # with five a second never more than the seven that are allowed

    def __init__(self, *, session_field: str | None = None) -> None:
        self.session_field = session_field
        self.limit = MAX_PAGE
        self.account: Account | None = None
        self._asked: set[tuple[str, str]] = set()

    def refusal(self, request: Request, reply: Reply) -> Refusal | None:
        """Return why a reply is no success, None when it is one; a 504 makes later pages half as large."""
        if reply.status == HTTPStatus.GATEWAY_TIMEOUT and request.path in (LEADS, CONTACTS):
            self.limit = max(self.limit // 2, MIN_PAGE)
        return refusal_of(request, reply)

    def read_deals(self, deal_ids: Sequence[str]) -> Conversation[Mapping[str, Deal | None]]:
        """Return each lead as it is now; None for one that is deleted or that the token may not see.

        amoCRM does not tell the two apart. What is no id of a lead is not in the mapping.
        """
        wanted = dict.fromkeys(deal_id for deal_id in deal_ids if _is_id(deal_id))
        leads: dict[str, Table] = {}
        for part in chunks(wanted, self._ids_at_once):
            leads |= _by_id((yield from _read_list(LEADS, part)))
        for deal_id in wanted:
            if deal_id not in leads:
                leads |= _by_id((yield from _read_one(deal_id)))
        there = [leads[one] for one in wanted if one in leads and leads[one].get("is_deleted") is not True]
        deals = {deal.deal_id: deal for deal in (yield from self._complete(there))}
        return {deal_id: deals.get(deal_id) for deal_id in wanted}

    def first_cursor(self, since: datetime) -> str:
        """Return the cursor of a sweep over the deals that changed at `since` or later."""
        return _cursor_of(Sweep(since=int(since.timestamp())))

    def changed_deals(self, cursor: str) -> Conversation[DealPage]:
        """Return the next changed deals, up to 250. No deal is passed over, whatever changes or vanishes.

        Deals of one second may come twice. The cursor of the last page begins the next sweep: a minute before
        the last change that was seen. Raises CallerError for a text that is no cursor.
        """
        sweep = self._fitted(sweep_of(cursor, Sweep, "amoCRM"))
        if sweep.page:
            reply = yield Request(method="GET", path=LEADS, query=_of_one_second(sweep))
            return (yield from self._page(_leads_of(reply), _before(sweep), is_last=False))
        reply = yield Request(method="GET", path=LEADS, query=_in_order(sweep, self.limit))
        leads = _leads_of(reply)
        last = max([_changed_in(lead) for lead in leads], default=sweep.since)
        if not leads or not _has_next(reply):
            since = last - OVERLAP_S if leads else sweep.since
            return (yield from self._page(leads, Sweep(since=since), is_last=True))
        following = Sweep(since=last)
        if last == sweep.since:
            following = yield from _end_of_second(sweep.since, self.limit)
        return (yield from self._page(leads, following, is_last=False))

    def check(self) -> Conversation[Sequence[Check]]:
        """Return what `doctor` shows: connection, rights, stages, the field of the session."""
        account = yield Request(method="GET", path="api/v4/account")
        yield Request(method="GET", path=LEADS, query=[("limit", "1")])
        yield Request(method="GET", path=CONTACTS, query=[("limit", "1")])
        pipelines = yield Request(method="GET", path="api/v4/leads/pipelines")
        fields: list[Table] = []
        page = 1
        while True:
            reply = yield Request(method="GET", path=FIELDS, query=[("limit", "250"), ("page", str(page))])
            found = rows(inside(read_object(reply.body), "_embedded", "custom_fields"))
            fields += found
            if not found or not _has_next(reply):
                break
            page += 1
        funnels = funnels_of(read_object(pipelines.body))
        return read_checks(read_object(account.body) or {}, funnels, fields, self.session_field)

    def write_fields(self, deal_id: str, fields: Mapping[str, str]) -> Conversation[None]:
        """Put texts into fields of a lead, named by id, or else by code. Raises CallerError for a bad id."""
        if not _is_id(deal_id):
            raise CallerError("deal_id", "is no id of a lead of amoCRM", shown=deal_id)
        values = [
            {
                **({"field_id": int(name)} if object_id(name) else {"field_code": name}),
                "values": [{"value": value}],
            }
            for name, value in fields.items()
        ]
        yield Request(method="PATCH", path=f"{LEADS}/{deal_id}", body={"custom_fields_values": values})

    @property
    def _ids_at_once(self) -> int:
        return min(self.limit, MAX_IDS)

    def _fitted(self, sweep: Sweep) -> Sweep:
        """Return the sweep with pages no larger than amoCRM has just proved to manage."""
        if sweep.limit <= self.limit:
            return sweep
        return Sweep(since=sweep.since, page=-(-sweep.page * sweep.limit // self.limit), limit=self.limit)

    def _page(self, leads: Sequence[Table], following: Sweep, *, is_last: bool) -> Conversation[DealPage]:
        deals = yield from self._complete(leads)
        return DealPage(deals=deals, cursor=_cursor_of(following), is_last=is_last)

    def _complete(self, leads: Sequence[Table]) -> Conversation[list[Deal]]:
        """Return the deals of leads, with their contacts."""
        links = [contact_ids(lead)[:MAX_CONTACTS] for lead in leads]
        contacts: dict[str, Table] = {}
        for part in chunks(dict.fromkeys(one for ids in links for one in ids), self._ids_at_once):
            contacts |= _by_id((yield from _read_list(CONTACTS, part)))
        account = yield from self._learn(leads)
        return [
            deal_of(lead, [contacts[one] for one in ids if one in contacts], account, self.session_field)
            for lead, ids in zip(leads, links, strict=True)
        ]

    def _learn(self, leads: Sequence[Table]) -> Conversation[Account]:
        """Return the account, asked for once; its pipelines again when a lead is in a stage nobody knows."""
        if not leads:
            return self.account or Account()
        account = self.account
        if account is None:
            reply = yield Request(method="GET", path="api/v4/account")
            account = Account(currency=currency(inside(read_object(reply.body), "currency")))
        foreign = {(step.funnel, step.stage) for step in unknown(account.funnels, list(map(step_of, leads)))}
        if foreign - self._asked:
            reply = yield Request(method="GET", path="api/v4/leads/pipelines")
            funnels = funnels_of(read_object(reply.body))
            account = Account(currency=account.currency, funnels=funnels or account.funnels)
            self._asked |= foreign
        self.account = account
        return account


def _read_list(path: str, ids: Sequence[str]) -> Conversation[list[Table]]:
    """Return the objects of some ids, in one page."""
    query = [("limit", str(len(ids))), ("with", "contacts"), *(("filter[id][]", one) for one in ids)]
    reply = yield Request(method="GET", path=path, query=query)
    kind = path.rpartition("/")[2]
    return _with_ids(rows(inside(read_object(reply.body), "_embedded", kind)))


def _read_one(deal_id: str) -> Conversation[list[Table]]:
    """Return one lead, none when it is not there."""
    reply = yield Request(method="GET", path=f"{LEADS}/{deal_id}", query=[("with", "contacts")])
    return _with_ids(rows([read_object(reply.body)]))


def _end_of_second(since: int, limit: int) -> Conversation[Sweep]:
    """Return the sweep of one second that begins at its last page.

    Leads that change meanwhile leave the second, and those behind them move forward: from the last page to
    the first none can move past us, from the first to the last they would.
    """
    page = 1
    while True:
        at = Sweep(since=since, page=page, limit=limit)
        reply = yield Request(method="GET", path=LEADS, query=_of_one_second(at))
        if not _leads_of(reply) or not _has_next(reply):
            return at
        page += 1


def _before(sweep: Sweep) -> Sweep:
    if sweep.page > 1:
        return Sweep(since=sweep.since, page=sweep.page - 1, limit=sweep.limit)
    return Sweep(since=sweep.since + 1)


def _in_order(sweep: Sweep, limit: int) -> Query:
    return [
        ("limit", str(limit)),
        ("with", "contacts"),
        ("filter[updated_at][from]", str(sweep.since)),
        ("order[updated_at]", "asc"),
        ("page", "1"),
    ]


def _of_one_second(sweep: Sweep) -> Query:
    return [
        ("limit", str(sweep.limit)),
        ("with", "contacts"),
        ("filter[updated_at][from]", str(sweep.since)),
        ("filter[updated_at][to]", str(sweep.since)),
        ("order[id]", "asc"),
        ("page", str(sweep.page)),
    ]


def _leads_of(reply: Reply) -> list[Table]:
    return _with_ids(rows(inside(read_object(reply.body), "_embedded", "leads")))


def _with_ids(found: Sequence[Table]) -> list[Table]:
    return [row for row in found if object_id(row.get("id"))]


def _is_id(deal_id: str) -> bool:
    return bool(deal_id) and object_id(deal_id) == deal_id


def _by_id(found: Sequence[Table]) -> dict[str, Table]:
    return {object_id(row.get("id")): row for row in found}


def _has_next(reply: Reply) -> bool:
    return bool(text(inside(read_object(reply.body), "_links", "next", "href")))


def _changed_in(lead: Table) -> int:
    return int(object_id(lead.get("updated_at")) or 0)


def _cursor_of(sweep: Sweep) -> str:
    return msgspec.json.encode(sweep).decode()
