"""Two ledgers of one shop are the same, or every deal is named on which they differ, and why."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.deal import Deal
from closedloop.domain.goals import DEFAULT_GOALS, Goal
from closedloop.domain.reconcile import (
    Comparison,
    Difference,
    OurConversion,
    compare,
    extra,
    money,
    period,
    reached,
    why_unmatched,
)
from closedloop.errors import CallerError

MOSCOW = ZoneInfo("Europe/Moscow")
WON = datetime(2026, 11, 10, 9, tzinfo=UTC)
START, END = period("2026-11-01", "2026-11-30", MOSCOW)
KEY = ("662", "payment_success")


def deal(**more: Any) -> Deal:  # noqa: ANN401 - any field
    """Return a deal that was won for 5000 roubles."""
    usual: dict[str, Any] = {
        "crm": "bitrix24",
        "deal_id": "662",
        "stage": "WON",
        "outcome": "won",
        "value": Decimal(5000),
        "currency": "RUB",
        "changed_at": WON + timedelta(days=60),
        "closed_at": WON,
    }
    return Deal(**{**usual, **more})


def ours(**more: Any) -> OurConversion:  # noqa: ANN401 - any field
    """Return our conversion of the same deal, with its session."""
    usual: dict[str, Any] = {
        "deal_id": "662",
        "goal": "payment_success",
        "value": Decimal(5000),
        "currency": "RUB",
        "occurred_at": WON,
        "is_matched": True,
        "session_id": "s-1",
        "ym_uid": None,
        "has_others": False,
    }
    return OurConversion(**{**usual, **more})


def differences(there: Deal, *here: OurConversion) -> list[Difference]:
    """Return how a deal differs from what we have."""
    found = reached(there, DEFAULT_GOALS, START, END)
    return compare(found, {(one.deal_id, one.goal): one for one in here}, "RUB")


def test_deal_that_is_here_and_matched_is_no_difference() -> None:
    """The usual case is silent."""
    assert differences(deal(), ours()) == []


def test_deal_that_nobody_told_is_missing_with_its_sum() -> None:
    """An ad platform never hears of this money."""
    (found,) = differences(deal())

    assert (found.kind, found.deal_id, found.goal) == ("missing", *KEY)
    assert (found.in_crm, found.here) == ("5000 RUB", None)
    assert "run closedloop sweep" in found.why


@pytest.mark.parametrize(
    ("there", "kinds"),
    [
        ({"value": Decimal(4500)}, ["value"]),
        ({"value": Decimal("5000.00")}, []),
        ({"value": Decimal("5e3")}, []),
        ({"currency": "USD"}, ["value"]),
        ({"currency": None}, []),
        ({"value": None}, []),
    ],
)
def test_sums_are_compared_as_money_and_not_as_text(there: dict[str, Any], kinds: list[str]) -> None:
    """5000.00 and 5000 are one sum; a sum that the CRM does not tell contradicts nothing."""
    assert [one.kind for one in differences(deal(**there), ours())] == kinds


def test_wrong_sum_is_told_before_the_missing_session() -> None:
    """One line for a deal: the one that makes the command fail."""
    (found,) = differences(deal(value=Decimal("4500.50")), ours(is_matched=False))

    assert (found.kind, found.in_crm, found.here) == ("value", "4500.50 RUB", "5000 RUB")


def test_goals_outside_of_the_period_are_left_out() -> None:
    """The deal was changed in it, which is why the CRM showed it."""
    before = deal(closed_at=START - timedelta(seconds=1))

    assert differences(before) == []
    assert [one.kind for one in differences(deal(closed_at=START))] == ["missing"]
    assert differences(deal(closed_at=END)) == []


def test_lost_and_open_deals_ask_for_nothing() -> None:
    """Only what was reached is money."""
    assert differences(deal(outcome="lost")) == []
    assert differences(deal(outcome="open", closed_at=None)) == []


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ({}, "no session s-1 is known"),
        ({"session_id": None, "ym_uid": "1741000000123456789"}, "the visitor 1741000000123456789"),
        ({"session_id": None, "has_others": True}, "click id, code, phone or e-mail"),
        ({"session_id": None}, "the deal carries nothing that leads to a visitor"),
    ],
)
def test_deal_without_a_session_says_why(known: dict[str, Any], sentence: str) -> None:
    """Each reason is mended at another place: the tracker, the counter, the form, the CRM's fields."""
    (found,) = differences(deal(), ours(is_matched=False, **known))

    assert found.kind == "no_session"
    assert found.why == why_unmatched(ours(**known))
    assert sentence in found.why


@pytest.mark.parametrize(
    ("there", "is_asked", "sentence"),
    [
        (None, True, "there is no such deal in the CRM"),
        (None, False, "the CRM shows no deal with this id"),
        (
            deal(outcome="open", stage="EXECUTING", closed_at=None),
            True,
            "the deal is open there, at EXECUTING",
        ),
        (
            deal(closed_at=END.astimezone(UTC)),
            True,
            "there it was reached outside of the period, 2026-12-01 00:00",
        ),
    ],
)
def test_conversion_that_no_deal_asks_for_says_why(there: Deal | None, is_asked: bool, sentence: str) -> None:  # noqa: FBT001 - a parameter of the test
    """Deleted, told with a wrong number, lost again, or won on another day."""
    found = extra(ours(), there, DEFAULT_GOALS, MOSCOW, is_asked=is_asked)

    assert found is not None
    assert (found.kind, found.in_crm, found.here) == ("extra", None, "5000 RUB")
    assert sentence in found.why


def test_moment_that_the_crm_does_not_tell_is_ours() -> None:
    """When a deal came to a stage amoCRM does not say: its last change, a month later, proves nothing."""
    goals = [Goal(on="status:41000003", goal="invoice")]
    there = deal(outcome="open", stage="41000003", passed=("41000003",), closed_at=None)

    assert extra(ours(goal="invoice"), there, goals, MOSCOW, is_asked=True) is None


@pytest.mark.parametrize(
    ("kind", "is_complete"), [("missing", False), ("extra", False), ("value", False), ("no_session", True)]
)
def test_deal_without_a_session_is_no_gap(kind: Any, is_complete: bool) -> None:  # noqa: ANN401, FBT001 - parameters of the test
    """It is counted on both sides: nothing was lost on the way."""
    one = Difference(kind=kind, deal_id="1", goal="g", in_crm=None, here=None, why="")

    assert Comparison(in_crm=1, here=1, differences=[one]).is_complete is is_complete


def test_period_is_whole_days_of_the_site() -> None:
    """A deal that is won on 30 November at 23:30 in Moscow is one of November, though it is 20:30 in UTC."""
    start, end = period("2026-11-01", "2026-11-30", MOSCOW)

    assert start == datetime(2026, 10, 31, 21, tzinfo=UTC)
    assert start <= datetime(2026, 11, 30, 23, 30, tzinfo=MOSCOW) < end
    assert end == datetime(2026, 12, 1, tzinfo=MOSCOW)


@given(
    st.dates(date(2000, 1, 1), date(8999, 12, 31)),
    st.integers(0, 400),
    st.sampled_from(["Europe/Moscow", "Europe/Berlin", "America/New_York", "Asia/Vladivostok", "UTC"]),
)
def test_any_period_has_as_many_days_as_it_says(first: date, days: int, zone: str) -> None:
    """In a zone that changes its clocks a day may have 23 hours or 25."""
    start, end = period(first.isoformat(), (first + timedelta(days=days)).isoformat(), ZoneInfo(zone))

    assert (start.date(), start.hour, end.hour) == (first, 0, 0)
    assert (end.date() - start.date()).days == days + 1


@pytest.mark.parametrize(
    ("first", "last", "key"),
    [
        ("30.11.2026", "2026-11-30", "from"),
        ("2026-13-01", "2026-11-30", "from"),
        ("2026-11-01", "2026-11-31", "to"),
        ("2026-11-01", "", "to"),
        ("2026-11-02", "2026-11-01", "to"),
        ("1999-12-31", "2026-11-01", "from"),
        ("2026-11-01", "9999-12-31", "to"),
        ("٢٠٢٦-11-01", "2026-11-30", "from"),
    ],
)
def test_wrong_day_is_refused_by_its_own_key(first: str, last: str, key: str) -> None:
    """Whoever types a period sees which of the two days was wrong, and how one is written."""
    with pytest.raises(CallerError) as caught:
        period(first, last, MOSCOW)

    assert caught.value.key == key
    assert caught.value.shown == (first if key == "from" else last)


def test_money_is_written_without_an_exponent() -> None:
    """It is compared by eye with what the CRM's card shows."""
    assert [money(Decimal(text), "RUB") for text in ("5e3", "0.5", "5000.00", "0.125")] == [
        "5000 RUB",
        "0.50 RUB",
        "5000 RUB",
        "0.125 RUB",
    ]
