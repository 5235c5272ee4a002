"""A spreadsheet is opened as people have it, and what only looks like one is told."""

# ruff: noqa: RUF001 - spreadsheets in Russian

import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook

from closedloop.edge.cli.import_file import NumberedRow, open_table, refuse_foreign
from closedloop.errors import CallerError, OperatorError
from closedloop.parse.bodies import JsonNumber

TEXT = "ID;Телефон;Сумма\r\n1;+79000000000;5 000,00\r\n"
ROWS: list[NumberedRow] = [(1, ["ID", "Телефон", "Сумма"]), (2, ["1", "+79000000000", "5 000,00"])]

Save = Callable[[str | bytes], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a file under the name `deals` and return where it is."""

    def saved(content: str | bytes) -> Path:
        path = tmp_path / "deals"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return saved


def rows_of(path: Path) -> list[NumberedRow]:
    """Return all rows of a file."""
    return list(open_table(path).rows())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251", "cp866"])
def test_csv_is_read_in_its_encoding(save: Save, encoding: str) -> None:
    """What stands at the front of a file to mark it is no part of the first name."""
    assert rows_of(save((TEXT * 9).encode(encoding)))[:2] == ROWS


def test_line_that_says_the_delimiter_is_no_row(save: Save) -> None:
    """Excel does not show it, so the numbers of the rows begin behind it."""
    assert rows_of(save("sep=;\r\n" + TEXT)) == ROWS


def test_rows_are_numbered_as_a_spreadsheet_shows_them(save: Save) -> None:
    """A cell of two lines is one row, and an empty row counts."""
    path = save('ID;Телефон\n1;"+79000000000\nвечером"\n\n2;+79110000000\n')

    assert [(number, row) for number, row in rows_of(path) if number > 1] == [
        (2, ["1", "+79000000000\nвечером"]),
        (3, []),
        (4, ["2", "+79110000000"]),
    ]


def test_record_that_breaks_the_csv_does_not_stop_the_others(save: Save) -> None:
    """A quote that nobody closed swallows what follows, up to a limit, and is told."""
    path = save('ID;Телефон\n1;"+7900' + "x" * 140_000 + "\n2;+79110000000\n")

    rows = dict(rows_of(path))

    assert isinstance(rows[2], CallerError)
    assert rows[2].key == "row"
    assert rows[3] == ["2", "+79110000000"]


def test_bytes_of_no_letter_are_kept_visible(save: Save) -> None:
    """One byte that cannot be read must not cost a whole table."""
    path = save("ID;Телефон;Имя\n1;+79000000000;".encode("cp1251") + b"\x98\n")

    assert rows_of(path)[1] == (2, ["1", "+79000000000", "\ufffd"])


def workbook(path: Path) -> Path:
    """Save a workbook with a hidden sheet, titles, numbers and dates, and return where it is."""
    book = Workbook()
    hidden = book.active
    assert hidden is not None
    hidden.title = "Справочник"
    hidden.sheet_state = "hidden"
    sheet = book.create_sheet("Сделки")
    book.create_sheet("Ещё")
    sheet.append(["Отчёт"])
    sheet.append([])
    sheet.append(["ID", "ym_uid", "Сумма", "Дата"])
    sheet.append([7, 1741000000123456000, 5000.5, datetime(2025, 3, 8, 15, 20)])  # noqa: DTZ001 - as Excel has it
    sheet.append(["8", "1741000000123456787", "=1+1"])
    book.save(path)
    return with_whole_id(path)


def with_whole_id(path: Path) -> Path:
    """Put all digits of an id into a workbook, as other programs write them; openpyxl itself rounds."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part.replace(b"1.741000000123456e+18", b"1741000000123456789"))
    return path


def test_first_visible_sheet_of_a_workbook_is_read(tmp_path: Path) -> None:
    """Numbers keep their digits, dates are dates, and the sheet that nobody sees is passed over."""
    table = open_table(workbook(tmp_path / "deals.xlsx"))

    rows = dict(table.rows())

    assert (table.sheet, table.other_sheets) == ("Сделки", ("Ещё",))
    assert rows[1] == ["Отчёт"]
    assert rows[4] == [
        JsonNumber("7"),
        JsonNumber("1741000000123456789"),
        JsonNumber("5000.5"),
        "2025-03-08 15:20:00",
    ]
    assert list(rows[5])[:2] == ["8", "1741000000123456787"]  # type: ignore[arg-type]


def test_table_can_be_read_again(tmp_path: Path) -> None:
    """It is looked at first, and recorded when its owner agrees."""
    table = open_table(workbook(tmp_path / "deals.xlsx"))

    assert list(table.rows()) == list(table.rows())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old .xls or has a password"),
        (b"\xef\xbb\xbf\r\n<html><table>", "web page under the name of a spreadsheet"),
        (b"%PDF-1.7", "neither CSV nor XLSX"),
        (b"\x00\x01\x02", "neither CSV nor XLSX"),
        (b"PK\x03\x04 no archive", "is a broken workbook"),
    ],
)
def test_what_is_no_table_is_told_with_what_to_do(save: Save, content: bytes, said: str) -> None:
    """CRMs export web pages and old formats under the names of spreadsheets."""
    with pytest.raises(OperatorError, match=said):
        open_table(save(content))


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The name was typed by hand."""
    with pytest.raises(OperatorError, match="cannot be read: No such file"):
        open_table(tmp_path / "none.csv")


def test_workbook_that_breaks_off_is_told(tmp_path: Path) -> None:
    """A download was cut."""
    path = workbook(tmp_path / "deals.xlsx")
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(OperatorError, match="is a broken workbook"):
        rows_of(path)


def test_bytes_of_utf16_are_no_foreign_format(tmp_path: Path) -> None:
    """Every second byte of it is zero."""
    refuse_foreign(tmp_path, "ID;1".encode("utf-16"))


def test_memory_does_not_grow_with_the_rows(save: Save) -> None:
    """An export of years is read beside a server with little memory."""
    path = save("ID;Телефон;Сумма\n" + "".join(f"{n};+7900{n:07};5000\n" for n in range(50_000)))
    tracemalloc.start()

    count = sum(1 for _ in open_table(path).rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 50_001
    assert peak < 4_000_000
