"""What a CRM's API answers is read with its digits, and whatever it answers, nothing breaks."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.parse.rest.answers import (
    Json,
    chunks,
    currency,
    inside,
    moment,
    number,
    object_id,
    read_object,
    rows,
    table,
    text,
    texts,
)

MOSCOW = timezone(timedelta(hours=3))


def test_numbers_keep_their_digits() -> None:
    """A ClientID and a sum do not fit into a float."""
    told = read_object(b'{"id": 1741000000123456789, "sum": 5000.10, "bad": NaN}')

    assert told == {"id": "1741000000123456789", "sum": "5000.10", "bad": "NaN"}


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"{", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_object_is_none(body: bytes) -> None:
    """A page of a proxy must not be taken for an empty answer."""
    assert read_object(body) is None


def test_one_broken_title_hides_no_page() -> None:
    """Fifty deals come in one answer, and one of them may hold anything."""
    told = read_object(b'\xef\xbb\xbf{"title": "\xff", "half": "\\ud83d", "nul": "a\\u0000b"}')

    assert told is not None
    assert [text(node).encode() for node in told.values()] == ["\ufffd".encode(), b"?", b"ab"]


def test_scalars_are_texts() -> None:
    """The API mixes texts, numbers and booleans for the same kind of field."""
    nodes: list[Json] = ["a", True, False, None, {"a": "b"}, ["a", None, "b"]]

    assert [text(node) for node in nodes] == [*("a", "1", "", "", "", "a; b")]
    assert texts("a") == ["a"]
    assert texts(["a", "", "b"]) == ["a", "b"]
    assert texts(None) == []


def test_what_is_missing_is_empty() -> None:
    """PHP writes an empty map as a list."""
    assert inside({"a": {"b": "c"}}, "a", "b") == "c"
    assert inside({"a": []}, "a", "b") is None
    assert table([]) == {}
    assert rows({"items": "1"}) == []
    assert rows(["1", {"ID": "2"}]) == [{"ID": "2"}]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("2025-03-08T15:20:00+03:00", datetime(2025, 3, 8, 15, 20, tzinfo=MOSCOW)),
        ("1741436400", datetime(2025, 3, 8, 12, 20, tzinfo=UTC)),
        ("2025-03-08T15:20:00", None),
        ("0", None),
        ("", None),
        ("99999999999999", None),
        ("08.03.2025", None),
    ],
)
def test_moments_are_read_with_their_zone(told: str, found: datetime | None) -> None:
    """A moment of an unknown zone would move a deal by hours."""
    assert moment(told) == found


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("5000.10", Decimal("5000.10")),
        ("0", Decimal(0)),
        ("999.89999999999998", Decimal("999.9")),
        ("1e3", Decimal(1000)),
        ("", None),
        ("NaN", None),
        ("300|RUB", None),
    ],
)
def test_sums_are_exact(told: str, found: Decimal | None) -> None:
    """An old PHP prints floats with all their noise; zero is a sum, nothing is none."""
    assert number(told) == found


def test_currency_is_a_known_code() -> None:
    """Bitrix24 lets people make codes of their own."""
    assert currency("RUB") == "RUB"
    assert currency("BONUS") is None
    assert currency(None) is None


@pytest.mark.parametrize(
    ("node", "found"), [("662", "662"), ("0", ""), (None, ""), ("²", ""), ("-1", ""), ("a", "")]
)
def test_ids_are_digits(node: Json, found: str) -> None:
    """An empty link is 0, null or an empty text."""
    assert object_id(node) == found


def test_items_are_grouped_in_order() -> None:
    """Lists are asked for by so many ids at a time."""
    assert list(map(list, chunks(range(5), 2))) == [[0, 1], [2, 3], [4]]


@given(st.binary())
def test_any_bytes_are_read_or_none(body: bytes) -> None:
    """Whatever stands between us and the CRM may answer."""
    told = read_object(body)

    assert told is None or isinstance(told, dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_answer_is_storable_text(told: dict[str, object]) -> None:
    """PostgreSQL holds neither NUL nor half of a surrogate pair."""
    node = read_object(json.dumps(told).encode())

    for value in (node or {}).values():
        assert "\0" not in text(value)
        text(value).encode()
        moment(value)
        number(value)
