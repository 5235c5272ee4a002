"""Facts of a visit add up to the same, whatever comes twice and in which order."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.visit import Visit, all_ids, merged, merged_by_session, messenger_code, visit_part

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


def visit(**told: Any) -> Visit:  # noqa: ANN401 - the fields of Visit
    """Return a visit with what is given."""
    fields: dict[str, Any] = {
        "site": "default",
        "session_id": "session-0001",
        "visitor": "visitor-0001",
        "began_at": NOW,
        "received_at": NOW,
        **told,
    }
    return Visit(**fields)


NAMES = st.sampled_from(["v1.0", "v1.1", "v2.0"])
# A fact has one value: its name says which one it is.
FACTS = st.dictionaries(NAMES, st.just(None)).map(lambda names: {name: {"name": name} for name in names})
VISITS = st.builds(
    visit,
    pages=FACTS,
    goals=FACTS,
    forms=FACTS,
    seconds=st.dictionaries(NAMES, st.just(1.5)),
    began_at=st.integers(0, 5).map(lambda seconds: NOW - timedelta(seconds=seconds)),
    bot=st.sampled_from([None, "driven"]),
    withdrawn=st.booleans(),
)


@given(VISITS, VISITS, VISITS)
def test_merging_is_in_any_order_and_once(one: Visit, two: Visit, three: Visit) -> None:
    """Retries repeat, beacons overtake: the session must not depend on it."""
    assert merged(one, two) == merged(two, one)
    assert merged(merged(one, two), three) == merged(one, merged(two, three))
    assert merged(one, one) == one


def test_first_id_and_first_touch_stay() -> None:
    """A deal was told with the first one."""
    one = visit(ids={"yclid": "1"}, first_touch={"url": "a"}, last_touch={"url": "a"})
    two = visit(ids={"yclid": "2", "fbp": "f"}, first_touch={"url": "b"}, last_touch={"url": "b"})

    both = merged(one, two)

    assert both.ids == {"yclid": "1", "fbp": "f"}
    assert (both.first_touch, both.last_touch) == ({"url": "a"}, {"url": "b"})


def test_visits_are_merged_within_a_session_and_visitor() -> None:
    """Two visitors who claim one session are judged each for themselves."""
    told = [visit(pages={"a": {}}), visit(visitor="visitor-0002"), visit(pages={"b": {}})]

    both, stranger = merged_by_session(told)

    assert (both.pages, stranger.visitor) == ({"a": {}, "b": {}}, "visitor-0002")


def test_code_is_short_and_of_the_session() -> None:
    """People read it aloud and type it into a chat."""
    assert messenger_code("0E6B1F7E-5d0c-4b52-8a3f-6c1d2e3f4a5b") == "ta_0e6b1f7e5d0c"


def test_withdrawn_visit_has_only_its_session() -> None:
    """Whatever else was in the same batch."""
    gone = merged(visit(ids={"ym_uid": "1"}, pages={"a": {}}), visit(withdrawn=True))

    assert all_ids(gone) == {"session_id": "session-0001"}
    assert visit_part(gone) == {"version": 1, "consent": "withdrawn"}


def test_new_part_leaves_out_what_is_not_known() -> None:
    """A null would stand in the way of the value that comes later."""
    part = visit_part(visit(pages={"a": {}}))

    assert part == {"version": 1, "touches": {}, "pages": {"a": {}}, "seconds": {}, "forms": {}}
