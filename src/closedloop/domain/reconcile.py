"""The CRM's deals beside our conversions: what is missing, too much, of another sum, without a session."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from closedloop.domain.deal import Deal
from closedloop.domain.goals import Demand, Goal, demands
from closedloop.domain.moment import read_day, start_of
from closedloop.domain.money import decimal_text
from closedloop.errors import CallerError

Kind = Literal["missing", "extra", "value", "no_session"]
# What makes the two sides differ; a deal without a session is counted on both.
WRONG: frozenset[Kind] = frozenset({"missing", "extra", "value"})


class OurConversion(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion of the ledger that counts."""

    deal_id: str
    goal: str
    value: Decimal
    currency: str
    occurred_at: datetime
    is_matched: bool
    session_id: str | None
    ym_uid: str | None
    has_others: bool  # a click id, a phone or an e-mail


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One deal on which the two sides differ, or that has no session; money as exact text."""

    kind: Kind
    deal_id: str
    goal: str
    in_crm: str | None
    here: str | None
    why: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared: how many goals the deals of the CRM have reached, how many of these are here."""

    in_crm: int
    here: int
    differences: list[Difference]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing, too much, or of another sum."""
        return not any(one.kind in WRONG for one in self.differences)


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """A goal that a deal has reached in the CRM."""

    deal_id: str
    demand: Demand


def reached(deal: Deal, goals: Sequence[Goal], start: datetime, end: datetime) -> list[Reached]:
    """Return the goals that a deal has reached in a period; `end` is the first moment after it."""
    return [
        Reached(deal_id=deal.deal_id, demand=demand)
        for demand in demands(deal, goals)
        if demand.state == "reached" and demand.occurred_at is not None and start <= demand.occurred_at < end
    ]


def compare(
    there: Iterable[Reached], here: Mapping[tuple[str, str], OurConversion], currency: str
) -> list[Difference]:
    """Return the differences of the deals that reached a goal in the CRM; `here` by deal and goal."""
    return [
        difference
        for one in there
        if (difference := _difference(one, here.get((one.deal_id, one.demand.goal)), currency)) is not None
    ]


def _difference(one: Reached, ours: OurConversion | None, currency: str) -> Difference | None:
    demand = one.demand
    value = None if demand.value is None else (demand.value, demand.currency or currency)
    found = _kind_and_why(ours, value)
    if found is None:
        return None
    kind, why = found
    return Difference(
        kind=kind,
        deal_id=one.deal_id,
        goal=demand.goal,
        in_crm=None if value is None else money(*value),
        here=None if ours is None else money(ours.value, ours.currency),
        why=why,
    )


def _kind_and_why(ours: OurConversion | None, value: tuple[Decimal, str] | None) -> tuple[Kind, str] | None:
    if ours is None:
        return "missing", "it was never told, or is cancelled here: run closedloop sweep"
    if value is not None and value != (ours.value, ours.currency):
        return "value", "the sum was changed and not told: run closedloop sweep"
    return None if ours.is_matched else ("no_session", why_unmatched(ours))


def extra(
    ours: OurConversion, deal: Deal | None, goals: Sequence[Goal], zone: ZoneInfo, *, is_asked: bool
) -> Difference | None:
    """Return the difference of a conversion that no deal asks for in its period.

    `deal` is what the CRM shows now, None for one that is gone; `is_asked` is whether it said anything. None
    when the deal has reached the goal and the CRM does not tell when: our own word counts then.
    """
    demand = None if deal is None else _reached(deal, goals, ours.goal)
    if demand is not None and demand.is_guess:
        return None
    return Difference(
        kind="extra",
        deal_id=ours.deal_id,
        goal=ours.goal,
        in_crm=None,
        here=money(ours.value, ours.currency),
        why=_why_extra(deal, demand, zone) if is_asked else "the CRM shows no deal with this id",
    )


def _reached(deal: Deal, goals: Sequence[Goal], goal: str) -> Demand | None:
    found = (one for one in demands(deal, goals) if one.goal == goal and one.state == "reached")
    return next(found, None)


def _why_extra(deal: Deal | None, demand: Demand | None, zone: ZoneInfo) -> str:
    if deal is None:
        return (
            "there is no such deal in the CRM: it was deleted (run closedloop sweep --all), "
            "or a webhook has named a wrong one"
        )
    if demand is not None and demand.occurred_at is not None:
        at = f"{demand.occurred_at.astimezone(zone):%Y-%m-%d %H:%M}"
        return f"there it was reached outside of the period, {at}: run closedloop sweep"
    return (
        f"the deal is {deal.outcome} there, at {deal.stage}: run closedloop sweep; "
        "what stays was told by a webhook of the hook"
    )


def why_unmatched(ours: OurConversion) -> str:
    """Return why a conversion has no session, in a sentence."""
    if ours.session_id is not None:
        return f"no session {ours.session_id} is known: the tracker was blocked, or is not on the page"
    if ours.ym_uid is not None:
        return f"no session of the visitor {ours.ym_uid} is known"
    if ours.has_others:
        return "no session has the click id, code, phone or e-mail of the deal"
    return (
        "the deal carries nothing that leads to a visitor: no session_id, ym_uid, click id, phone or e-mail"
    )


def period(first: str, last: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the moments at which a period of whole days, `"2026-11-01"`, begins and is over.

    Raises CallerError with the key `from` or `to`.
    """
    begin, end = read_day(first, key="from"), read_day(last, key="to")
    if end < begin:
        raise CallerError("to", f"is before from, {first}", shown=last)
    return start_of(begin, zone), start_of(end + timedelta(days=1), zone)


def money(value: Decimal, currency: str) -> str:
    """Return `5000 RUB` or `4500.50 RUB`."""
    whole, _, fraction = decimal_text(value).partition(".")
    return f"{whole}{f'.{fraction:0<2}' if fraction else ''} {currency}"
