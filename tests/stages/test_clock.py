"""Time, chance and ids have one source, and the ids of a process sort as they were made."""

from datetime import UTC, timedelta
from itertools import pairwise
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from closedloop.stages.clock import IdMaker, elapsed, jitter, new_id, now


def test_now_is_in_utc() -> None:
    """A naive time would be read in the zone of whatever machine stores it."""
    moment = now()

    assert moment.tzinfo is UTC
    assert timedelta() <= now() - moment < timedelta(seconds=5)


def test_elapsed_never_goes_back() -> None:
    """Patience is measured by it, and the clock on the wall is set back at any time."""
    moments = [elapsed() for _ in range(1000)]

    assert moments == sorted(moments)


@given(st.floats(min_value=0.001, max_value=10_000))
def test_jitter_stays_within_a_fifth(seconds: float) -> None:
    """Many processes must not come back as one, and none of them much later than meant."""
    assert seconds * 0.8 <= jitter(seconds) <= seconds * 1.2


def test_jitter_differs_from_call_to_call() -> None:
    """A constant would be no jitter."""
    assert len({jitter(1.0) for _ in range(20)}) > 1


def test_ids_of_one_process_are_strictly_in_order() -> None:
    """Goals stand in a list in the order of their ids, and pages are cut by them; faster than any clock."""
    ids = [new_id() for _ in range(20_000)]

    assert all(earlier < later for earlier, later in pairwise(ids))


def test_id_says_when_it_was_made() -> None:
    """A range of ids is a range of time, for whoever looks for what came in on Monday."""
    before = now().timestamp()
    made = new_id()
    after = now().timestamp()

    assert (made.version, made.variant) == (7, RFC_4122)
    assert int(before * 1000) <= made.int >> 80 <= int(after * 1000)


def test_clock_that_is_set_back_does_not_turn_the_order_round() -> None:
    """A machine that corrects its time by an hour must not file new goals before old ones."""
    make = IdMaker()
    make.last_tick += (int(now().timestamp() * 1000) + 3_600_000) << 12

    ahead, later = make(), make()

    assert new_id() < ahead < later


def test_ids_of_two_processes_differ() -> None:
    """Web processes on one port make ids at the same instant."""
    makers = [IdMaker() for _ in range(50)]
    ids: list[UUID] = [make() for _ in range(200) for make in makers]

    assert len(set(ids)) == len(ids)
