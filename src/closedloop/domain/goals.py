"""Which goals a deal has reached, for how much and when: the owner's moments against the deal as it is now.

The answer depends on the deal alone, not on how it came to be known: a deal that was told once, often
or in the wrong order asks for the same conversions.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from closedloop.domain.deal import Deal
from closedloop.domain.money import read_amount
from closedloop.errors import CallerError

SUM = "sum"
_FIELD = "field:"
# Share of a sum: more digits than any currency has places.
_SHARE_PLACES = Decimal("0.0001")


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """Which moment in the CRM is which goal: `on` is created, qualified, won, lost, stage:ID or status:ID.

    `funnel` is the id of the only funnel (pipeline) that counts. `value` is `sum` (the deal's), `field:NAME`,
    a fixed sum such as `1500`, or a share of the deal's sum such as `30%`.
    """

    on: str
    goal: str
    funnel: str | None = None
    value: str = SUM


# Without a word in the configuration a won deal is a payment.
DEFAULT_GOALS = (Goal(on="won", goal="payment_success"),)


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What must be true of one goal of one deal.

    `reached`: there is a conversion, with this value (None: as it was, the deal does not tell) at this
    moment. `gone`: if there is a conversion, it is cancelled. `open`: whatever there is stays as it is, since
    nobody can tell any more whether the deal passed the stage before it was lost.
    """

    goal: str
    state: Literal["reached", "gone", "open"]
    value: Decimal | None = None
    currency: str | None = None
    occurred_at: datetime | None = None
    is_guess: bool = False  # the CRM does not tell when: the deal's last change, which every later one moves
    problem: str | None = None  # why there is no value: a sentence


def demands(deal: Deal, goals: Sequence[Goal]) -> list[Demand]:
    """Return one demand for each goal of the configuration, in its order.

    Of several rules for one goal the first that is reached counts; the goal is gone when all of them are.
    """
    rules: dict[str, list[Demand]] = {}
    for goal in goals:
        rules.setdefault(goal.goal, []).append(_demand(deal, goal))
    return [_strongest(of_goal) for of_goal in rules.values()]


def _strongest(of_goal: Iterable[Demand]) -> Demand:
    order = ("reached", "open", "gone")
    return min(of_goal, key=lambda demand: order.index(demand.state))


def _demand(deal: Deal, goal: Goal) -> Demand:
    state = _state(deal, goal)
    if state != "reached":
        return Demand(goal=goal.goal, state=state)
    value, currency, problem = _value(deal, goal)
    moment = _moment(deal, goal)
    return Demand(
        goal=goal.goal,
        state="reached",
        value=value,
        currency=currency or deal.currency,
        occurred_at=moment or deal.closed_at or deal.changed_at,
        is_guess=moment is None,
        problem=problem,
    )


def _state(deal: Deal, goal: Goal) -> Literal["reached", "gone", "open"]:
    if deal.is_deleted:
        return "gone"
    if goal.funnel is not None and goal.funnel != deal.funnel:
        # A deal that was moved to another funnel has been created and qualified where it was before.
        return "gone" if goal.on in {"won", "lost"} else "open"
    if goal.on == "created":
        return "reached"
    if goal.on in {"won", "lost"}:
        return "reached" if deal.outcome == goal.on else "gone"
    if deal.is_qualified if goal.on == "qualified" else _stage(goal) in {deal.stage, *deal.passed}:
        return "reached"
    return "open" if deal.outcome == "lost" and not deal.steps else "gone"


def _stage(goal: Goal) -> str:
    return goal.on.partition(":")[2]


def _moment(deal: Deal, goal: Goal) -> datetime | None:
    """Return when a goal was reached, None where the CRM does not tell."""
    match goal.on:
        case "created":
            return deal.created_at
        case "won" | "lost":
            return deal.closed_at
        case "qualified":
            later = [step.at for step in deal.steps[1:]]
        case _:
            later = [step.at for step in deal.steps if step.stage == _stage(goal)]
    return later[0] if later else None


def _value(deal: Deal, goal: Goal) -> tuple[Decimal | None, str | None, str | None]:
    """Return the value, its own currency if it names one, and why there is none."""
    told = goal.value
    if told == SUM:
        return deal.value, None, None
    if told.startswith(_FIELD):
        return _field_value(deal, told.removeprefix(_FIELD))
    if not told.endswith("%"):
        return Decimal(told), None, None
    if deal.value is None:
        return None, None, None
    share = deal.value * Decimal(told.removesuffix("%")) / 100
    return share.quantize(_SHARE_PLACES).normalize() + 0, None, None


def _field_value(deal: Deal, name: str) -> tuple[Decimal | None, str | None, str | None]:
    text = deal.fields.get(name)
    if text is None or not text.strip():
        return Decimal(0), None, f"the deal has nothing in the field {name}"
    try:
        amount = read_amount(text, key=name)
    except CallerError as error:
        return Decimal(0), None, str(error)
    return amount.value, amount.currency, None
