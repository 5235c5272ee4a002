"""Bitrix24's webhooks: what events and robots say of deals, and whether they are of the owner's portal.

An event says only that an object changed; a robot says what its owner typed into its address. Neither is
ever sent twice, so whatever can be read of one is read.
"""

import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.deal import Finding
from closedloop.errors import CallerError, UntrustedError
from closedloop.parse import fields as usable
from closedloop.parse.base import CrmRequest, Notice, Reading, Trust
from closedloop.parse.bodies import Value, query_fields, read_body
from closedloop.parse.brackets import Tree, branch, read_tree, rows, text, tree_of
from closedloop.parse.reported import (
    AMOUNTS,
    KEYS,
    Fallback,
    identifiers_of,
    read_reported,
    request_digest,
)

MAX_BYTES = 1024 * 1024
# `ts` is when the vendor's queue sent the event, and nothing is sent again: this is a clock that is wrong.
MAX_AGE_S = 3600

# The types of Bitrix24, and how its robots call an object of each.
DEAL = 2
SMART_INVOICE = 31
_TYPES = {"lead": 1, "deal": DEAL, "contact": 3, "company": 4, "invoice": 5, "quote": 7, "smart_invoice": 31}
_NAMES = {number: name for name, number in _TYPES.items()}
_FIRST_SMART_PROCESS = 128

_EVENT = re.compile(
    r"ONCRM(DEAL|LEAD|CONTACT|COMPANY|INVOICE|QUOTE|DYNAMICITEM)"
    r"(ADD|UPDATE|DELETE|MOVETOCATEGORY)(?:_([1-9][0-9]{0,8}))?"
)
_DOCUMENT = re.compile(
    r"DYNAMIC_([1-9][0-9]{0,8})_([1-9][0-9]{0,19})|([A-Z][A-Z0-9_]{0,40})_([1-9][0-9]{0,19})"
)
_ID = re.compile(r"[1-9][0-9]{0,19}")
_TYPE_ID = re.compile(r"[1-9][0-9]{0,8}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_READABLE = frozenset(KEYS)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One event, or one call of a robot, as it came: unfilled and empty values are None, nothing is judged.

    `object_id` is `662` of an event and `DEAL_662` of a robot; `type_id` is told by smart processes only.
    `properties` are those of an application's robot, in their order.
    """

    kind: Literal["event", "robot"]
    event: str | None = None  # upper case
    object_id: str | None = None
    type_id: str | None = None
    module: str | None = None  # of a robot's document: crm, lists…
    ts: int | None = None  # Unix seconds
    domain: str | None = None
    member_id: str | None = None
    application_token: str | None = None
    properties: Sequence[tuple[str, str]] = ()


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a message is about: `deal`, 2, `662`; all are None when it is about nothing of the CRM."""

    entity_type: str | None = None  # lead, deal, contact, company, invoice, quote, smart_invoice, dynamic, …
    type_id: int | None = None
    object_id: str | None = None

    @property
    def name(self) -> str | None:
        """How the hook calls it: `662` for a deal, `LEAD_365` and `DYNAMIC_1032_21` for others."""
        if self.entity_type is None or self.object_id is None:
            return None
        if self.type_id == DEAL:
            return self.object_id
        if self.entity_type == "dynamic":
            return None if self.type_id is None else f"DYNAMIC_{self.type_id}_{self.object_id}"
        return f"{self.entity_type.upper()}_{self.object_id}"

    @property
    def is_deal(self) -> bool:
        """Whether goals are counted on it: deals, new invoices and items of smart processes."""
        return self.type_id in {DEAL, SMART_INVOICE} or (self.type_id or 0) >= _FIRST_SMART_PROCESS


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a robot's address says in the hook's keys; `has_goal` when it names one itself."""

    told: ReportedConversion
    has_goal: bool


class Bitrix24Webhooks:
    """Reads the webhooks of one portal, whose robots write dates in the time of `zone`."""

    name = "bitrix24"
    max_bytes = MAX_BYTES

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def check(self, request: CrmRequest, trust: Trust) -> None:
        """Raise UntrustedError for a webhook that is forged, of a foreign portal, or stale, in this order.

        A token that is none of the configured ones is forged even beside the right key. Robots have no
        token: only the key opens for them. Source: docs/protocols/bitrix24.md, 2 and 3.
        """
        try:
            messages = read_messages(request)
        except CallerError as error:
            if trust.has_key:
                return
            raise UntrustedError("forged", "body", "is unreadable, and the site's key is missing") from error
        for message in messages:
            _check_secret(message, trust)
        for message in messages:
            _check_portal(message, trust)
            _check_age(message, request)

    def read(self, request: CrmRequest) -> Reading:
        """Return a notice for each deal, and the conversion that a robot reports.

        A robot that names a goal and a visitor reports a conversion, of a lead too; beside it, and without a
        goal, its identifiers are findings of the notice. Leads, contacts and companies give no notice.
        Raises CallerError with the key of the first bad field: an id, or a value of a robot with a goal.
        Source: docs/protocols/bitrix24.md, 2 and 3.
        """
        notices: list[Notice] = []
        conversions: list[ReportedConversion] = []
        for message in read_messages(request):
            subject = subject_of(message)
            findings: tuple[Finding, ...] = ()
            if message.kind == "robot":
                parameters = self.parameters_of(message, subject, request)
                identifiers = identifiers_of(parameters.told)
                if parameters.has_goal and identifiers:
                    conversions.append(parameters.told)
                findings = tuple(
                    Finding(kind=kind, value=value, place=f"robot, {kind}")
                    for kind, value in identifiers.items()
                )
            if subject.is_deal and subject.name is not None:
                kind: Literal["changed", "deleted"] = "deleted" if _is_deletion(message) else "changed"
                notices.append(Notice(deal_id=subject.name, kind=kind, findings=findings))
        return Reading(notices=tuple(notices), conversions=tuple(conversions))

    def parameters_of(self, message: Message, subject: Subject, request: CrmRequest) -> Parameters:
        """Return what a robot's properties and query say; of a key in both the property counts.

        With a goal it is read as strictly as the hook reads: the owner must see a mistake in what is to be
        counted. Without one only the visitor matters, and keys that cannot be read are passed over, as the
        deal is read back anyway. Raises CallerError.
        """
        values: list[tuple[str, Value]] = [*message.properties, *query_fields(request.query)]
        fields = usable.first_usable(((key, value) for key, value in values if key in _READABLE), AMOUNTS)
        deal_id = fields.get("deal_id")
        if isinstance(deal_id, str) and usable.trimmed(deal_id) in {subject.object_id, message.object_id}:
            del fields["deal_id"]  # `{{ID}}` of lead 365 is not the deal 365, and DEAL_662 is the deal 662
        otherwise = Fallback(deal_id=subject.name, zone=self.zone, now=request.received_at)
        digest = request_digest(request.body, request.query)
        while True:
            try:
                told = read_reported(fields, otherwise, digest)
            except CallerError as error:
                if "goal_name" in fields or error.key not in fields:
                    raise
                del fields[error.key]
            else:
                return Parameters(told=told, has_goal="goal_name" in fields)


def read_messages(request: CrmRequest) -> list[Message]:
    """Return what stands in a body, form or JSON: one message, or several of a list or under `events`.

    A value of `auth` that a message lacks is that of the body around it. Raises CallerError for a body that
    is neither an event nor a robot's call, TooLargeError above 256 KiB.
    Source: docs/protocols/bitrix24.md, 2 and 3.
    """
    told = read_body(request.body, request.content_type, max_bytes=MAX_BYTES)
    bodies = told.objects if told.is_array else [request.body]
    messages: list[Message] = []
    for body in bodies:
        tree = _unfolded(read_tree(body, request.content_type, max_bytes=MAX_BYTES))
        messages += [_message(part, tree) for part in _parts(tree)]
    return messages


def subject_of(message: Message) -> Subject:
    """Return what a message is about. Raises CallerError for an id or a type that is no number.

    Source: docs/protocols/bitrix24.md, 2 and 3.
    """
    return _document(message) if message.kind == "robot" else _changed(message)


def _changed(message: Message) -> Subject:
    found = _EVENT.fullmatch(message.event or "")
    object_id = _number(message.object_id, _ID, "data[FIELDS][ID]") if found else message.object_id
    if found is None or object_id is None:
        return Subject(object_id=object_id)
    type_id = _TYPES.get(found[1].lower())
    if type_id is None:
        told = _number(message.type_id, _TYPE_ID, "data[FIELDS][ENTITY_TYPE_ID]") or found[3]
        type_id = None if told is None else int(told)
    return _subject(type_id, object_id)


def _document(message: Message) -> Subject:
    if message.object_id is None or message.module not in {None, "crm"}:
        return Subject()
    found = _DOCUMENT.fullmatch(message.object_id)
    if found is None:
        raise CallerError("document_id[2]", "names no object of the CRM", shown=message.object_id)
    if found[1]:
        return _subject(int(found[1]), found[2])
    name = found[3].lower()
    return Subject(entity_type=name, type_id=_TYPES.get(name), object_id=found[4])


def _subject(type_id: int | None, object_id: str) -> Subject:
    name = _NAMES.get(type_id or 0, "dynamic")
    return Subject(entity_type=name, type_id=type_id, object_id=object_id)


def _number(told: str | None, shape: re.Pattern[str], key: str) -> str | None:
    if told is not None and not shape.fullmatch(told):
        raise CallerError(key, "is not a number of an object", shown=told)
    return told


def _is_deletion(message: Message) -> bool:
    found = _EVENT.fullmatch(message.event or "")
    return found is not None and found[2] == "DELETE"


def _check_secret(message: Message, trust: Trust) -> None:
    token = message.application_token
    fits = [hmac.compare_digest(known.encode(), (token or "").encode()) for known in trust.tokens if known]
    if token is not None and any(fits):
        return
    if token is not None and fits:
        raise UntrustedError("forged", "auth[application_token]", "is none of the configured ones")
    if trust.has_key:
        return
    if token is not None:
        problem = "cannot be compared: configure application_token, or put the site's key into the address"
        raise UntrustedError("forged", "auth[application_token]", problem)
    problem = "is missing in the address, and without application_token nothing else proves who sent this"
    raise UntrustedError("forged", "key", problem)


def _check_portal(message: Message, trust: Trust) -> None:
    member = message.member_id
    if trust.accounts and member is not None and member.lower() not in map(str.lower, trust.accounts):
        raise UntrustedError("foreign", "auth[member_id]", "is that of another portal", shown=member)


def _check_age(message: Message, request: CrmRequest) -> None:
    if message.ts is not None and abs(request.received_at.timestamp() - message.ts) > MAX_AGE_S:
        problem = "is over an hour from now, and Bitrix24 sends nothing again: a replay, or a wrong clock"
        raise UntrustedError("stale", "ts", problem, shown=str(message.ts))


def _parts(tree: Tree) -> Sequence[Tree]:
    if _is_message(tree):
        return [tree]
    parts = [row for _, row in rows(tree, "events") or rows(tree) if _is_message(row)]
    if not parts:
        raise CallerError("body", "is neither an event nor a robot's call of Bitrix24")
    return parts


def _is_message(part: Tree) -> bool:
    return "document_id" in part or _said(part, "event") is not None


def _message(part: Tree, around: Tree) -> Message:
    seconds = _said(part, "ts") or _said(around, "ts") or ""
    event = _said(part, "event")
    is_robot = "document_id" in part and event is None
    auth = branch(around, "auth") | branch(part, "auth")
    return Message(
        kind="robot" if is_robot else "event",
        event=event.upper() if event else None,
        object_id=_document_id(part) if is_robot else _said(part, "data", "FIELDS", "ID"),
        type_id=None if is_robot else _said(part, "data", "FIELDS", "ENTITY_TYPE_ID"),
        module=_said(part, "document_id", "0"),
        ts=int(seconds) if _SECONDS.fullmatch(seconds) else None,
        domain=_said(auth, "domain"),
        member_id=_said(auth, "member_id"),
        application_token=_said(auth, "application_token"),
        properties=tuple(_leaves(branch(part, "properties"))),
    )


def _document_id(part: Tree) -> str | None:
    """Return the id of a document given as a list, as a map, or as its last part alone."""
    return _said(part, "document_id", "2") or _said(part, "document_id")


def _said(tree: Tree, *path: str) -> str | None:
    """Return the trimmed text at a path, None when it stands for nothing (`undefined`)."""
    told = usable.trimmed(text(tree, *path) or "")
    return None if usable.is_nothing(told) else told


def _leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts below each name: a property of several values is the same name several times."""
    for label, inner in tree.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, name or label)
        else:
            yield name or label, inner


def _unfolded(tree: Tree) -> Tree:
    """Return JSON whose names still have their brackets (`"document_id[2]"`) as the tree that they mean."""
    if not any("[" in name for name in tree):
        return tree
    return tree_of(_folded(tree))


def _folded(tree: Tree, place: str = "") -> Iterator[tuple[str, str]]:
    for label, inner in tree.items():
        name = f"{place}[{label}]" if place else label
        if isinstance(inner, dict):
            yield from _folded(inner, name)
        else:
            yield name, inner
