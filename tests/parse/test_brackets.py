"""Forms with brackets become trees whatever their order, gaps and oddities."""

from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import CallerError, TooLargeError
from closedloop.parse.brackets import MAX_DEPTH, Tree, branch, query_tree, read_tree, rows, text

FORM = "application/x-www-form-urlencoded"
LIMIT = 1024 * 1024


def tree(body: str) -> Tree:
    """Return the tree of a form."""
    return read_tree(body.encode(), FORM, max_bytes=LIMIT)


def test_brackets_nest_and_keep_their_order() -> None:
    """Labels are names: 10 may stand before 2, and nothing is between them."""
    told = tree("leads%5Bstatus%5D%5B10%5D%5Bid%5D=1&leads[status][2][id]=2&account[id]=3")

    assert [(label, text(row, "id")) for label, row in rows(told, "leads", "status")] == [
        ("10", "1"),
        ("2", "2"),
    ]
    assert text(told, "account", "id") == "3"


def test_scalar_and_container_of_one_path_are_both_kept() -> None:
    """A note of amoCRM has been seen with both."""
    for body in ("type=3&type[message_uuid]=x", "type[message_uuid]=x&type=3"):
        told = tree(body)
        assert (text(told, "type"), text(told, "type", "message_uuid")) == ("3", "x")


def test_empty_brackets_take_the_next_free_place() -> None:
    """PHP's own way to add to a list; a place that is taken is passed over."""
    assert tree("a[]=1&a[]=2&a[3]=3&a[]=4") == {"a": {"0": "1", "1": "2", "3": "3", "4": "4"}}


@pytest.mark.parametrize("name", ["a[", "a[b", "a[b][", "[", "[]", "]", "a]b[", ""])
def test_unclosed_brackets_are_read_and_never_fail(name: str) -> None:
    """Such a body is on record."""
    tree(f"{quote_plus(name)}=1&leads[status][0][id]=7")


def test_json_of_the_same_shape_is_the_same_tree() -> None:
    """Some senders say it in JSON; digits stay as they were written."""
    body = b'{"leads":{"status":[{"id":30100001,"sum":5000.10,"name":null,"on":true}]}}'

    assert read_tree(body, "application/json", max_bytes=LIMIT) == {
        "leads": {"status": {"0": {"id": "30100001", "sum": "5000.10", "on": "1"}}}
    }


def test_more_than_a_thousand_fields_are_all_read() -> None:
    """Many parsers stop there without a word."""
    told = tree("&".join(f"f[{number}][v]={number}" for number in range(5000)))

    assert [text(row, "v") for _, row in rows(told, "f")] == [str(number) for number in range(5000)]


def test_what_is_missing_is_none_and_empty() -> None:
    """No reader has to ask twice."""
    told = tree("a[b]=1")

    assert (text(told, "a"), text(told, "x", "y"), branch(told, "a", "b"), rows(told, "z")) == (
        None,
        None,
        {},
        [],
    )


@pytest.mark.parametrize("body", ["a" + "[b]" * MAX_DEPTH + "=1", '{"a":' * 50 + "1" + "}" * 50, "[{},{}]"])
def test_too_deep_and_arrays_are_the_callers_errors(body: str) -> None:
    """Never the end of the process."""
    with pytest.raises(CallerError):
        tree(body)


def test_body_above_the_limit_is_told() -> None:
    """The limit is the route's."""
    with pytest.raises(TooLargeError):
        read_tree(b"a=1", FORM, max_bytes=2)


@given(st.lists(st.tuples(st.text("ab[]01%=& ", max_size=12), st.text(max_size=5)), max_size=20))
def test_any_names_and_values_give_a_tree(pairs: list[tuple[str, str]]) -> None:
    """Whatever a sender makes of brackets."""
    body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)

    assert isinstance(query_tree(body.encode()), dict)
