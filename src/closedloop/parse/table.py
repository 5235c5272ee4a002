"""Rows of a spreadsheet to the conversions that they report, as the hook would read them; opens no file."""

import hashlib
import math
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import CallerError
from closedloop.parse import fields as read
from closedloop.parse.bodies import Field, JsonNumber
from closedloop.parse.crm.hook import HookRequest, read_conversions
from closedloop.parse.headings import STATUS, Column

Cell = str | JsonNumber
Row = Sequence[Cell]

_EXACT_IN_A_DOUBLE = 2**53
_MAX_DECIMALS = 6  # what the ledger holds
# `="1741000000123456789"` and `'1741000000123456789`: how people keep a spreadsheet from rounding.
_AS_TEXT = re.compile(r'="([^"]*)"|\'([^\']*)')
# Days since the end of 1899, which is what a spreadsheet holds where it shows a date: 2000 to 2099. As
# seconds of Unix they would all be the first day of 1970.
_DAY_ZERO = datetime(1899, 12, 30)  # noqa: DTZ001 - the zone is the site's
_FIRST_DAY, _LAST_DAY = 36_526, 73_050
_SERIAL = re.compile(r"([0-9]{5})(?:[.,]([0-9]{1,12}))?")
_ROUNDED = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
_AMOUNTS = frozenset({"goal_value"})
_IDS = ("session_id", "deal_id", "event_id")


class TableRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it was read. `body` is the same as a request to the hook would carry it, in JSON."""

    told: ReportedConversion
    body: bytes


class TableReader:
    """Reads the rows below a header.

    `goal` is for rows that name none. `only`: the stages whose rows count, in any case of letters; empty:
    all. `now` is what nothing may lie behind.
    """

    def __init__(
        self, columns: Sequence[Column], *, goal: str, only: Collection[str], zone: ZoneInfo, now: datetime
    ) -> None:
        self.columns = columns
        self.goal = goal
        self.only = frozenset(stage.strip().casefold() for stage in only)
        self.zone = zone
        self.now = now
        self.currency = next((one.currency for one in columns if one.key == "goal_value"), None)

    def status(self, row: Row) -> str | None:
        """Return the stage that a row names, None when the table has no such column."""
        place = next((one.place for one in self.columns if one.key == STATUS), None)
        return None if place is None else text_of(row[place]) if place < len(row) else ""

    def counts(self, row: Row) -> bool:
        """Return whether the stage of a row is one of those that count."""
        return not self.only or (self.status(row) or "").casefold() in self.only

    def read(self, row: Row) -> TableRow:
        """Return what a row reports.

        A row that names neither a deal nor an event is one event by all that was read in it: the same row
        again, in whatever file, is the same conversion. Raises CallerError, MissingIdError.
        """
        fields = read.first_usable(self.pairs(row), _AMOUNTS)
        for key in _IDS:
            refuse_rounded(key, fields.get(key))
        request = HookRequest(content_type="application/json", body=_json_body(fields))
        told = read_conversions(request, zone=self.zone, now=self.now).conversions[0]
        if self.currency is not None and told.currency is None:
            fields["currency"] = self.currency
            told = msgspec.structs.replace(told, currency=self.currency)
        digest = digest_of_row(told)
        if told.deal_id is None and told.event_id is None:
            fields["event_id"] = f"row:{digest.hex()[:32]}"
            told = msgspec.structs.replace(told, event_id=fields["event_id"])
        told = msgspec.structs.replace(told, digest=digest)
        return TableRow(told=told, body=_json_body(fields))

    def pairs(self, row: Row) -> list[Field]:
        """Return the cells of a row by key, in the order of preference."""
        found: list[Field] = []
        for column in self.columns:
            if column.place >= len(row) or column.key == STATUS:
                continue
            cell = unwrapped(row[column.place])
            found.append((column.key, day_of(cell) if column.key == "occurred_at" else cell))
        found.append(("goal_name", self.goal))
        return found


def as_cell(value: object) -> Cell:
    """Return the value of a spreadsheet's cell: a text, a date as text, or a number in its own digits.

    A whole number keeps all digits that the file has. A fraction is what the spreadsheet shows of it: six
    decimals, without the noise of binary fractions. None and what is no number are empty.
    """
    match value:
        case None:
            return ""
        case int() | float() if not isinstance(value, bool):
            return _number(value)
        case datetime():
            return (
                (value + timedelta(microseconds=500_000)).replace(microsecond=0, tzinfo=None).isoformat(" ")
            )
        case _:
            return str(value)


def text_of(cell: Cell) -> str:
    """Return what stands in a cell, trimmed."""
    return read.trimmed(cell if isinstance(cell, str) else cell.text)


def is_blank(row: Row) -> bool:
    """Return whether nothing stands in a row."""
    return not any(text_of(cell) for cell in row)


def unwrapped(cell: Cell) -> Cell:
    """Return a cell without the marks that only keep a spreadsheet from reading it as a number."""
    told = _AS_TEXT.fullmatch(read.trimmed(cell)) if isinstance(cell, str) else None
    return cell if told is None else told[1] if told[1] is not None else told[2]


def day_of(cell: Cell) -> Cell:
    """Return a date where a cell holds the number of days that a spreadsheet counts (`45234.5`)."""
    found = _SERIAL.fullmatch(text_of(cell))
    if found is None or not _FIRST_DAY <= int(found[1]) <= _LAST_DAY:
        return cell
    seconds = round(Decimal(f"0.{found[2] or 0}") * 86_400)
    return (_DAY_ZERO + timedelta(days=int(found[1]), seconds=seconds)).isoformat(" ")


def refuse_rounded(key: str, value: object) -> None:
    """Raise CallerError for an id such as `1,23457E+11`: many ids became that one text."""
    text = value.text if isinstance(value, JsonNumber) else value
    if isinstance(text, str) and _ROUNDED.fullmatch(read.trimmed(text)):
        raise CallerError(
            key, "was rounded by the spreadsheet; format the column as text and export again", shown=text
        )


def digest_of_row(told: ReportedConversion) -> bytes:
    """Return what recognises a row again, in whatever format and order of columns it comes."""
    value = None if told.value is None else f"{told.value.normalize():f}"
    when = None if told.occurred_at is None else told.occurred_at.isoformat()
    plain = msgspec.structs.replace(told, value=None, occurred_at=None, digest=b"")
    return hashlib.sha256(msgspec.json.encode((plain, value, when))).digest()


def _number(value: float) -> Cell:
    if isinstance(value, int):
        return JsonNumber(str(value))
    if not math.isfinite(value):
        return ""
    if abs(value) > _EXACT_IN_A_DOUBLE:
        return JsonNumber(repr(value))
    text = f"{value:.{_MAX_DECIMALS}f}".rstrip("0").rstrip(".")
    return JsonNumber("0" if text == "-0" else text)


def _json_body(fields: read.Fields) -> bytes:
    """Return fields as a sender of JSON would write them, numbers in their own digits."""
    told = {
        key: msgspec.Raw(value.text.encode()) if isinstance(value, JsonNumber) else value
        for key, value in fields.items()
    }
    try:
        return msgspec.json.encode(told)
    except UnicodeEncodeError as error:
        raise CallerError("row", "is not valid Unicode text") from error
