"""When a delivery is tried again, and what a verdict makes of it; chance and clock are arguments."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from closedloop.domain.delivery import BLOCKED, FINAL, Outcome, Terms, Verdict

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=6)
# After too many calls, or no answer, a destination is left alone for a minute at least.
THROTTLED = timedelta(minutes=1)
NEVER_LONGER = timedelta(hours=24)

# Set aside for a person, with the platform's reason.
PARKED = frozenset({Outcome.REJECT_RECORD, Outcome.PARTIAL})
RETRIED = frozenset({Outcome.RETRY_LATER, Outcome.UNKNOWN_OUTCOME})

State = Literal["due", "pending", "done", "parked", "lost"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What follows for one delivery: its state, when it is looked at again, if this was an attempt."""

    state: State
    at: datetime
    is_attempt: bool = True


def pause(attempt: int, chance: float) -> timedelta:
    """Return how long to wait after the n-th attempt, from 1; `chance` is within 0.8 to 1.2."""
    return min(FIRST_PAUSE * float(4 ** min(attempt - 1, 10)), LONGEST_PAUSE) * chance


def step(verdict: Verdict, terms: Terms, attempt: int, now: datetime, chance: float) -> Step:
    """Return what follows from a verdict after the n-th attempt, or the n-th question after it.

    A throttled destination burns no attempt; a record that failed too often is parked, never forgotten.
    """
    outcome = verdict.outcome
    if outcome in PARKED or (outcome in RETRIED and attempt >= terms.attempts):
        return Step(state="parked", at=now)
    if outcome in FINAL:
        return Step(state="done", at=now)
    if outcome in BLOCKED:
        return Step(state="due", at=now, is_attempt=False)
    return _later(verdict, terms, attempt, now, chance)


def _later(verdict: Verdict, terms: Terms, attempt: int, now: datetime, chance: float) -> Step:
    asked = min(timedelta(seconds=verdict.wait_s or 0), NEVER_LONGER)
    match verdict.outcome:
        case Outcome.ACCEPTED_PENDING:
            after = terms.verdict_after or (THROTTLED,)
            return Step(state="pending", at=now + after[min(attempt - 1, len(after) - 1)])
        case Outcome.THROTTLED:
            return Step(state="due", at=now + max(asked, THROTTLED), is_attempt=False)
        case Outcome.UNKNOWN_OUTCOME if not terms.repeat_lost_answer:
            return Step(state="lost", at=now + terms.ask_lost_after)
        case _:
            return Step(state="due", at=now + max(pause(attempt, chance), asked))
