"""The order of the stages of funnels, and which of them a deal has reached; knows no CRM."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from closedloop.domain.deal import Outcome, Step


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a funnel, and what a deal in it is."""

    stage_id: str
    outcome: Outcome = "open"


Funnels = Mapping[str, Sequence[Stage]]  # by the id of the funnel, its stages in their order


def reached(funnels: Funnels, now: Step, outcome: Outcome, steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the stages that a deal has reached: its own and those before it, then those of `steps`.

    A won deal has all that are worked in and the won one. A lost one left from somewhere that nobody
    knows: only its own and those of `steps`.
    """
    before = open_stages(funnels.get(now.funnel, ()))
    if outcome == "lost" or (outcome == "open" and now.stage not in before):
        before = []
    elif outcome == "open":
        before = before[: before.index(now.stage)]
    stages = [*before, now.stage, *(step.stage for step in steps)]
    return tuple(dict.fromkeys(filter(None, stages)))


def is_qualified(funnels: Funnels, now: Step, outcome: Outcome, steps: Sequence[Step]) -> bool:
    """Tell whether a deal was ever beyond the first stage of a funnel and not just lost."""
    return outcome == "won" or any(_is_beyond_first(funnels, step) for step in [now, *steps])


def open_stages(stages: Sequence[Stage]) -> list[str]:
    """Return the ids of the stages in which deals are worked on, in their order."""
    return [stage.stage_id for stage in stages if stage.outcome == "open"]


def unknown(funnels: Funnels, steps: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps whose stage is in no funnel that is known."""
    for step in steps:
        if all(stage.stage_id != step.stage for stage in funnels.get(step.funnel, ())):
            yield step


def _is_beyond_first(funnels: Funnels, step: Step) -> bool:
    stages = funnels.get(step.funnel, ())
    won = [stage.stage_id for stage in stages if stage.outcome == "won"]
    return step.stage in [*open_stages(stages)[1:], *won]
