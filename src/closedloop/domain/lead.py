"""A form that was sent: who it was and from which session, so that a later deal is found by its contacts."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from closedloop.domain.conversion import Identifier, digest_of


class Lead(msgspec.Struct, frozen=True, kw_only=True):
    """One lead on its way into the store: contacts hashed among the identifiers, and sealed to be shown."""

    lead_id: UUID
    source: str  # tilda
    dedup_key: bytes
    transaction_id: str | None
    form_id: str | None
    form_name: str | None
    session_id: str | None
    ym_uid: str | None
    yclid: str | None
    identifiers: tuple[Identifier, ...]
    contacts: bytes
    order_id: str | None
    order_amount: Decimal | None
    order_paid: bool | None
    received_at: datetime
    webhook_id: UUID


def lead_key(source: str, transaction_id: str | None, digest: bytes) -> bytes:
    """Return the key under which a lead is kept once: the sender's own number of it, else its bytes."""
    if transaction_id is not None:
        return digest_of("lead", source, transaction_id)
    return digest_of("lead-bytes", source, digest.hex())
