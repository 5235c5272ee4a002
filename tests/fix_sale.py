"""Sales as the engine hands them to a destination, and batches of them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from closedloop.deliver.base import Batch
from closedloop.domain.delivery import Sale, Told

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
BATCH_ID = "0199a3c4d5e67f8091a2b3c4d5e6f708"
YM_UID = "1741000000123456789"
YCLID = "17410000001234567890"


def sale(**more: Any) -> Sale:  # noqa: ANN401 - any field
    """Return the sale of a paid deal whose visitor is known to Metrica."""
    usual: dict[str, Any] = {
        "delivery_id": UUID(int=1),
        "conversion_id": UUID(int=2),
        "site": "default",
        "goal": "payment_success",
        "deal_id": "662",
        "revision": 1,
        "value": Decimal(5000),
        "currency": "RUB",
        "occurred_at": NOW,
        "ids": {"ym_uid": YM_UID},
    }
    return Sale(**{**usual, **more})


def told(**more: Any) -> Told:  # noqa: ANN401 - any field
    """Return what a destination has taken of that sale."""
    usual: dict[str, Any] = {
        "value": Decimal(5000),
        "currency": "RUB",
        "is_cancelled": False,
        "revision": 1,
    }
    return Told(**{**usual, **more})


def batch(*sales: Sale, batch_id: str = BATCH_ID) -> Batch:
    """Return a batch of these sales, of one sale when none is given."""
    return Batch(batch_id=batch_id, sales=sales or (sale(),))
