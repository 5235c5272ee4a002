"""The goal as it stands in a session's document: the image of one conversion of the ledger."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from closedloop.domain.money import decimal_text

SOURCE = "crm_offline"


class GoalImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of `yandex_goals_triggered`; the first four keys are fixed by the contract, section 1."""

    goal: str
    timestamp: str
    value: msgspec.Raw  # the digits of an exact decimal
    source: str
    currency: str
    conversion_id: str
    deal_id: str | None = None


def goal_image(
    conversion_id: UUID, goal: str, occurred_at: datetime, money: tuple[Decimal, str], deal_id: str | None
) -> GoalImage:
    """Return the image of one conversion; `money` is its value and the currency of it."""
    value, currency = money
    return GoalImage(
        goal=goal,
        timestamp=browser_time(occurred_at),
        value=msgspec.Raw(decimal_text(value).encode()),
        source=SOURCE,
        currency=currency,
        conversion_id=str(conversion_id),
        deal_id=deal_id,
    )


def browser_time(moment: datetime) -> str:
    """Return a moment as JavaScript's `toISOString` does: `2026-11-23T10:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
