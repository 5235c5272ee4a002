"""What waits in the spool is, when it comes out, to the digit what went in."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.conversion import Conversion, Identifier, ReportedConversion
from closedloop.stages.unit import Unit
from closedloop.store.inbox import KeptWebhook

TEXTS = st.none() | st.text(min_size=1, max_size=20)
MONEY = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**15), max_value=10**15)
ZONES = st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=ZONES)  # noqa: DTZ001 - zones follow


@st.composite
def conversions(draw: st.DrawFn) -> Conversion:
    """Return any conversion as `Intake.complete` makes them."""
    told = ReportedConversion(
        session_id=draw(TEXTS),
        ym_uid=draw(st.none() | st.integers(0, 10**20 - 1).map(str)),
        ym_uid_interval=draw(st.none() | st.just(("1", "2"))),
        goal=draw(st.text(min_size=1)),
        deal_id=draw(TEXTS),
        event_id=draw(TEXTS),
        click_ids=draw(st.dictionaries(st.sampled_from(["yclid", "gclid"]), st.text(min_size=1))),
        digest=draw(st.binary(min_size=32, max_size=32)),
    )
    return Conversion(
        conversion_id=draw(st.uuids()),
        told=told,
        value=draw(MONEY),
        currency="RUB",
        occurred_at=draw(MOMENTS),
        received_at=draw(MOMENTS),
        webhook_id=draw(st.uuids()),
        identifiers=tuple(draw(st.lists(st.builds(Identifier, st.just("phone"), st.text(min_size=1))))),
    )


def unit_of(*told: Conversion, body: bytes = b"sealed") -> Unit:
    """Return a unit with these conversions."""
    webhook = KeptWebhook(
        webhook_id=uuid4(),
        source="hook",
        received_at=datetime(2026, 11, 24, tzinfo=UTC),
        method="POST",
        query=b"sealed",
        content_type="application/json",
        user_agent="Make/production",
        body=body,
    )
    return Unit(site="default", webhook=webhook, conversions=list(told))


@given(st.lists(conversions(), max_size=3), st.binary())
def test_spooled_unit_comes_back_as_it_was(told: list[Conversion], body: bytes) -> None:
    """An outage of the database must not cost a kopeck, a digit of an id or a second."""
    unit = unit_of(*told, body=body)

    assert Unit.from_bytes(unit.to_bytes()) == unit


def test_spooled_money_stays_an_exact_decimal() -> None:
    """0.1 through a float would be 0.1000000000000000055."""
    [told] = Unit.from_bytes(unit_of(conversion(value=Decimal("0.10"))).to_bytes()).conversions

    assert str(told.value) == "0.10"


def test_spooled_moment_is_the_same_instant() -> None:
    """What counts as told last goes by the instant, in whatever zone it was told."""
    east = datetime(2026, 11, 24, 13, tzinfo=timezone(timedelta(hours=3)))
    [told] = Unit.from_bytes(unit_of(conversion(received_at=east)).to_bytes()).conversions

    assert told.received_at == datetime(2026, 11, 24, 10, tzinfo=UTC)


def conversion(**own: object) -> Conversion:
    """Return a plain conversion with some fields of its own."""
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    plain = Conversion(
        conversion_id=UUID(int=1),
        told=ReportedConversion(session_id="s", digest=b"x" * 32),
        value=Decimal(1),
        currency="RUB",
        occurred_at=moment,
        received_at=moment,
        webhook_id=UUID(int=2),
    )
    return msgspec.structs.replace(plain, **own)


@pytest.mark.parametrize("kept", [b"", b"\xff", b"{}"])
def test_bytes_that_are_no_unit_are_an_error(kept: bytes) -> None:
    """A damaged spool must be noticed, not become an empty sale."""
    with pytest.raises(msgspec.MsgspecError):
        Unit.from_bytes(kept)
