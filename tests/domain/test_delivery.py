"""A delivery makes sense until its window closes, less what a retry may need."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from closedloop.domain.delivery import BLOCKED, FINAL, Outcome, Sale, Terms, Told, deadline

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


def sale(**more: Any) -> Sale:  # noqa: ANN401 - any field
    """Return the sale of a deal."""
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
    }
    return Sale(**{**usual, **more})


@pytest.mark.parametrize(
    ("counts_from", "visited_at", "last"),
    [
        ("visit", NOW - timedelta(days=9), NOW + timedelta(days=12) - timedelta(hours=4)),
        ("visit", None, NOW + timedelta(days=21) - timedelta(hours=4)),
        ("conversion", NOW - timedelta(days=9), NOW + timedelta(days=21) - timedelta(hours=4)),
    ],
)
def test_deadline_counts_from_where_the_platform_counts(
    counts_from: Any,  # noqa: ANN401
    visited_at: datetime | None,
    last: datetime,
) -> None:
    """A sale that comes a minute too late is sent for nothing."""
    terms = Terms(
        window=timedelta(days=21), counts_from=counts_from, margin=timedelta(hours=4), repeat_lost_answer=True
    )

    assert deadline(sale(visited_at=visited_at), terms) == last


def test_change_of_what_was_told_has_a_window_of_its_own() -> None:
    """A deal that Metrica has may be paid or cancelled for months, while a new one is too late."""
    terms = Terms(
        window=timedelta(days=21),
        change_window=timedelta(days=111),
        counts_from="visit",
        repeat_lost_answer=True,
    )
    told = Told(value=Decimal(0), currency="RUB", is_cancelled=False, revision=1)

    assert deadline(sale(told=told), terms) == NOW + timedelta(days=111)
    assert deadline(sale(), terms) == NOW + timedelta(days=21)


def test_deal_without_a_visit_counts_from_its_making() -> None:
    """It was made soon after the visit that nobody saw; that it was paid now does not make it younger."""
    terms = Terms(window=timedelta(days=21), counts_from="visit", repeat_lost_answer=True)
    made = NOW - timedelta(days=30)

    assert deadline(sale(deal_created_at=made), terms) == made + timedelta(days=21)


def test_destination_without_a_window_takes_everything() -> None:
    """Signed webhooks do."""
    assert deadline(sale(), Terms(repeat_lost_answer=True)) is None


def test_no_outcome_is_final_and_blocked() -> None:
    """What a person mends goes on."""
    assert not FINAL & BLOCKED
    assert {Outcome.RETRY_LATER, Outcome.THROTTLED, Outcome.ACCEPTED_PENDING}.isdisjoint(FINAL)


def test_order_without_a_deal_has_a_name_of_ours() -> None:
    """It is the same for every revision."""
    assert (sale().order_id, sale(deal_id=None).order_id) == ("662", str(UUID(int=2)))
