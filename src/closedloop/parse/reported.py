"""The hook's own keys to one reported conversion, wherever they stand; knows no sender and no request."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from closedloop.domain.conversion import DEFAULT_GOAL, ReportedConversion
from closedloop.domain.ids import CLICK_IDS, MAX_CLICK_ID, MESSENGER_CODE, find_code
from closedloop.parse import fields as read

KEYS = (
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
)
AMOUNTS = frozenset({"goal_value"})


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """What counts when the keys themselves do not say it, and what reads the dates among them."""

    deal_id: str | None = None
    event_id: str | None = None
    zone: ZoneInfo
    now: datetime


def read_reported(fields: read.Fields, otherwise: Fallback, digest: bytes) -> ReportedConversion:
    """Return what the usable fields of one conversion say (`{"session_id": "…", "goal_value": "5 000,00"}`).

    Keys that are not there are None, the goal the default one. Nothing is demanded: `identifiers_of` tells
    what it can be matched by. Raises CallerError with the key of the first bad field.
    Source: docs/contract.md, 2; docs/protocols/integrators.md, 2.
    """
    ym_uid = read.ym_uid(fields, "ym_uid")
    amount = read.amount(fields, "goal_value")
    return ReportedConversion(
        session_id=read.text(fields, "session_id"),
        ym_uid=ym_uid.digits if ym_uid else None,
        ym_uid_interval=ym_uid.interval if ym_uid else None,
        goal=read.text(fields, "goal_name") or DEFAULT_GOAL,
        value=amount.value if amount else None,
        currency=read.currency(fields, "currency") or (amount.currency if amount else None),
        deal_id=read.text(fields, "deal_id") or otherwise.deal_id,
        event_id=read.text(fields, "event_id") or otherwise.event_id,
        occurred_at=read.moment(fields, "occurred_at", zone=otherwise.zone, now=otherwise.now),
        phone=read.phone(fields, "phone"),
        email=read.email(fields, "email"),
        click_ids=_click_ids(fields),
        site=read.text(fields, "site"),
        digest=digest,
    )


def identifiers_of(told: ReportedConversion) -> Mapping[str, str]:
    """Return what leads to the visitor by its key, most certain first; empty when nothing does."""
    known = {"session_id": told.session_id, "ym_uid": told.ym_uid, **told.click_ids}
    contacts = {"phone": told.phone, "email": told.email}
    return {key: value for key, value in (known | contacts).items() if value}


def request_digest(source: bytes, query: bytes, ordinal: int = 0) -> bytes:
    """Return what recognises a repetition; equal items of one array differ by their ordinal."""
    return hashlib.sha256(b"%d %d %b%b" % (ordinal, len(query), query, source)).digest()


def _click_ids(fields: read.Fields) -> dict[str, str]:
    told = ((key, read.text(fields, key, limit=MAX_CLICK_ID)) for key in CLICK_IDS if key in fields)
    found = {key: value for key, value in told if value is not None}
    code = find_code(read.text(fields, MESSENGER_CODE, limit=MAX_CLICK_ID) or "")
    return found if code is None else {**found, MESSENGER_CODE: code}
