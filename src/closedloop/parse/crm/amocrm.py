"""The webhooks of amoCRM and Kommo: bodies to what happened in the CRM, and to notices of deals.

Nothing is signed, and nothing identifies a delivery: a webhook is believed by the key in its address, and the
account in its body only tells a wrong set-up.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain

import msgspec

from closedloop.domain.deal import Deal, Outcome
from closedloop.domain.money import read_amount, read_number
from closedloop.errors import CallerError, UntrustedError
from closedloop.parse.base import CrmRequest, Notice, Reading, Trust
from closedloop.parse.brackets import Tree, branch, read_tree, rows, text
from closedloop.parse.fields import trimmed
from closedloop.parse.search import find_in_fields

# A card with 240 filled fields is 125 KB, and a refused one counts towards switching the webhook off.
MAX_BYTES = 1024 * 1024
WON, LOST = "142", "143"

_ENTITIES = {
    "leads": "lead",
    "contacts": "contact",
    "companies": "company",
    "customers": "customer",
    "catalogs": "catalog",
}
_NO_ENTITY = frozenset({"account", "data"})
# What a note or a task hangs on (docs/protocols/amocrm.md, 1.5).
_ELEMENTS = {"1": "contact", "2": "lead", "3": "company", "12": "customer"}
# The last four are triggers of the Digital Pipeline (docs/protocols/amocrm.md, 2).
_CHANGES = frozenset(
    {"add", "status", "update", "restore", "responsible", "call_in", "chat", "site_visit", "mail_in"}
)
_ID = re.compile(r"[0-9]{1,20}")
_UNIX = re.compile(r"0*[1-9][0-9]{0,9}")


class AmoAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Whose webhook it says it is; bodies of 2016 carry no id."""

    id: str | None = None
    subdomain: str | None = None


class AmoValue(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a custom field; `enum` is the id of a choice."""

    value: str | None
    enum: str | None = None


class AmoField(msgspec.Struct, frozen=True, kw_only=True):
    """One custom field; without values it is empty."""

    id: str | None = None
    name: str | None = None
    code: str | None = None
    values: tuple[AmoValue, ...] = ()


class AmoEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, as its webhook tells it; what it does not tell is None.

    `key` is where it stands in the body (`leads[status][0]`). `entity` is what it happened to: a note is an
    action on the lead or contact that it hangs on. The id of an `unsorted` is its uid, its `action` when it
    leaves the request box `accept` or `decline`. `price` is told by leads only.
    """

    key: str
    entity: str
    action: str
    id: str | None = None
    name: str | None = None
    status_id: str | None = None
    old_status_id: str | None = None
    pipeline_id: str | None = None
    old_pipeline_id: str | None = None
    outcome: Outcome | None = None
    price: Decimal | None = None
    created_at: int | None = None  # Unix seconds
    last_modified: int | None = None  # Unix seconds
    custom_fields: tuple[AmoField, ...] | None = None
    tags: tuple[str, ...] | None = None
    linked_lead_ids: tuple[str, ...] | None = None
    lead_ids: tuple[str, ...] | None = None
    contact_ids: tuple[str, ...] | None = None


class AmoCrmWebhooks:
    """Reads the webhooks of accounts, of the Digital Pipeline and of a Salesbot."""

    name = "amocrm"
    max_bytes = MAX_BYTES

    def check(self, request: CrmRequest, trust: Trust) -> None:
        """Raise UntrustedError: forged without the site's key, foreign for an account that is not ours.

        `trust.accounts` are ids and subdomains; one of the two that a body tells has to be among them. A body
        that tells neither, or cannot be read, passes with the key.
        Source: docs/protocols/amocrm.md, 1.8.
        """
        if not trust.has_key:
            raise UntrustedError("forged", "key", "is missing or is not a key of this site")
        try:
            account = read_account(request)
        except CallerError:
            return
        told = [name for name in (account.id, account.subdomain) if name]
        known = {name.casefold() for name in trust.accounts}
        if known and told and known.isdisjoint(name.casefold() for name in told):
            raise UntrustedError("foreign", "account", "is not the configured one", shown=" ".join(told))

    def read(self, request: CrmRequest) -> Reading:
        """Return one notice for each lead that changed or is gone, in the order of their first appearance.

        Of several tellings of one lead the latest counts. Contacts and accepted requests name their leads
        without showing them. Notes, tasks and companies give nothing. Raises CallerError that names the key:
        for a lead without an id, for a price that is no number, and what `read_tree` raises.
        Source: docs/protocols/amocrm.md, 1.3 to 1.6 and 2.
        """
        notices: dict[str, Notice] = {}
        ranks: dict[str, tuple[bool, datetime]] = {}
        for event in read_events(request):
            for notice in _notices(event, request.received_at):
                shows = notice.deal is not None or notice.kind == "deleted"
                rank = (shows, _moment(event.last_modified) or request.received_at)
                if notice.deal_id not in ranks or rank >= ranks[notice.deal_id]:
                    notices[notice.deal_id], ranks[notice.deal_id] = notice, rank
        return Reading(notices=tuple(notices.values()))


def read_account(request: CrmRequest) -> AmoAccount:
    """Return the account that a body tells; of a Salesbot's body what its token claims, unverified.

    Source: docs/protocols/amocrm.md, 1.3 and 2.
    """
    tree = _tree(request)
    account = branch(tree, "account")
    if not account and (token := text(tree, "token")):
        return _claims(token)
    return AmoAccount(id=_word(account, "id"), subdomain=_word(account, "subdomain"))


def read_events(request: CrmRequest) -> list[AmoEvent]:
    """Return everything that a body tells, entity by entity and action by action in its order.

    An account's body may hold several of each; a Salesbot's holds none. Moments that are no Unix seconds are
    None. Raises CallerError for a body that is neither a form nor a JSON object, and for a price of a lead
    that is no number.
    Source: docs/protocols/amocrm.md, 1.3 to 1.5.
    """
    tree = _tree(request)
    return [
        _event(f"{name}[{action}][{label}]", name, action, row)
        for name in tree
        if name not in _NO_ENTITY
        for action, of_action in rows(tree, name)
        for label, row in rows(of_action)
        if _says_something(row)
    ]


def _tree(request: CrmRequest) -> Tree:
    return read_tree(request.body, request.content_type, max_bytes=MAX_BYTES)


def _event(key: str, name: str, action: str, told: Tree) -> AmoEvent:
    row = (branch(told, "note") or told) if action == "note" else told
    entity = _ENTITIES.get(name, name)
    element = _ELEMENTS.get(_word(row, "element_type") or "")
    number = _word(row, "id") or _word(row, "uid") or _word(row, "talk_id")
    if action == "note":
        entity, number = element or entity, _word(row, "element_id")
    elif entity == "contact" and _word(row, "type") == "company":
        entity = "company"
    elif (entity, action) == ("unsorted", "delete"):
        action = _word(row, "action") or action
    is_lead, status_id = entity == "lead", _word(row, "status_id")
    return AmoEvent(
        key=key,
        entity=entity,
        action=action,
        id=number,
        name=_plain(text(row, "name")),
        status_id=status_id,
        old_status_id=_word(row, "old_status_id"),
        pipeline_id=_word(row, "pipeline_id"),
        old_pipeline_id=_word(row, "old_pipeline_id"),
        outcome=outcome_of(status_id) if is_lead and status_id else None,
        price=_price(key, row) if is_lead else None,
        created_at=_unix(row, "created_at", "date_create"),
        last_modified=_unix(row, "last_modified", "updated_at"),
        custom_fields=tuple(_field(field) for _, field in rows(row, "custom_fields")) or None,
        tags=tuple(filter(None, (_word(tag, "name") for _, tag in rows(row, "tags")))) or None,
        linked_lead_ids=_ids(row, "linked_leads_id") or None,
        lead_ids=_members(row, "lead", element) or None,
        contact_ids=_members(row, "contact", element) or None,
    )


def outcome_of(status_id: str) -> Outcome:
    """Return what a status means in every funnel. Source: docs/protocols/amocrm.md, 1.6."""
    if status_id == WON:
        return "won"
    return "lost" if status_id == LOST else "open"


def _price(key: str, row: Tree) -> Decimal | None:
    """Return the exact sum: `price` is cut to whole units, and empty when there is none."""
    for name in ("price_with_minor_units", "price"):
        if told := _word(row, name):
            try:
                return read_number(told)
            except CallerError:
                return read_amount(told, key=f"{key}[{name}]").value
    return None


def _field(field: Tree) -> AmoField:
    values = branch(field, "values")
    return AmoField(
        id=_word(field, "id"),
        name=_plain(text(field, "name")),
        code=_word(field, "code"),
        values=tuple(_value(value) for value in values.values()),
    )


def _value(value: "str | Tree") -> AmoValue:
    """Return one value; dates stand without the level `[value]`. Source: docs/protocols/amocrm.md, 1.4."""
    if isinstance(value, str):
        return AmoValue(value=_plain(value))
    return AmoValue(value=_plain(text(value, "value")), enum=_word(value, "enum"))


def _members(row: Tree, entity: str, element: str | None) -> tuple[str, ...]:
    """Return the leads or contacts that a request became, or that a note or a task hangs on."""
    told = (_word(row, f"{entity}_id"), _word(row, "element_id") if element == entity else None)
    of_box = (_ids(row, place, f"{entity}s") for place in ("accept_result", "decline_result", "data"))
    return tuple(dict.fromkeys([*filter(None, told), *chain.from_iterable(of_box)]))


def _ids(row: Tree, *path: str) -> tuple[str, ...]:
    """Return the ids in a list, each in a level of its own (`[ID]`, `[id]`) or not."""
    found = branch(row, *path)
    told = (_word(found, label) or _word(found, label, "ID") or _word(found, label, "id") for label in found)
    return tuple(dict.fromkeys(filter(None, told)))


def _notices(event: AmoEvent, received_at: datetime) -> Iterator[Notice]:
    if event.entity == "lead":
        if event.action == "delete":
            yield Notice(deal_id=_deal_id(event), kind="deleted")
        elif event.action in _CHANGES:
            yield Notice(deal_id=_deal_id(event), kind="changed", deal=_deal(event, received_at))
    elif event.entity == "contact" and event.action in _CHANGES:
        yield from _bare(event.linked_lead_ids or ())
    elif (event.entity, event.action) == ("unsorted", "accept"):
        yield from _bare(event.lead_ids or ())


def _bare(lead_ids: Iterable[str]) -> Iterator[Notice]:
    return (Notice(deal_id=number, kind="changed") for number in lead_ids if _ID.fullmatch(number))


def _deal_id(event: AmoEvent) -> str:
    if event.id is None:
        raise CallerError(f"{event.key}[id]", "is missing")
    if not _ID.fullmatch(event.id):
        raise CallerError(f"{event.key}[id]", "is not a number", shown=event.id)
    return event.id


def _deal(event: AmoEvent, received_at: datetime) -> Deal | None:
    """Return the deal as far as it is shown; without a status nothing is."""
    if event.status_id is None:
        return None
    outcome = event.outcome or "open"
    changed_at = _moment(event.last_modified) or received_at
    was_in = event.old_status_id if event.old_status_id not in (WON, LOST) else None
    fields = event.custom_fields or ()
    return Deal(
        crm="amocrm",
        deal_id=_deal_id(event),
        title=event.name or "",
        funnel=event.pipeline_id or "",
        stage=event.status_id,
        outcome=outcome,
        passed=tuple(dict.fromkeys(filter(None, (was_in, event.status_id)))),
        value=event.price,
        fields=_texts(fields),
        created_at=_moment(event.created_at),
        changed_at=changed_at,
        closed_at=None if outcome == "open" else changed_at,
        findings=tuple(find_in_fields(_named(fields), f"deal {event.id}")),
    )


def _texts(fields: Iterable[AmoField]) -> dict[str, str]:
    """Return the texts of fields by name, code and id, of growing weight; several values are joined."""
    texts = [(field, "; ".join(value.value for value in field.values if value.value)) for field in fields]
    by_name = {field.name: value for field, value in texts}
    by_code = {field.code: value for field, value in texts}
    by_id = {field.id: value for field, value in texts}
    return {name: value for name, value in {**by_name, **by_code, **by_id}.items() if name and value}


def _named(fields: Iterable[AmoField]) -> Iterator[tuple[str, str]]:
    """Yield each value under its field's code, which tells the purpose, and under its name."""
    for field in fields:
        for name in dict.fromkeys(filter(None, (field.code, field.name))):
            yield from ((name, value.value) for value in field.values if value.value)


def _says_something(tree: Tree) -> bool:
    """Tell a row from what an unclosed bracket leaves: an empty text under no name."""
    return any(value != "" for value in tree.values())


def _word(tree: Tree, *path: str) -> str | None:
    """Return a trimmed text that is not empty, else None."""
    return trimmed(_plain(text(tree, *path)) or "") or None


def _plain(told: str | None) -> str | None:
    """Return the text without NUL, which PostgreSQL cannot hold."""
    return None if told is None else told.replace("\0", "")


def _unix(row: Tree, *names: str) -> int | None:
    """Return the first of the moments; one that is no Unix second is not known: its arrival stands for it."""
    told = (_word(row, name) or "" for name in names)
    return next((int(seconds) for seconds in told if _UNIX.fullmatch(seconds)), None)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class _Claims(msgspec.Struct):
    account_id: int | str | None = None
    subdomain: str | None = None


def _claims(token: str) -> AmoAccount:
    """Return whom a token claims to be of; what is no token tells nothing."""
    body = token.partition(".")[2].partition(".")[0]
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Claims)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return AmoAccount()
    number = None if claims.account_id is None else str(claims.account_id)
    return AmoAccount(id=_plain(number) or None, subdomain=_plain(claims.subdomain) or None)
