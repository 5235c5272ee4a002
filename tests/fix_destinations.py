"""Sales for destinations, and a client that sends what they encode, byte for byte."""

import http.client
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from closedloop.deliver.base import Batch
from closedloop.deliver.fields import fields_of
from closedloop.deliver.registry import DESTINATIONS, settings_of
from closedloop.domain.delivery import Sale, Told
from closedloop.domain.exchange import HttpReply, HttpRequest
from closedloop.domain.ids import CLICK_IDS

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
PHONE = "+79001234567"
EMAIL = "anna@shop.example"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the vector of the specification

_USUAL: dict[str, Any] = {
    "delivery_id": UUID(int=1),
    "conversion_id": UUID(int=2),
    "site": "default",
    "goal": "payment_success",
    "deal_id": "662",
    "revision": 1,
    "value": Decimal("12000.50"),
    "currency": "RUB",
    "occurred_at": NOW,
    "visited_at": NOW - timedelta(days=3),
}


def sale(**more: Any) -> Sale:  # noqa: ANN401 - any field
    """Return the sale of a deal."""
    return Sale(**{**_USUAL, **more})


def told(**more: Any) -> Told:  # noqa: ANN401 - any field
    """Return what a destination took of that sale."""
    usual: dict[str, Any] = {
        "value": _USUAL["value"],
        "currency": "RUB",
        "is_cancelled": False,
        "revision": 1,
    }
    return Told(**{**usual, **more})


def batch(*sales: Sale) -> Batch:
    """Return sales as they are sent."""
    return Batch(batch_id="0123456789abcdef" * 2, sales=sales or (sale(),))


def send(request: HttpRequest) -> HttpReply:
    """Send a request as it is, nothing escaped anew; an answer that does not come has status 0."""
    place = urlsplit(request.url)
    connection = http.client.HTTPConnection(place.netloc, timeout=10)
    target = request.url.partition(place.netloc)[2] or "/"
    try:
        connection.request(request.method, target, request.body or None, dict(request.headers))
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return HttpReply(status=answer.status, headers=headers, body=answer.read())
    except (OSError, http.client.HTTPException):
        return HttpReply(status=0)
    finally:
        connection.close()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
IDS = ("session_id", "user_id", "ym_uid", "fbp", "fbc", "ga_uid", "ga_session", *CLICK_IDS)
AMOUNTS = st.decimals(0, 10**15 - 1, places=6).map(lambda value: value.normalize()) | st.integers(
    0, 10**15 - 1
).map(Decimal)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TOLD = st.builds(
    Told,
    value=AMOUNTS,
    currency=st.sampled_from(["RUB", "USD"]),
    is_cancelled=st.booleans(),
    revision=st.just(1),
)
SALES = st.builds(
    Sale,
    delivery_id=st.uuids(),
    conversion_id=st.uuids(),
    site=st.just("default"),
    goal=TEXTS.filter(bool),
    deal_id=st.none() | TEXTS.filter(bool),
    revision=st.integers(1, 1000),
    value=AMOUNTS,
    currency=st.sampled_from(["RUB", "USD", "JPY"]),
    is_cancelled=st.booleans(),
    occurred_at=MOMENTS,
    deal_created_at=st.none() | MOMENTS,
    visited_at=st.none() | MOMENTS,
    match=st.sampled_from([None, "session_id", "phone"]),
    ids=st.dictionaries(st.sampled_from(IDS), TEXTS.filter(bool)),
    phones=st.lists(st.just(PHONE), max_size=1),
    emails=st.lists(st.just(EMAIL), max_size=1),
    told=st.none() | TOLD,
    attempt=st.integers(0, 3),
)

# What each destination says of itself: each setting's first example, by destination and key.
EXAMPLES: Mapping[str, Mapping[str, object]] = {
    name: {field.name: field.examples[0] for field in fields_of(one.settings) if field.examples}
    for name, one in DESTINATIONS.items()
}


def fullest(name: str) -> msgspec.Struct:
    """Return settings of a destination in which everything is set."""
    return settings_of(name, EXAMPLES[name])


def smallest(name: str) -> msgspec.Struct:
    """Return settings of a destination that has what it needs and no more."""
    required = {field.name for field in fields_of(DESTINATIONS[name].settings) if field.is_required}
    return settings_of(name, {key: value for key, value in EXAMPLES[name].items() if key in required})
