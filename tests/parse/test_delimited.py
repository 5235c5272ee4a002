"""A CSV says neither its encoding nor its delimiter: read wrongly, names become noise and sums split."""

# ruff: noqa: RUF001 - spreadsheets in Russian

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.parse.delimited import guess_delimiter, guess_encoding

TEXT = "Телефон;Сумма;Этап\r\n+79000000000;5\u00a0000,00;Успешно реализовано\r\n" * 3


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("cp1251", "cp1251"),
        ("cp866", "cp866"),
    ],
)
def test_encoding_is_recognised(encoding: str, name: str) -> None:
    """Excel saves four of them under names that nobody tells apart."""
    assert guess_encoding([TEXT.encode(encoding)]) == name


def test_plain_letters_and_digits_are_utf8() -> None:
    """An export without one Russian letter may still have one in its millionth row."""
    assert guess_encoding([b"phone;sum\n", b"+79000000000;5\n"]) == "utf-8"
    assert guess_encoding([]) == "utf-8"


def test_blank_between_thousands_is_no_letter_of_dos() -> None:
    """Windows writes it as the byte that DOS has for a letter, and a table has more sums than names."""
    text = "phone;Сумма\n" + "+79000000000;5\u00a0000\n" * 99

    assert guess_encoding([text.encode("cp1251")]) == "cp1251"


@given(st.text(), st.integers(1, 7))
def test_what_is_utf8_is_taken_for_it_however_it_is_cut(text: str, size: int) -> None:
    """A chunk may end in the middle of a letter."""
    encoded = b"a" + text.encode()

    chunks = [encoded[at : at + size] for at in range(0, len(encoded), size)]

    assert guess_encoding(chunks) == "utf-8"


@given(st.lists(st.binary()))
def test_any_bytes_get_an_encoding_that_exists(chunks: list[bytes]) -> None:
    """A guess is made for whatever was given, and Python knows it."""
    b"".join(chunks).decode(guess_encoding(chunks), errors="replace")


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_delimiter_is_the_one_that_names_columns(delimiter: str) -> None:
    """The other marks stand inside of sums and names."""
    rows = [["Телефон", "Сумма", "Дата"], ["+79000000000", '"5 000,00; 1|2"', "08.03.2025"]]

    text = "\n".join(map(delimiter.join, rows))

    assert guess_delimiter(text) == delimiter


def test_delimiter_of_unknown_names_is_the_one_that_fits_all_rows() -> None:
    """The owner will say which column is which, if they see columns at all."""
    assert guess_delimiter("Кто;Сколько\nАнна, Москва;5\nБорис;7\nВера, Тула;1\n") == ";"


def test_delimiter_that_is_said_is_taken() -> None:
    """Excel writes this line itself, and obeys it."""
    assert guess_delimiter("sep=|\r\nphone;sum\r\n") == "|"
    assert guess_delimiter('"sep=,"\nphone;sum\n') == ","


@given(st.text())
def test_any_text_gets_a_delimiter(text: str) -> None:
    """A file of one word is still a table, of one column."""
    assert len(guess_delimiter(text)) == 1
