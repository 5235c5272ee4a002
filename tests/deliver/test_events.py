"""A destination is told what it does not know yet, and nothing twice."""

from decimal import Decimal

import pytest

from closedloop.deliver.events import event_of, goal_refused
from closedloop.domain.delivery import Skipped, Told
from fix_destinations import sale, told

CANCELLED = told(is_cancelled=True)


@pytest.mark.parametrize(
    ("known", "is_cancelled", "value", "event"),
    [
        (None, False, 12000, "created"),
        (told(), False, 9000, "changed"),
        (told(currency="USD"), False, "12000.50", "changed"),
        (told(), True, "12000.50", "cancelled"),
        (told(), True, 0, "cancelled"),
        (CANCELLED, False, "12000.50", "reinstated"),
    ],
)
def test_event_is_what_the_destination_does_not_know(
    known: Told | None, *, is_cancelled: bool, value: str, event: str
) -> None:
    """The platform's picture of the deal has to become ours."""
    assert event_of(sale(told=known, is_cancelled=is_cancelled, value=Decimal(value))) == event


@pytest.mark.parametrize(
    ("known", "is_cancelled", "reason"),
    [
        (None, True, "it was cancelled before it was told"),
        (told(), False, "its value is the one that was told"),
        (CANCELLED, True, "that it is cancelled was told"),
    ],
)
def test_nothing_new_is_not_told(known: Told | None, reason: str, *, is_cancelled: bool) -> None:
    """A platform that counts calls would count it again."""
    assert event_of(sale(told=known, is_cancelled=is_cancelled)) == Skipped(reason=reason)


def test_cancelled_sale_whose_answer_was_lost_is_told() -> None:
    """The platform may have it, and would go on paying for it."""
    assert event_of(sale(is_cancelled=True, attempt=1)) == "cancelled"


def test_goal_outside_the_list_is_refused() -> None:
    """A form that was sent is no sale."""
    assert goal_refused(sale(), ()) is None
    assert goal_refused(sale(), ("payment_success",)) is None
    assert goal_refused(sale(), ("lead",)) == Skipped(reason="its goal payment_success is not in only_goals")
