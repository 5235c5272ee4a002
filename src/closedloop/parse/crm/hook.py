"""The webhook of the contract: a request's bytes to the conversions that it reports."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from closedloop.domain.conversion import DEFAULT_GOAL, ReportedConversion
from closedloop.domain.ids import CLICK_IDS, MAX_CLICK_ID, MESSENGER_CODE, find_code
from closedloop.errors import CallerError, MissingIdError
from closedloop.parse import fields as read
from closedloop.parse.bodies import (
    Field,
    JsonNumber,
    JsonOther,
    ObjectReader,
    query_fields,
    read_body,
    without_parameter,
)

_DOCUMENT = "document_id"  # what a robot of Bitrix24 ran on
_FLAT_DOCUMENT = "document_id[2]"  # the same, where brackets were not made a list
_KEYS = (
    "session_id",
    "ym_uid",
    "goal_name",
    "goal_value",
    "currency",
    "deal_id",
    "event_id",
    "occurred_at",
    "phone",
    "email",
    "site",
    *CLICK_IDS,
    MESSENGER_CODE,
    _DOCUMENT,
    _FLAT_DOCUMENT,
)
_AMOUNTS = frozenset({"goal_value"})
_READABLE = frozenset(_KEYS)
_read_object = ObjectReader(_KEYS)
_BITRIX_ID = re.compile(r"\b(?:DEAL_([0-9]{1,20})|[A-Z][A-Z_]{1,40}(?:_[0-9]{1,20}){1,2})\b", re.ASCII)


class HookRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of one request: `query` is the raw query string, without the question mark."""

    query: bytes = b""
    content_type: str = ""
    body: bytes = b""
    idempotency_key: str | None = None  # the header


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The conversions of one request in its order; `is_array` says in which shape to answer."""

    conversions: list[ReportedConversion]
    is_array: bool


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What all conversions of one request share; `event_id` is of the header."""

    query: bytes
    query_fields: list[Field]
    event_id: str | None
    zone: ZoneInfo
    now: datetime


def read_conversions(request: HookRequest, *, zone: ZoneInfo, now: datetime) -> Reading:
    """Return what a request to the hook reports, from JSON, form and query alike.

    A value in the body wins over the same key in the query, unless it says nothing. In an array the query
    fills in what an item lacks; an event id of the header or of the query becomes `<id>#<index>` then, as
    else all items would be one event. Raises CallerError, with the item's `index` when the body was an
    array; MissingIdError when nothing names the visitor; TooLargeError.
    Source: docs/contract.md, 2; docs/protocols/integrators.md, 2; docs/protocols/bitrix24.md, 3.
    """
    body = read_body(request.body, request.content_type)
    query = query_fields(request.query)
    frame = Frame(
        query=without_parameter(request.query, b"key"),
        query_fields=_wanted(query) if query else query,
        event_id=_header(request.idempotency_key),
        zone=zone,
        now=now,
    )
    if body.is_array:
        return Reading(conversions=_read_array(body.objects, frame), is_array=True)
    if body.objects:
        document = body.objects[0]
        fields, source = _read_object(document), document.strip()
    else:
        fields, source = _wanted(body.fields), request.body
    return Reading(conversions=[_read_one(fields, frame, _digest(source, frame.query, 0))], is_array=False)


def _read_array(documents: list[bytes], frame: Frame) -> list[ReportedConversion]:
    shared = read.first_usable(frame.query_fields, _AMOUNTS)
    event_id = read.text(shared, "event_id") or frame.event_id
    frame = msgspec.structs.replace(
        frame, query_fields=[(key, value) for key, value in shared.items() if key != "event_id"]
    )
    seen: Counter[bytes] = Counter()
    conversions: list[ReportedConversion] = []
    for index, document in enumerate(documents):
        own = msgspec.structs.replace(frame, event_id=f"{event_id}#{index}") if event_id else frame
        conversions.append(_read_item(document, own, seen[document], index))
        seen[document] += 1
    return conversions


def _read_item(document: bytes, frame: Frame, ordinal: int, index: int) -> ReportedConversion:
    try:
        return _read_one(_read_object(document), frame, _digest(document, frame.query, ordinal))
    except CallerError as error:
        error.index = index
        error.args = (f"item {index}: {error}",)
        raise


def _read_one(pairs: list[Field], frame: Frame, digest: bytes) -> ReportedConversion:
    fields = read.first_usable([*pairs, *frame.query_fields] if frame.query_fields else pairs, _AMOUNTS)
    ym_uid = read.ym_uid(fields, "ym_uid")
    amount = read.amount(fields, "goal_value")
    told = ReportedConversion(
        session_id=read.text(fields, "session_id"),
        ym_uid=ym_uid.digits if ym_uid else None,
        ym_uid_interval=ym_uid.interval if ym_uid else None,
        goal=read.text(fields, "goal_name") or DEFAULT_GOAL,
        value=amount.value if amount else None,
        currency=read.currency(fields, "currency") or (amount.currency if amount else None),
        deal_id=read.text(fields, "deal_id") or _bitrix_deal(fields),
        event_id=read.text(fields, "event_id") or frame.event_id,
        occurred_at=read.moment(fields, "occurred_at", zone=frame.zone, now=frame.now),
        phone=read.phone(fields, "phone"),
        email=read.email(fields, "email"),
        click_ids=_click_ids(fields),
        site=read.text(fields, "site"),
        digest=digest,
    )
    if not (told.session_id or told.ym_uid or told.phone or told.email or told.click_ids):
        raise _nobody(fields)
    return told


def _nobody(fields: read.Fields) -> CallerError:
    if "phone" in fields:
        return CallerError("phone", "is not a phone number")
    if "email" in fields:
        return CallerError("email", "is not an e-mail address")
    return MissingIdError()


def _click_ids(fields: read.Fields) -> dict[str, str]:
    told = ((key, read.text(fields, key, limit=MAX_CLICK_ID)) for key in CLICK_IDS if key in fields)
    found = {key: value for key, value in told if value is not None}
    code = find_code(read.text(fields, MESSENGER_CODE, limit=MAX_CLICK_ID) or "")
    return found if code is None else {**found, MESSENGER_CODE: code}


def _wanted(pairs: Iterable[Field]) -> list[Field]:
    """Return the readable fields; of `document_id[0]` to `[2]` the one with the id, and what is broken."""
    named = ((_DOCUMENT if key.startswith(_DOCUMENT) else key, value) for key, value in pairs)
    return [
        (key, value)
        for key, value in named
        if key in _READABLE and (key != _DOCUMENT or "\0" in str(value) or _BITRIX_ID.search(str(value)))
    ]


def _bitrix_deal(fields: read.Fields) -> str | None:
    """Return `662` for `DEAL_662`; what is no deal keeps its prefix, as lead 662 is not the deal 662."""
    document = fields.get(_DOCUMENT) or fields.get(_FLAT_DOCUMENT)
    if document is None or isinstance(document, JsonNumber):
        return None
    found = _BITRIX_ID.search(document.raw.decode() if isinstance(document, JsonOther) else document)
    return (found[1] or found[0]) if found else None


def _header(idempotency_key: str | None) -> str | None:
    if idempotency_key is None:
        return None
    try:
        idempotency_key.encode()
    except UnicodeEncodeError as error:
        raise CallerError("Idempotency-Key", "is not valid Unicode text") from error
    fields = read.first_usable([("Idempotency-Key", idempotency_key)], _AMOUNTS)
    return read.text(fields, "Idempotency-Key")


def _digest(source: bytes, query: bytes, ordinal: int) -> bytes:
    """Return what recognises a repetition; equal items of one array differ by their ordinal."""
    return hashlib.sha256(b"%d %d %b%b" % (ordinal, len(query), query, source)).digest()
