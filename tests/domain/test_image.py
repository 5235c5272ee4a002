"""A goal in a session's document has the keys, the money and the time that the contract fixes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.image import browser_time, goal_image

NUMBER = UUID(int=1)
MOMENT = datetime(2026, 11, 23, 10, tzinfo=UTC)
MONEY = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**15), max_value=10**15)
ZONES = st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=ZONES)  # noqa: DTZ001 - zones follow


def shown(value: str = "5000", *, deal_id: str | None = "662", goal: str = "paid") -> str:
    """Return the goal of one conversion as JSON text."""
    image = goal_image(NUMBER, goal, MOMENT, (Decimal(value), "RUB"), deal_id)
    return msgspec.json.encode(image).decode()


def test_goal_has_the_keys_of_the_contract_first() -> None:
    """Dashboards of the predecessor read the first four; ours stand behind them."""
    assert shown() == (
        '{"goal":"paid","timestamp":"2026-11-23T10:00:00.000Z","value":5000,"source":"crm_offline",'
        '"currency":"RUB","conversion_id":"00000000-0000-0000-0000-000000000001","deal_id":"662"}'
    )


def test_goal_without_a_deal_has_no_deal_id() -> None:
    """A null would look like a deal that somebody forgot."""
    assert list(json.loads(shown(deal_id=None))) == [
        *("goal", "timestamp", "value", "source", "currency", "conversion_id")
    ]


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        ("1000.50", "1000.50"),
        ("0.30", "0.30"),
        ("5000.00", "5000"),
        ("-0.00", "0"),
        ("-12.5", "-12.5"),
        ("999999999999999.999999", "999999999999999.999999"),
        ("1E+3", "1000"),
        ("0E-6", "0"),
        ("1E-6", "0.000001"),
    ],
)
def test_value_is_a_json_number_of_exact_digits(value: str, digits: str) -> None:
    """A kopeck that a float loses is a sum that no accountant finds again."""
    assert f'"value":{digits},' in shown(value)


@given(MONEY)
def test_any_value_comes_back_exactly(value: Decimal) -> None:
    """Whoever reads the number with all its digits has the sum of the ledger."""
    assert json.loads(shown(str(value)), parse_float=Decimal, parse_int=Decimal)["value"] == value


@given(st.text(), st.text())
def test_any_text_is_one_json_text(goal: str, deal_id: str) -> None:
    """Names of goals come from people's CRMs: quotes, line ends and emojis."""
    read = json.loads(shown(goal=goal, deal_id=deal_id))

    assert (read["goal"], read["deal_id"]) == (goal, deal_id)


@given(MOMENTS)
def test_time_is_written_as_a_browser_does(moment: datetime) -> None:
    """Goals seen in the browser stand in the same list and are sorted by this text."""
    text = browser_time(moment)

    assert len(text) == len("2026-11-23T10:00:00.000Z")
    assert timedelta(0) <= moment - datetime.fromisoformat(text) < timedelta(milliseconds=1)


@given(MOMENTS, MOMENTS)
def test_later_moment_is_the_later_text(one: datetime, other: datetime) -> None:
    """Text is what the list is sorted by, whatever zone the CRM is in."""
    apart = abs(one - other) >= timedelta(milliseconds=1)

    assert not apart or (browser_time(one) < browser_time(other)) == (one < other)
