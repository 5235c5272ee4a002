"""What one conversion is: what a sender told of it, and the key that makes it count once."""

import hashlib
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

DEFAULT_GOAL = "crm_conversion"


class ReportedConversion(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion as a sender reported it, read and checked but not yet matched.

    Every field but `goal` and `digest` is None when the request did not carry it, or carried nothing
    usable (empty, null, a placeholder that the CRM left unfilled).
    """

    session_id: str | None = None
    ym_uid: str | None = None  # decimal digits, never through a float
    ym_uid_interval: tuple[str, str] | None = None  # the ids that round to it, when it looks rounded
    goal: str = DEFAULT_GOAL
    value: Decimal | None = None
    currency: str | None = None  # ISO 4217
    deal_id: str | None = None
    event_id: str | None = None
    occurred_at: datetime | None = None  # with its offset
    phone: str | None = None  # E.164
    email: str | None = None  # lower case, trimmed
    click_ids: dict[str, str] = msgspec.field(default_factory=dict)  # {"yclid": "123", "gclid": "..."}
    site: str | None = None
    digest: bytes  # SHA-256 of the bytes that it was read from, the key of the site left out


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion on its way into the ledger: all that was told, with nothing left open."""

    conversion_id: UUID
    told: ReportedConversion
    value: Decimal
    currency: str
    occurred_at: datetime
    received_at: datetime
    webhook_id: UUID | None  # None: the CRM was asked
    identifiers: tuple["Identifier", ...] = ()


class Identifier(msgspec.Struct, frozen=True):
    """One more way to know a visitor: a click id as it is, a phone or an e-mail as its keyed hash."""

    kind: str  # yclid, gclid, …, phone, email
    value: str


class DedupKey(msgspec.Struct, frozen=True, kw_only=True):
    """Why two requests are one conversion: `rule` is deal, event or body; `key` is 16 bytes."""

    rule: str
    key: bytes


def dedup_key(told: ReportedConversion) -> DedupKey:
    """Return the key under which this conversion counts once.

    By certainty: one deal reaches one goal once; else the sender's own event id; else the bytes.
    """
    if told.deal_id is not None:
        return DedupKey(rule="deal", key=digest_of("deal", told.deal_id, told.goal))
    if told.event_id is not None:
        return DedupKey(rule="event", key=digest_of("event", told.event_id))
    return DedupKey(rule="body", key=digest_of("body", told.digest.hex()))


def digest_of(*parts: str) -> bytes:
    """Return 16 bytes that differ whenever any part does; each part is preceded by its length."""
    encoded = [part.encode() for part in parts]
    joined = b"".join([len(part).to_bytes(4, "big") + part for part in encoded])
    return hashlib.sha256(joined).digest()[:16]
