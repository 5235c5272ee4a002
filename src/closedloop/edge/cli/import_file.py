"""A spreadsheet's file to its rows, one at a time: CSV as it comes, or the first visible sheet of an XLSX."""

import contextlib
import csv
import functools
import itertools
import warnings
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from xml.etree.ElementTree import ParseError

import msgspec
from openpyxl import Workbook, load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from closedloop.errors import CallerError, OperatorError
from closedloop.parse.delimited import SAMPLE_ROWS, SEPARATOR_LINE, guess_delimiter, guess_encoding
from closedloop.parse.table import Row, as_cell

NumberedRow = tuple[int, Row | CallerError]

CHUNK = 1024 * 1024
HEAD = 4096
ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0"
# What a workbook can be broken in: the archive, its XML, what the XML refers to.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ParseError, InvalidFileException),
    *(KeyError, IndexError, TypeError, ValueError),
)


class TableFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that can be read as a table, as often as wanted."""

    path: Path
    encoding: str = ""  # of a CSV
    delimiter: str = ""
    sheet: str = ""  # of an XLSX
    other_sheets: tuple[str, ...] = ()

    def rows(self) -> Generator[NumberedRow]:
        """Yield the rows with their numbers as a spreadsheet shows them, from 1, or why one cannot be read.

        Raises OperatorError when the file breaks off.
        """
        return sheet_rows(self) if self.sheet else csv_rows(self)


def open_table(path: Path) -> TableFile:
    """Return what a file is. Raises OperatorError with what to do, when it is no table that can be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            refuse_foreign(path, head)
            if head.startswith(ZIP):
                return open_workbook(path)
            chunks = iter(functools.partial(file.read, CHUNK), b"")
            encoding = guess_encoding(itertools.chain([head], chunks))
    except OSError as error:
        raise OperatorError(f"{path}: cannot be read: {error.strerror}") from error
    with path.open(encoding=encoding, errors="replace", newline="") as text:
        sample = "".join(itertools.islice(text, 2 * SAMPLE_ROWS))
    return TableFile(path=path, encoding=encoding, delimiter=guess_delimiter(sample))


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise OperatorError for what is called a table and is none."""
    if not head.strip():
        raise OperatorError(f"{path}: is empty")
    if head.startswith(OLE):
        raise OperatorError(
            f"{path}: is an old .xls or has a password; save it as .xlsx without one, or as CSV"
        )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise OperatorError(
            f"{path}: is a web page under the name of a spreadsheet, as Bitrix24 exports for Excel; "
            "open it in Excel and save it as .xlsx, or export CSV"
        )
    if head.startswith(b"%PDF") or (b"\0" in head and not head.startswith((ZIP, b"\xff\xfe", b"\xfe\xff"))):
        raise OperatorError(f"{path}: is neither CSV nor XLSX")


def open_workbook(path: Path) -> TableFile:
    """Return the first visible sheet of a workbook. Raises OperatorError when it is broken or has none."""
    with workbook(path) as book:
        names = [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
    if not names:
        raise OperatorError(f"{path}: has no visible sheet")
    return TableFile(path=path, sheet=names[0], other_sheets=tuple(names[1:]))


def csv_rows(table: TableFile) -> Generator[NumberedRow]:
    """Yield the rows of a CSV; a record that breaks its rules is an error, and the next one is read."""
    with table.path.open(encoding=table.encoding, errors="replace", newline="") as file:
        if not SEPARATOR_LINE.fullmatch(file.readline()):
            file.seek(0)
        reader = csv.reader(file, delimiter=table.delimiter)
        for number in itertools.count(1):
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield number, CallerError("row", f"breaks the CSV: {error}")
                continue
            if row is None:
                return
            yield number, row


def sheet_rows(table: TableFile) -> Generator[NumberedRow]:
    """Yield the rows of a sheet, formulas as the values that were last shown."""
    with workbook(table.path) as book:
        sheet = book[table.sheet]
        sheet.reset_dimensions()
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
            yield number, [as_cell(value) for value in row]


@contextlib.contextmanager
def workbook(path: Path) -> Generator[Workbook]:
    """Give a workbook that is read row by row. Raises OperatorError for a broken one, early or late."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and charts, which nobody reads here
        try:
            book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
            with contextlib.closing(book):
                yield book
        except BROKEN as error:
            raise OperatorError(
                f"{path}: is a broken workbook ({type(error).__name__}); open it and save it anew"
            ) from error
