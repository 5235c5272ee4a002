"""What follows from a verdict never loses a delivery, and never hurries a platform that asked for rest."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.delivery import FINAL, Outcome, Terms, Verdict
from closedloop.domain.schedule import LONGEST_PAUSE, NEVER_LONGER, THROTTLED, pause, step

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SAFE = Terms(repeat_lost_answer=True, attempts=3)
UNSAFE = Terms(repeat_lost_answer=False, attempts=3, verdict_after=(timedelta(minutes=5), timedelta(hours=1)))


def test_pauses_grow_to_a_limit() -> None:
    """A platform that is down for a night must not get a call every second of it."""
    pauses = [pause(attempt, 1) for attempt in range(1, 20)]

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=5), LONGEST_PAUSE)


@pytest.mark.parametrize("outcome", sorted(FINAL - {Outcome.REJECT_RECORD}))
def test_final_verdict_ends_it(outcome: Outcome) -> None:
    """Nothing is sent twice for good measure."""
    assert step(Verdict(outcome=outcome), SAFE, 1, NOW, 1).state == "done"


def test_record_that_never_passes_is_set_aside() -> None:
    """With the platform's reason, for a person."""
    assert step(Verdict(outcome=Outcome.REJECT_RECORD), SAFE, 1, NOW, 1).state == "parked"


@pytest.mark.parametrize(("attempt", "state"), [(1, "due"), (2, "due"), (3, "parked")])
def test_attempts_are_counted(attempt: int, state: str) -> None:
    """After the last it waits for a person, and is not forgotten."""
    assert step(Verdict(outcome=Outcome.RETRY_LATER), SAFE, attempt, NOW, 1).state == state


def test_lost_answer_is_repeated_only_where_the_platform_de_duplicates() -> None:
    """Elsewhere it is asked for."""
    lost = Verdict(outcome=Outcome.UNKNOWN_OUTCOME)

    assert step(lost, SAFE, 1, NOW, 1).state == "due"
    asked = step(lost, Terms(repeat_lost_answer=False, ask_lost_after=timedelta(minutes=15)), 1, NOW, 1)
    assert (asked.state, asked.at - NOW) == ("lost", timedelta(minutes=15))


@pytest.mark.parametrize(
    ("wait_s", "pause_s"),
    [(None, 60), (1, 60), (600, 600), (10**9, NEVER_LONGER.total_seconds())],
)
def test_throttled_rests_as_long_as_asked_and_burns_no_attempt(wait_s: float | None, pause_s: float) -> None:
    """A quota is nobody's fault."""
    found = step(Verdict(outcome=Outcome.THROTTLED, wait_s=wait_s), SAFE, 3, NOW, 1)

    assert (found.state, found.is_attempt) == ("due", False)
    assert found.at == NOW + timedelta(seconds=pause_s)
    assert timedelta(seconds=60) == THROTTLED


@pytest.mark.parametrize("outcome", [Outcome.AUTH_BLOCKED, Outcome.CONFIG_BLOCKED, Outcome.REAUTH])
def test_what_a_person_mends_keeps_its_records(outcome: Outcome) -> None:
    """And burns none of their attempts."""
    found = step(Verdict(outcome=outcome), SAFE, 3, NOW, 1)

    assert (found.state, found.is_attempt) == ("due", False)


@pytest.mark.parametrize(("asked", "after"), [(1, 300), (2, 3600), (9, 3600)])
def test_verdict_is_asked_for_later_each_time(asked: int, after: float) -> None:
    """The schedule is the destination's."""
    found = step(Verdict(outcome=Outcome.ACCEPTED_PENDING), UNSAFE, asked, NOW, 1)

    assert (found.state, found.at) == ("pending", NOW + timedelta(seconds=after))


@given(
    st.sampled_from(Outcome),
    st.integers(1, 30),
    st.floats(0.8, 1.2),
    st.none() | st.floats(0, 10**9),
    st.booleans(),
)
def test_every_verdict_has_a_sequel_in_time(
    outcome: Outcome,
    attempt: int,
    chance: float,
    wait_s: float | None,
    repeat: bool,  # noqa: FBT001
) -> None:
    """No verdict ends in nothing, and none in a year."""
    found = step(
        Verdict(outcome=outcome, wait_s=wait_s), Terms(repeat_lost_answer=repeat), attempt, NOW, chance
    )

    assert found.state in {"due", "pending", "done", "parked", "lost"}
    assert NOW <= found.at <= NOW + NEVER_LONGER
