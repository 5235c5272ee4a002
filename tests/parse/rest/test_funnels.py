"""Which stages a deal has reached decides which goals it has: neither one too many nor one too few."""

from datetime import UTC, datetime

import pytest

from closedloop.domain.deal import Outcome, Step
from closedloop.parse.rest.funnels import Stage, is_qualified, open_stages, reached, unknown

AT = datetime(2025, 3, 8, tzinfo=UTC)
FUNNELS = {
    "0": [
        Stage(stage_id="NEW"),
        Stage(stage_id="TALK"),
        Stage(stage_id="PAY"),
        Stage(stage_id="WON", outcome="won"),
        Stage(stage_id="LOSE", outcome="lost"),
    ],
    "5": [Stage(stage_id="C5:NEW"), Stage(stage_id="C5:TALK"), Stage(stage_id="C5:WON", outcome="won")],
}


def step(stage: str, funnel: str = "0") -> Step:
    """Return the entry into a stage."""
    return Step(funnel=funnel, stage=stage, at=AT)


@pytest.mark.parametrize(
    ("stage", "outcome", "stages"),
    [
        ("NEW", "open", ("NEW",)),
        ("PAY", "open", ("NEW", "TALK", "PAY")),
        ("WON", "won", ("NEW", "TALK", "PAY", "WON")),
        ("LOSE", "lost", ("LOSE",)),
        ("GONE", "open", ("GONE",)),
        ("", "open", ()),
    ],
)
def test_stages_up_to_the_present_one_are_reached(
    stage: str, outcome: Outcome, stages: tuple[str, ...]
) -> None:
    """Whoever moves a deal three stages on reaches all goals; a lost one left from anywhere."""
    assert reached(FUNNELS, step(stage), outcome, ()) == stages


def test_stages_of_the_history_are_reached() -> None:
    """A lost deal had been qualified, and one that is open again had been won."""
    steps = [step("NEW"), step("TALK"), step("C5:NEW", "5")]

    assert reached(FUNNELS, step("LOSE"), "lost", steps) == ("LOSE", "NEW", "TALK", "C5:NEW")


@pytest.mark.parametrize(
    ("stage", "outcome", "steps", "expected"),
    [
        ("NEW", "open", [], False),
        ("TALK", "open", [], True),
        ("WON", "won", [], True),
        ("GONE", "won", [], True),
        ("GONE", "open", [], False),
        ("LOSE", "lost", [], False),
        ("LOSE", "lost", ["NEW"], False),
        ("LOSE", "lost", ["NEW", "PAY"], True),
        ("NEW", "open", ["WON"], True),
    ],
)
def test_deal_beyond_the_first_stage_is_qualified(
    stage: str,
    outcome: Outcome,
    steps: list[str],
    expected: bool,  # noqa: FBT001
) -> None:
    """Losing a deal at once must not count as having qualified it."""
    assert is_qualified(FUNNELS, step(stage), outcome, list(map(step, steps))) is expected


def test_stage_that_nobody_knows_is_told() -> None:
    """People add stages while we run."""
    steps = [step("NEW"), step("FRESH"), step("NEW", "7")]

    assert list(unknown(FUNNELS, steps)) == steps[1:]
    assert open_stages(FUNNELS["0"]) == ["NEW", "TALK", "PAY"]
