"""A cell that breaks its row puts money on the wrong visitor, so a file comes back as it was written."""

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.metrica_file import cell, csv_bytes, form_of, price
from platforms.uploaded import Part, read_parts

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
HEADER = ("id", "client_ids", "revenue")


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT)))
def test_csv_comes_back_as_it_was_written(rows: list[tuple[str, str, str]]) -> None:
    """Whatever stands in a deal's number, its neighbours stay in their columns."""
    content = csv_bytes(HEADER, rows).decode()

    read = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    assert read == [list(HEADER), *([cell(value) for value in row] for row in rows)]


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT)))
def test_csv_has_one_line_for_each_row(rows: list[tuple[str, str, str]]) -> None:
    """A reader that splits at line ends before it looks for quotes sees the same rows."""
    content = csv_bytes(HEADER, rows)

    assert content.count(b"\n") == len(rows) + 1
    assert b"\r" not in content
    assert not content.startswith(b"\xef\xbb\xbf")


def test_csv_keeps_long_ids_as_text() -> None:
    """A ClientID does not fit a double; an apostrophe or an exponent would match nobody."""
    content = csv_bytes(HEADER, [("=1+1", "17410000001234567890", "5000")])

    assert content == b"id,client_ids,revenue\n=1+1,17410000001234567890,5000\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("5000", "5000"),
        ("5000.00", "5000"),
        ("123.4", "123.40"),
        ("0.005", "0.01"),
        ("1E+3", "1000"),
        ("0", "0"),
        ("999999999999999.994", "999999999999999.99"),
    ],
)
def test_price_has_a_point_and_two_places(value: str, shown: str) -> None:
    """An exponent or a comma would be refused, and nobody would be told which row."""
    assert price(Decimal(value)) == shown


@given(st.binary(max_size=200), st.sampled_from(["a1b2", "0199a3c4d5e67f8091a2b3c4d5e6f708"]))
def test_form_holds_the_file_and_nothing_else(content: bytes, name: str) -> None:
    """A reader of forms that is not ours finds one part with these bytes."""
    content += f"\r\n--closedloop-{name}--\r\n".encode()

    kind, body = form_of(content, f"{name}.csv")

    assert read_parts(kind, body) == [Part("file", f"{name}.csv", "text/csv", content)]


def test_form_is_the_same_for_the_same_batch() -> None:
    """A batch that goes again after a crash goes as it was."""
    assert form_of(b"id\n1\n", "a1.csv") == form_of(b"id\n1\n", "a1.csv")
