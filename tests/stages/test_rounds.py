"""A loop that an error ends is the silence in which deals are lost."""

import pytest

from closedloop.errors import DatabaseAwayError, OperatorError, TransientError
from closedloop.stages.rounds import one_round
from closedloop.telemetry import REGISTRY


def failures() -> float:
    """Return how many failed rounds were counted."""
    return REGISTRY.get_sample_value("closedloop_stage_failures_total", {"stage": "rounds"}) or 0.0


def end(error: BaseException) -> None:
    """Let a round end with an error."""
    raise error


def test_trouble_that_passes_is_no_failure() -> None:
    """A restart of the database would else wake a person."""
    before = failures()

    with one_round("rounds"):
        end(DatabaseAwayError("restarting"))
    with one_round("rounds", passing=(TransientError, OperatorError)):
        end(OperatorError("not ours to mend"))

    assert failures() == before


@pytest.mark.parametrize("error", [OperatorError("not said to pass"), ValueError("ours")])
def test_every_other_error_is_counted_and_ends_here(error: Exception) -> None:
    """It must be seen, and the next round must come."""
    before = failures()

    with one_round("rounds", site="default"):
        end(error)

    assert failures() == before + 1


def test_end_of_the_process_is_no_error() -> None:
    """A loop that caught it could not be stopped."""
    with pytest.raises(KeyboardInterrupt), one_round("rounds"):
        end(KeyboardInterrupt())
