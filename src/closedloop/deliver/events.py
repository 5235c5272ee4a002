"""What happened to a conversion since a destination was told of it last: the same words for all of them."""

from typing import Literal, TypeAlias

from closedloop.domain.delivery import Sale, Skipped

Event: TypeAlias = Literal["created", "changed", "cancelled", "reinstated"]
EVENTS: tuple[Event, ...] = ("created", "changed", "cancelled", "reinstated")


def event_of(sale: Sale) -> Event | Skipped:
    """Return what a destination that knows `sale.told` has to be told now, or why nothing.

    A cancelled sale that was tried and never confirmed is told as cancelled: the platform may have it.
    """
    told = sale.told
    if told is None:
        if not sale.is_cancelled:
            return "created"
        return "cancelled" if sale.attempt else Skipped(reason="it was cancelled before it was told")
    if sale.is_cancelled:
        return Skipped(reason="that it is cancelled was told") if told.is_cancelled else "cancelled"
    if told.is_cancelled:
        return "reinstated"
    if (told.value, told.currency) == (sale.value, sale.currency):
        return Skipped(reason="its value is the one that was told")
    return "changed"


def goal_refused(sale: Sale, only_goals: tuple[str, ...]) -> Skipped | None:
    """Return why a sale's goal is none of those that a destination is told, None when it is; empty is all."""
    if not only_goals or sale.goal in only_goals:
        return None
    return Skipped(reason=f"its goal {sale.goal} is not in only_goals")
