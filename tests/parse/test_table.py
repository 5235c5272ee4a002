"""A row of a spreadsheet is a deal with its money: read as the hook reads it, or told by its key."""

# ruff: noqa: RUF001 - spreadsheets in Russian

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.conversion import dedup_key
from closedloop.errors import CallerError, MissingIdError
from closedloop.parse.bodies import JsonNumber
from closedloop.parse.crm.hook import HookRequest, read_conversions
from closedloop.parse.headings import guess_columns
from closedloop.parse.table import (
    Cell,
    Row,
    TableReader,
    TableRow,
    as_cell,
    day_of,
    digest_of_row,
    is_blank,
    refuse_rounded,
    text_of,
    unwrapped,
)

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")
NAMES = "ID", "Сумма", "ym_uid", "Телефон", "Дата оплаты"
LONG_ID = 1_741_000_000_123_456_789


def reader(*names: str, only: tuple[str, ...] = (), goal: str = "sale") -> TableReader:
    """Return a reader of a table with these names."""
    return TableReader(guess_columns(names or NAMES, {}), goal=goal, only=only, zone=MOSCOW, now=NOW)


def read(row: Row, *names: str) -> TableRow:
    """Return what a row of such a table says."""
    return reader(*names).read(row)


def test_row_is_read_as_people_write() -> None:
    """The sum has blanks, the date has dots, the phone has brackets."""
    told = read(["662", "5 000,50 руб.", "1741000000123456787", "8 (900) 000-00-00", "08.03.2025 15:20"]).told

    assert (told.deal_id, told.goal, told.value, told.currency) == ("662", "sale", Decimal("5000.50"), "RUB")
    assert (told.ym_uid, told.ym_uid_interval) == ("1741000000123456787", None)
    assert told.phone == "+79000000000"
    assert told.occurred_at == datetime(2025, 3, 8, 15, 20, tzinfo=MOSCOW)


def test_row_may_end_early_and_have_empty_cells() -> None:
    """A CSV leaves out what is empty at the end."""
    told = read(["662", "", "", "+79000000000"]).told

    assert (told.value, told.ym_uid, told.occurred_at) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (["662", "пять", "", "+79000000000"], "goal_value"),
        (["662", "5", "17x", "+79000000000"], "ym_uid"),
        (["662", "5", "", "+79000000000", "не закрыта"], "occurred_at"),
        (["662", "5", "", "+79000000000", "08.03.2027"], "occurred_at"),
        (["662", "5", "", "нет"], "phone"),
        (["66\0002", "5", "", "+79000000000"], "deal_id"),
        (["1,23457E+11", "5", "", "+79000000000"], "deal_id"),
        ([JsonNumber("1.23457e+25"), "5", "", "+79000000000"], "deal_id"),
        ([JsonNumber("66.5"), "5", "", "+79000000000"], "deal_id"),
        (["6" * 256, "5", "", "+79000000000"], "deal_id"),
    ],
)
def test_bad_cell_is_refused_by_its_key(row: Row, key: str) -> None:
    """The owner finds the cell by its column, and the other rows go on."""
    with pytest.raises(CallerError) as caught:
        read(row)

    assert caught.value.key == key


def test_text_that_cannot_be_stored_is_refused() -> None:
    """Half of an emoji is left where a program cut a name."""
    with pytest.raises(CallerError, match="row is not valid Unicode text"):
        read(["662\ud83d", "5", "", "+79000000000"])


def test_row_without_a_visitor_is_refused() -> None:
    """The line with the total has a sum, and is nobody's."""
    with pytest.raises(MissingIdError):
        read(["Итого", "1 000 000"])


@pytest.mark.parametrize(
    ("cell", "digits"),
    [
        ("1.7E+18", "1700000000000000000"),
        ("1,741E+18", "1741000000000000000"),
        ("1741000000123450000", "1741000000123450000"),
        (as_cell(1.74100000012345e18), "1741000000123450000"),
        (as_cell(float(LONG_ID)), "1741000000123456800"),
    ],
)
def test_rounded_id_is_noticed(cell: Cell, digits: str) -> None:
    """Every spreadsheet that opens an export does this, and nobody sees it."""
    told = read(["1", "", cell]).told

    assert told.ym_uid == digits
    assert told.ym_uid_interval is not None
    low, high = map(int, told.ym_uid_interval)
    assert low <= LONG_ID <= high or cell == "1.7E+18"


def test_id_that_a_workbook_keeps_whole_is_not_rounded() -> None:
    """A program that writes a workbook writes all nineteen digits, and they are read from the file."""
    told = read(["1", "", as_cell(LONG_ID)]).told

    assert (told.ym_uid, told.ym_uid_interval) == (str(LONG_ID), None)


@pytest.mark.parametrize(
    "cell", ['="1741000000123456787"', "'1741000000123456787", " 1741000000123456787\u00a0"]
)
def test_marks_that_keep_an_id_whole_are_taken_off(cell: str) -> None:
    """Careful people put them there so that the spreadsheet does not round."""
    assert read(["1", "", cell]).told.ym_uid == "1741000000123456787"


@pytest.mark.parametrize(
    ("value", "sum_"),
    [
        (5000, "5000"),
        (5000.0, "5000"),
        (1.125, "1.125"),
        (0.1 + 0.2, "0.3"),
        (1000 / 3, "333.333333"),
        (-12.5, "-12.5"),
        (-0.0, "0"),
    ],
)
def test_number_of_a_workbook_is_money_as_it_is_shown(value: float, sum_: str) -> None:
    """Binary fractions have noise at their end, and a point with three digits behind is no thousand."""
    assert read(["1", as_cell(value), "", "+79000000000"]).told.value == Decimal(sum_)


def test_currency_of_the_column_is_for_sums_that_tell_none() -> None:
    """The column is in dollars, and one cell says euro."""
    names = "Сумма, USD", "Телефон"

    assert read(["5", "+79000000000"], *names).told.currency == "USD"
    assert read(["5 €", "+79000000000"], *names).told.currency == "EUR"
    assert read(["5", "+79000000000", "RUB"], *names, "Валюта").told.currency == "RUB"


def test_first_phone_that_is_filled_counts() -> None:
    """The work phone is empty, the mobile one is not."""
    told = read(["", "+79000000000"], "Телефон", "Мобильный телефон").told

    assert told.phone == "+79000000000"


def test_goal_of_a_row_wins_over_the_one_for_all() -> None:
    """A table may hold orders and their deliveries."""
    names = "Телефон", "Цель"

    assert read(["+79000000000", "delivery_paid"], *names).told.goal == "delivery_paid"
    assert read(["+79000000000", ""], *names).told.goal == "sale"


def test_stages_choose_the_rows() -> None:
    """Lost deals stand in the same export, and are no sales."""
    some = reader("Телефон", "Этап сделки", only=("успешно реализовано ",))

    rows = [["1", "Успешно реализовано"], ["2", "Закрыто и не реализовано"], ["3"]]

    assert [some.counts(row) for row in rows] == [True, False, False]
    assert [some.status(row) for row in rows] == ["Успешно реализовано", "Закрыто и не реализовано", ""]
    assert reader().counts(["1"])
    assert reader().status(["1"]) is None


def test_deal_counts_once_whatever_else_changes() -> None:
    """The same export a month later has the same deals with other words around them."""
    first = read(["662", "5", "", "+79000000000"]).told
    later = read(["662", "7", "", "+79110000000", "08.03.2025"]).told

    assert dedup_key(first) == dedup_key(later)


def test_row_without_a_number_is_recognised_in_any_format() -> None:
    """The table was saved as XLSX and sorted anew; it is still the same sale."""
    told = read(["5 000,00", "8 900 000-00-00", "08.03.2025"], "Сумма", "Телефон", "Дата").told
    again = read(
        [as_cell(datetime(2025, 3, 8)), as_cell(79000000000.0), as_cell(5000.0)],  # noqa: DTZ001 - as Excel has it
        *("Дата", "Телефон", "Сумма"),
    ).told

    assert told.event_id is not None
    assert dedup_key(told) == dedup_key(again)
    assert dedup_key(told).rule == "event"


@pytest.mark.parametrize(
    "change", [["6", "+79000000000"], ["5", "+79000000001"], ["5 USD", "+79000000000"], ["", "+79000000000"]]
)
def test_row_without_a_number_differs_by_all_it_says(change: list[str]) -> None:
    """Two sales of one day must not become one."""
    names = "Сумма", "Телефон"

    assert read(change, *names).told.digest != read(["5", "+79000000000"], *names).told.digest


CELLS = st.one_of(
    st.text(max_size=30),
    st.integers(-(10**21), 10**21).map(as_cell),
    st.floats().map(as_cell),
    st.datetimes().map(as_cell),
    st.sampled_from(["1.7E+18", '="5"', "'5", "5 000 руб.", "+79000000000", "45234.5", "", "\0", "null"]),
)


@given(st.lists(CELLS, max_size=7))
def test_any_row_is_read_or_refused_by_a_key(row: list[Cell]) -> None:
    """A table of two hundred thousand rows has everything in it, and must not stop in the middle."""
    try:
        told = read(row, *NAMES, "yclid", "Сумма").told
    except CallerError as error:
        blamed = error.key
    else:
        blamed = "" if told.deal_id or told.event_id else "nothing"

    assert blamed in {"", "session_id", "deal_id", "goal_value", "ym_uid", "phone", "occurred_at", "yclid"}


@given(st.lists(CELLS, max_size=7))
def test_body_of_a_row_is_the_same_request_to_the_hook(row: list[Cell]) -> None:
    """What the inbox keeps can be sent to the hook again, and means the same."""
    try:
        one = read(row, "Сумма, USD", "ym_uid", "Телефон", "Дата", "email", "yclid", "ID")
    except CallerError:
        return

    request = HookRequest(content_type="application/json", body=one.body)
    again = read_conversions(request, zone=MOSCOW, now=NOW).conversions[0]

    assert msgspec.structs.replace(again, digest=one.told.digest) == one.told


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("  текст ", "  текст "),
        (True, "True"),
        (LONG_ID, JsonNumber(str(LONG_ID))),
        (1.7e18, JsonNumber("1.7e+18")),
        (float("nan"), ""),
        (float("inf"), ""),
        (datetime(2025, 3, 8, 15, 19, 59, 999_998), "2025-03-08 15:20:00"),  # noqa: DTZ001 - as Excel has it
        (date(2025, 3, 8), "2025-03-08"),
        (time(15, 20), "15:20:00"),
        (timedelta(hours=1), "1:00:00"),
    ],
)
def test_value_of_a_workbook_becomes_a_cell(value: object, cell: Cell) -> None:
    """What a library gives for a cell is of many types, and each has one meaning."""
    assert as_cell(value) == cell


@pytest.mark.parametrize(
    ("cell", "day"),
    [
        ("45234", "2023-11-04 00:00:00"),
        ("45234.5", "2023-11-04 12:00:00"),
        ("45234,75", "2023-11-04 18:00:00"),
        (JsonNumber("36526"), "2000-01-01 00:00:00"),
        ("73050", "2099-12-31 00:00:00"),
    ],
)
def test_number_of_days_is_a_date(cell: Cell, day: str) -> None:
    """A cell lost its format, and a date shows as the number that it always was."""
    assert day_of(cell) == day


@pytest.mark.parametrize("cell", ["36525", "73051", "1741436400", "08.03.2025", "", JsonNumber("5")])
def test_other_numbers_are_no_days(cell: Cell) -> None:
    """Seconds of Unix stay seconds, and a date stays as it was written."""
    assert day_of(cell) == cell


@pytest.mark.parametrize(("make", "text"), [(str, "1,2E+5"), (JsonNumber, "1e+20")])
def test_id_with_an_exponent_is_refused(make: Callable[[str], Any], text: str) -> None:
    """Different orders look the same in it, and all but one would be lost."""
    with pytest.raises(CallerError, match=r"deal_id was rounded by the spreadsheet"):
        refuse_rounded("deal_id", make(text))


@pytest.mark.parametrize("value", ["E5", "2025E", "12345", None, JsonNumber("12345")])
def test_other_ids_are_not_refused(value: object) -> None:
    """Letters in the number of an order are common."""
    refuse_rounded("deal_id", value)


def test_small_helpers_tell_what_stands_in_a_cell() -> None:
    """Blanks of no width come along when cells are copied."""
    assert text_of("\u200b 5\u00a0") == "5"
    assert text_of(JsonNumber("5")) == "5"
    assert is_blank(["", " \u00a0", "\ufeff"])
    assert not is_blank(["", JsonNumber("0")])
    assert unwrapped(JsonNumber("5")) == JsonNumber("5")
    assert unwrapped("it's") == "it's"


def test_digest_does_not_see_how_money_was_written() -> None:
    """5 000,00 and 5000 are one sum."""
    told = read(["1", "5", "", "+79000000000"]).told

    written = msgspec.structs.replace(told, value=Decimal("5.00"))

    assert digest_of_row(told) == digest_of_row(written)
