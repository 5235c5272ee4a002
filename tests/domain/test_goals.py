"""The same deal asks for the same conversions, however often and in whatever order it is told."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.deal import Deal, Step
from closedloop.domain.goals import DEFAULT_GOALS, Demand, Goal, demands

CREATED = datetime(2026, 11, 1, 10, tzinfo=UTC)
WON = CREATED + timedelta(days=9)


def deal(**more: Any) -> Deal:  # noqa: ANN401 - any field
    """Return a deal that was won for 5000 in funnel 5, having passed two stages."""
    usual: dict[str, Any] = {
        "crm": "bitrix24",
        "deal_id": "662",
        "funnel": "5",
        "stage": "C5:WON",
        "outcome": "won",
        "passed": ("C5:NEW", "C5:PAID", "C5:WON"),
        "is_qualified": True,
        "value": Decimal(5000),
        "currency": "RUB",
        "created_at": CREATED,
        "changed_at": WON + timedelta(hours=1),
        "closed_at": WON,
    }
    return Deal(**{**usual, **more})


def demand(one: Deal, **rule: str) -> Demand:
    """Return what one rule asks for."""
    (found,) = demands(one, [Goal(**{"goal": "g", **rule})])
    return found


def test_won_deal_is_a_payment_without_any_configuration() -> None:
    """The shop that reads no manual."""
    assert demands(deal(), DEFAULT_GOALS) == [
        Demand(goal="payment_success", state="reached", value=Decimal(5000), currency="RUB", occurred_at=WON)
    ]


@pytest.mark.parametrize(
    ("on", "outcome", "state"),
    [
        ("created", "open", "reached"),
        ("won", "won", "reached"),
        ("won", "open", "gone"),
        ("won", "lost", "gone"),
        ("lost", "lost", "reached"),
        ("lost", "won", "gone"),
        ("qualified", "lost", "reached"),
        ("stage:C5:PAID", "open", "reached"),
        ("status:C5:NEW", "lost", "reached"),
    ],
)
def test_moment_is_reached_by_the_present_state_of_the_deal(on: str, outcome: str, state: str) -> None:
    """A payment is taken back with its deal; a step that was made stays made."""
    assert demand(deal(outcome=outcome), on=on).state == state


@pytest.mark.parametrize("on", ["created", "qualified", "won", "lost", "stage:C5:PAID"])
def test_nothing_is_left_of_a_deleted_deal(on: str) -> None:
    """It was a mistake or a test."""
    assert demand(deal(is_deleted=True), on=on).state == "gone"


def test_lost_deal_whose_way_nobody_knows_keeps_what_it_reached() -> None:
    """AmoCRM does not say from where a deal was lost."""
    lost = deal(outcome="lost", stage="143", passed=(), is_qualified=False)

    assert [demand(lost, on=on).state for on in ("qualified", "status:41")] == ["open", "open"]


def test_lost_deal_whose_way_is_known_keeps_only_what_it_reached() -> None:
    """Bitrix24 tells the history."""
    steps = (Step(funnel="5", stage="C5:NEW", at=CREATED),)
    lost = deal(outcome="lost", stage="C5:LOSE", passed=("C5:NEW",), is_qualified=False, steps=steps)

    assert [demand(lost, on=on).state for on in ("qualified", "stage:C5:PAID")] == ["gone", "gone"]


@pytest.mark.parametrize(
    ("on", "state"), [("won", "gone"), ("lost", "gone"), ("created", "open"), ("qualified", "open")]
)
def test_other_funnel_wins_nothing_and_undoes_no_step(on: str, state: str) -> None:
    """Repair orders are not sales; a deal that was moved there was a lead all the same."""
    assert demand(deal(), on=on, funnel="7").state == state


@pytest.mark.parametrize(
    ("value", "worth"),
    [("sum", "5000"), ("1500", "1500"), ("30%", "1500"), ("12.5%", "625"), ("field:Margin", "1234.50")],
)
def test_value_comes_from_where_the_owner_says(value: str, worth: str) -> None:
    """A lead is worth what its owner says it is."""
    found = demand(deal(fields={"Margin": "1 234,50"}), on="won", value=value)

    assert (found.value, found.problem) == (Decimal(worth), None)


def test_money_field_names_its_own_currency() -> None:
    """A portal sells in several."""
    found = demand(deal(fields={"UF_CRM_1": "300|USD"}), on="won", value="field:UF_CRM_1")

    assert (found.value, found.currency) == (Decimal(300), "USD")


@pytest.mark.parametrize("fields", [{}, {"Margin": " "}, {"Margin": "much"}])
def test_field_without_a_sum_is_worth_nothing_and_says_why(fields: dict[str, str]) -> None:
    """The owner sees the reason beside the deal, not a guess."""
    found = demand(deal(fields=fields), on="won", value="field:Margin")

    assert found.value == 0
    assert "Margin" in (found.problem or "")


def test_sum_that_is_not_told_is_not_zero() -> None:
    """The Digital Pipeline tells no price: the one that is known stays."""
    assert [demand(deal(value=None), on="won", value=value).value for value in ("sum", "30%")] == [None, None]


def test_moments_are_those_of_the_deal() -> None:
    """The day of the payment is not the day of the call."""
    steps = (
        Step(funnel="5", stage="C5:NEW", at=CREATED),
        Step(funnel="5", stage="C5:PAID", at=CREATED + timedelta(days=2)),
    )
    one = deal(steps=steps)

    assert demand(one, on="created").occurred_at == CREATED
    assert demand(one, on="stage:C5:PAID").occurred_at == CREATED + timedelta(days=2)
    assert demand(one, on="qualified").occurred_at == CREATED + timedelta(days=2)
    assert demand(one, on="won").occurred_at == WON
    assert not any(demand(one, on=on).is_guess for on in ("created", "stage:C5:PAID", "qualified", "won"))


@pytest.mark.parametrize("on", ["stage:C5:PAID", "qualified"])
def test_moment_that_the_crm_does_not_tell_is_marked_as_a_guess(on: str) -> None:
    """Every save of an amoCRM lead would move the goal to another day."""
    found = demand(deal(outcome="open", closed_at=None), on=on)

    assert found.is_guess
    assert found.occurred_at == WON + timedelta(hours=1)


def test_first_rule_that_is_reached_speaks_for_its_goal() -> None:
    """Two funnels may sell the same goal."""
    rules = [
        Goal(on="won", goal="sale", funnel="7", value="1"),
        Goal(on="won", goal="sale", funnel="5", value="2"),
        Goal(on="lost", goal="lost"),
    ]

    assert [(one.goal, one.state, one.value) for one in demands(deal(), rules)] == [
        ("sale", "reached", Decimal(2)),
        ("lost", "gone", None),
    ]


@given(
    st.builds(
        deal,
        outcome=st.sampled_from(["open", "won", "lost"]),
        value=st.none() | st.decimals(0, 10**9, places=2),
        is_deleted=st.booleans(),
        passed=st.lists(st.sampled_from(["a", "b", "C5:WON"])).map(tuple),
    ),
    st.lists(
        st.builds(
            Goal,
            on=st.sampled_from(["created", "qualified", "won", "lost", "stage:a", "status:142"]),
            goal=st.sampled_from(["g", "h"]),
            funnel=st.sampled_from([None, "5", "7"]),
            value=st.sampled_from(["sum", "field:x", "10", "33.3333%"]),
        )
    ),
)
def test_every_goal_is_demanded_once_and_money_is_finite(one: Deal, goals: list[Goal]) -> None:
    """Whatever is configured."""
    found = demands(one, goals)

    assert [demand.goal for demand in found] == list(dict.fromkeys(goal.goal for goal in goals))
    assert all(demand.value is None or demand.value.is_finite() for demand in found)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Deal) == one
