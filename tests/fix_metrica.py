"""Sales whose visitor Metrica knows, and batches of them."""

import json
from decimal import Decimal
from typing import Any

import fix_destinations
from closedloop.deliver.base import Batch
from closedloop.domain.delivery import Sale, Told
from closedloop.domain.exchange import HttpReply

BATCH_ID = fix_destinations.batch().batch_id
YM_UID = "1741000000123456789"
YCLID = "17410000001234567890"


def sale(**more: Any) -> Sale:  # noqa: ANN401 - any field
    """Return the sale of a paid deal of 5000 roubles that nobody's session was found for."""
    usual: dict[str, Any] = {"value": Decimal(5000), "ids": {"ym_uid": YM_UID}, "visited_at": None}
    return fix_destinations.sale(**{**usual, **more})


def told(**more: Any) -> Told:  # noqa: ANN401 - any field
    """Return what a destination took of that sale."""
    return fix_destinations.told(**{"value": Decimal(5000), **more})


def batch(*sales: Sale) -> Batch:
    """Return these sales as they are sent, that sale when there are none."""
    return fix_destinations.batch(*(sales or (sale(),)))


def reply(status: int = 200, **told: object) -> HttpReply:
    """Return an answer."""
    return HttpReply(status=status, body=json.dumps(told).encode())
