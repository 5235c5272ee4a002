"""Two requests are one conversion exactly when their keys are equal: that decides what is counted."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.conversion import DEFAULT_GOAL, ReportedConversion, dedup_key, digest_of

PARTS = st.lists(st.text(max_size=5), max_size=4)
PLAIN = ReportedConversion(digest=b"d" * 32)


def told(**own: object) -> ReportedConversion:
    """Return what a sender told, with some fields of its own."""
    return msgspec.structs.replace(PLAIN, **own)


@pytest.mark.parametrize(
    ("own", "rule"),
    [
        ({"deal_id": "1", "event_id": "e"}, "deal"),
        ({"deal_id": "1"}, "deal"),
        ({"event_id": "e"}, "event"),
        ({}, "body"),
    ],
)
def test_most_certain_rule_makes_the_key(own: dict[str, str], rule: str) -> None:
    """A deal is one sale for its whole life; an event id or equal bytes are only second and third best."""
    key = dedup_key(told(**own))

    assert (key.rule, len(key.key)) == (rule, 16)


@pytest.mark.parametrize(
    "other", [{"event_id": "f"}, {"digest": b"x" * 32}, {"value": 5}, {"session_id": "s"}, {"site": "b"}]
)
def test_same_deal_and_goal_are_one_conversion(other: dict[str, object]) -> None:
    """A CRM tells of a deal many times, each time with other bytes and perhaps another sum."""
    assert dedup_key(told(deal_id="1", **other)) == dedup_key(told(deal_id="1"))


@pytest.mark.parametrize("other", [{"goal": "paid"}, {"deal_id": "2"}, {"deal_id": " 1"}])
def test_other_deal_or_goal_is_another_conversion(other: dict[str, object]) -> None:
    """One deal may reach several goals: a lead first, money later."""
    assert dedup_key(told(**{"deal_id": "1", **other})) != dedup_key(told(deal_id="1"))


def test_event_id_counts_whatever_its_bytes_are() -> None:
    """A sender that repeats itself may write its keys in another order."""
    assert dedup_key(told(event_id="e", goal="paid")) == dedup_key(told(event_id="e", digest=b"x" * 32))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_without_an_id_only_equal_bytes_are_one(one: bytes, other: bytes) -> None:
    """Two buyers of the same thing differ in their session, and so in their bytes."""
    assert (dedup_key(told(digest=one)) == dedup_key(told(digest=other))) == (one == other)


@given(st.text(min_size=1))
def test_same_text_as_deal_and_as_event_differs(text: str) -> None:
    """Numbers of deals and of events overlap in every CRM."""
    assert dedup_key(told(deal_id=text)).key != dedup_key(told(event_id=text)).key


@given(PARTS, PARTS)
def test_digest_differs_whenever_a_part_does(one: list[str], other: list[str]) -> None:
    """Deal "1" with goal "2x" must not be deal "12" with goal "x"."""
    assert (digest_of(*one) == digest_of(*other)) == (one == other)


def test_digest_is_the_same_for_ever() -> None:
    """Keys stand in people's databases: another digest would count every deal once more."""
    deal, body = dedup_key(told(deal_id="662", goal="paid")), dedup_key(told(digest=bytes(32)))

    assert deal.key.hex() == "1d4af80261aed5b9fccefcb109d64b8a"
    assert body.key.hex() == "faae2352781e093e4da6fcb84780a2f6"


def test_what_was_not_told_is_none() -> None:
    """Absent must stay apart from zero: a request without a value revises no deal."""
    fields = msgspec.structs.asdict(PLAIN)

    assert {name for name, value in fields.items() if value} == {"goal", "digest"}
    assert (PLAIN.goal, PLAIN.value, PLAIN.click_ids) == (DEFAULT_GOAL, None, {})
