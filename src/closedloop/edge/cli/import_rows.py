"""A spreadsheet as a whole: which columns are read, and what all of its rows say before any is recorded."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from closedloop.edge.cli.import_file import NumberedRow, TableFile
from closedloop.errors import CallerError, OperatorError
from closedloop.parse.headings import STATUS, Column, find_header, guess_columns
from closedloop.parse.table import Row, TableReader, TableRow, is_blank, text_of
from closedloop.settings import Site

TITLE_ROWS = 20  # reports have titles above their header
SHOWN_ROWS = 5
KEPT_BAD = 1000
KEPT_STAGES = 50
ASKED = 1000  # rows that the database is asked about


class BadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot be read; `row` is its number in the spreadsheet, `column` the name of its cell's."""

    row: int
    key: str
    column: str
    reason: str


class GoodRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it was read."""

    row: int
    read: TableRow


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a table is read; `header` is the number of the row with the names."""

    table: TableFile
    header: int
    names: Sequence[str]
    columns: Sequence[Column]
    reader: TableReader

    @property
    def unused(self) -> list[str]:
        """The names of the columns that nothing is read from."""
        used = {column.place for column in self.columns}
        return [name for place, name in enumerate(self.names) if place not in used and name]

    def rows(self) -> Iterator[GoodRow | BadRow | None]:
        """Yield what the rows below the header say; None for one whose stage does not count."""
        for number, row in self.below():
            yield self.bad(number, row) if isinstance(row, CallerError) else self.read(number, row)

    def below(self) -> Iterator[NumberedRow]:
        """Yield the rows below the header in which something stands."""
        with contextlib.closing(self.table.rows()) as rows:
            for number, row in rows:
                if number > self.header and (isinstance(row, CallerError) or not is_blank(row)):
                    yield number, row

    def read(self, number: int, row: Row) -> GoodRow | BadRow | None:
        """Return what one row says."""
        if not self.reader.counts(row):
            return None
        try:
            return GoodRow(row=number, read=self.reader.read(row))
        except CallerError as error:
            return self.bad(number, error)

    def bad(self, number: int, error: CallerError) -> BadRow:
        """Return a row that cannot be read, by the name of the column that is to blame."""
        column = next((one.name for one in self.columns if one.key == error.key), "")
        return BadRow(row=number, key=error.key, column=column, reason=str(error))


class Survey(msgspec.Struct, kw_only=True):
    """What all rows of a table say; `sample` is spread evenly over them, `sums` is by currency."""

    rows: int = 0
    good: int = 0
    bad: int = 0
    passed_over: int = 0
    rounded: int = 0
    undated: int = 0
    unpriced: int = 0
    sums: dict[str, Decimal] = {}
    stages: Counter[str] = msgspec.field(default_factory=Counter[str])
    bad_rows: list[BadRow] = []
    first: list[GoodRow] = []
    sample: list[GoodRow] = []
    stride: int = 1

    def add(self, row: GoodRow | BadRow | None, currency: str) -> None:
        """Count one row; `currency` is the site's."""
        self.rows += 1
        match row:
            case None:
                self.passed_over += 1
            case BadRow():
                self.bad += 1
                if len(self.bad_rows) < KEPT_BAD:
                    self.bad_rows.append(row)
            case GoodRow():
                self.add_good(row, currency)

    def add_good(self, row: GoodRow, currency: str) -> None:
        """Count a row that was read, and keep it if it falls into the sample."""
        told = row.read.told
        if len(self.first) < SHOWN_ROWS:
            self.first.append(row)
        if self.good % self.stride == 0:
            if len(self.sample) == ASKED:
                del self.sample[1::2]
                self.stride *= 2
            if self.good % self.stride == 0:
                self.sample.append(row)
        self.good += 1
        self.rounded += told.ym_uid_interval is not None
        self.undated += told.occurred_at is None
        self.unpriced += told.value is None
        if told.value is not None:
            code = told.currency or currency
            self.sums[code] = self.sums.get(code, Decimal(0)) + told.value

    def add_stage(self, stage: str | None) -> None:
        """Count the stage of a row, as long as there are not too many different ones to be stages."""
        if stage is not None and (stage in self.stages or len(self.stages) < KEPT_STAGES):
            self.stages[stage] += 1


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How the owner wants the table to be read: names by key, the stages that count, the goal of all rows."""

    columns: Mapping[str, str]
    only: Sequence[str] = ()
    goal: str


def make_plan(table: TableFile, wish: Wish, site: Site, now: datetime) -> Plan:
    """Return how a table is read. Raises OperatorError when no visitor could be found by it."""
    with contextlib.closing(table.rows()) as rows:
        top = [row for _, row in itertools.islice(rows, TITLE_ROWS)]
    texts = [[] if isinstance(row, CallerError) else [text_of(cell) for cell in row] for row in top]
    header = find_header(texts, wish.columns)
    columns = guess_columns(texts[header], wish.columns)
    if wish.only and all(column.key != STATUS for column in columns):
        raise OperatorError(
            "--only: no column of the table is the stage of a deal; say which is: --column status=NAME"
        )
    reader = TableReader(columns, goal=wish.goal, only=wish.only, zone=site.zone, now=now)
    return Plan(table=table, header=header + 1, names=texts[header], columns=columns, reader=reader)


def survey(plan: Plan, currency: str, advance: Callable[[int], None]) -> Survey:
    """Return what all rows of a table say, read once; `advance` is called with each row."""
    found = Survey()
    for number, row in plan.below():
        if isinstance(row, CallerError):
            found.add(plan.bad(number, row), currency)
        else:
            found.add_stage(plan.reader.status(row))
            found.add(plan.read(number, row), currency)
        advance(1)
    return found
