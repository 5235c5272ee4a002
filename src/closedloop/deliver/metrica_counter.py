"""Whether token and settings fit a counter of Yandex Metrica, asked of the counter itself."""

from collections.abc import Sequence

from closedloop.deliver.metrica import Access, Table, get, read_answer, rows, table, text
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest

_COUNTER = "management/v1/counter/{counter}"
_MAY_WRITE = frozenset({"own", "edit"})


def counter_request(access: Access) -> HttpRequest:
    """Return the question for the counter with its goals. Source: yandex-metrica.md, 6."""
    return get(access, _COUNTER, {"field": "goals"})


def judge_counter(
    reply: HttpReply, access: Access, *, goals: Sequence[str], timezone: str | None = None
) -> Verdict:
    """Return confirmed, or the first thing that a person has to put right.

    `goals` are identifiers that have to be there as JavaScript events. What the answer leaves out is not
    judged. Source: docs/protocols/destinations/yandex-metrica.md, 2.1 and 6.
    """
    told = read_answer(reply, access, is_upload=False)
    if isinstance(told, Verdict):
        if told.outcome is Outcome.REAUTH:
            return Verdict(outcome=Outcome.AUTH_BLOCKED, reason=told.reason)
        return told
    counter = table(told.get("counter"))
    if not counter:
        reason = "the answer says nothing of a counter: look at the address"
        return Verdict(outcome=Outcome.CONFIG_BLOCKED, reason=reason)
    problem = _problem(counter, goals, timezone)
    if problem is not None:
        return Verdict(outcome=Outcome.CONFIG_BLOCKED, reason=problem)
    return Verdict(
        outcome=Outcome.CONFIRMED, reason=f"the counter {text(counter.get('name'))} answers".strip()
    )


def _problem(counter: Table, goals: Sequence[str], timezone: str | None) -> str | None:
    zone, permission = text(counter.get("time_zone_name")), text(counter.get("permission"))
    if text(counter.get("status")) == "Deleted":
        return "the counter was deleted in Metrica"
    if permission and permission not in _MAY_WRITE:
        return f"the token's account may not edit the counter, its right is {permission}"
    if timezone and zone and zone != timezone:
        return f"the counter's time zone is {zone}, the settings say {timezone}"
    missing = _missing(counter, goals)
    if missing:
        return (
            f"the counter has no goal of the type JavaScript event with the identifier {', '.join(missing)}"
        )
    return None


def _missing(counter: Table, goals: Sequence[str]) -> list[str]:
    known = counter.get("goals")
    if not isinstance(known, list):
        return []
    actions = [one for one in rows(known) if text(one.get("type")) == "action"]
    there = {text(table(one).get("url")) for goal in actions for one in rows(goal.get("conditions"))}
    return sorted(set(goals) - there)
