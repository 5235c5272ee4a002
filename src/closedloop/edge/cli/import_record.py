"""Rows of a spreadsheet into the ledger, the way of the hook; a row that is known already touches nothing."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import psycopg

from closedloop.domain.conversion import Conversion, dedup_key
from closedloop.edge.cli.import_rows import KEPT_BAD, BadRow, GoodRow
from closedloop.errors import DatabaseRefusedError, MigrationError, TransientError
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from closedloop.stages.unit import Unit
from closedloop.store.conversions import Known, Ledger
from closedloop.store.database import borrowed, connect, translated
from closedloop.store.known import adds_nothing, count_found, find_known
from closedloop.store.sessions import read_session_table_now
from closedloop.store.settle import Settled, revised_money

CHUNK = 200
# Each of these takes the database several answers, and a chunk of them may not outlast the writer's patience.
CHANGED_AT_ONCE = 8
ASK_AT_ONCE = 50
ASK_S = 15.0
TRIES = 12
PAUSE_S = 1.0
MAX_PAUSE_S = 10.0
SOURCE = "import"


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Of how many rows the database was asked for the session, and how many would find it."""

    asked: int
    found: int


class Tally(msgspec.Struct, kw_only=True):
    """What became of the rows. Those that are `stale` tell an older sum than the known one: it stays."""

    new: int = 0
    known: int = 0
    revised: int = 0
    stale: int = 0
    matched: int = 0
    unmatched: int = 0
    refused: list[BadRow] = []
    stale_rows: list[int] = []

    def count(self, row: int, kind: str, session_row: str | None) -> None:
        """Count one row by what it was settled as."""
        match kind:
            case "new":
                self.new += 1
            case "revised":
                self.revised += 1
            case "stale":
                self.stale += 1
                if len(self.stale_rows) < KEPT_BAD:
                    self.stale_rows.append(row)
            case _:
                self.known += 1
        if session_row is None:
            self.unmatched += 1
        else:
            self.matched += 1


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A row on its way: its unit, and the key under which it counts once."""

    row: int
    unit: Unit
    key: bytes

    @property
    def conversion(self) -> Conversion:
        """The one conversion of the row."""
        return self.unit.conversions[0]


class Recording:
    """Records rows and counts what became of them; `written_at` is when the file was last changed."""

    def __init__(self, process: Process, site: Site, written_at: datetime) -> None:
        self.process = process
        self.site = site
        self.written_at = written_at
        self.tally = Tally()

    async def predict(self, conninfo: str, rows: Sequence[GoodRow]) -> Prediction | None:
        """Return how many of these rows would find their session now; None before the first `migrate`.

        Asks for some seconds at most, and only reads. Raises NotAdoptedError, DatabaseAwayError.
        """
        try:
            with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as now:
                ledger = Ledger(read_session_table_now(now))
        except MigrationError:
            return None
        asked = found = 0
        started = clock.elapsed()
        async with await connect(conninfo) as conn:
            while asked < len(rows) and clock.elapsed() - started < ASK_S:
                some = [self.waiting(row).conversion for row in rows[asked : asked + ASK_AT_ONCE]]
                with translated():
                    found += await count_found(conn, ledger, self.site.name, some)
                asked += len(some)
        return Prediction(asked=asked, found=found)

    async def take(self, rows: Sequence[GoodRow]) -> None:
        """Record a chunk of rows; a database that is away is waited for. Raises TransientError in the end."""
        waiting = [self.waiting(row) for row in rows]
        tries = 0
        while waiting:
            try:
                left, trouble = await self.attempt(waiting)
            except TransientError as error:
                left, trouble = waiting, error
            if trouble is not None:
                tries += 1
                if tries == TRIES:
                    raise trouble
                await asyncio.sleep(clock.jitter(min(PAUSE_S * tries, MAX_PAUSE_S)))
            waiting = left

    def waiting(self, row: GoodRow) -> Waiting:
        """Return a row as a webhook of its own, so that the inbox shows from which bytes it was read."""
        raw = RawWebhook(
            source=SOURCE,
            received_at=clock.now(),
            method="POST",
            query="",
            content_type="application/json",
            user_agent="closedloop import",
            body=row.read.body,
        )
        unit = self.process.intake.unit(self.site, raw, [row.read.told])
        return Waiting(row=row.row, unit=unit, key=dedup_key(row.read.told).key)

    async def attempt(self, rows: Sequence[Waiting]) -> tuple[list[Waiting], TransientError | None]:
        """Record what can be recorded now; return the rows that remain, and what stood in the way if any.

        Of rows with one key only the first goes, so that the next is compared with what became of it.
        """
        async with borrowed(self.process.pool) as conn:
            known = await find_known(conn, self.site.name, [row.key for row in rows])
        new: dict[bytes, Waiting] = {}
        changed: dict[bytes, Waiting] = {}
        left: list[Waiting] = []
        for row in rows:
            found = known.get(row.key)
            if row.key in new or row.key in changed:
                left.append(row)
            elif found is None:
                new[row.key] = row
            elif (kind := self.kind_of(row.conversion, found)) is None:
                changed[row.key] = row
            else:
                self.tally.count(row.row, kind, found.session_row)
        groups = [list(new.values())] if new else []
        several = list(changed.values())
        groups += [several[at : at + CHANGED_AT_ONCE] for at in range(0, len(several), CHANGED_AT_ONCE)]
        trouble: TransientError | None = None
        for group in groups:
            undone, error = await self.submit(group)
            left += undone
            trouble = trouble or error
        return sorted(left, key=lambda row: row.row), trouble

    def kind_of(self, conversion: Conversion, known: Known) -> str | None:
        """Return as what a known conversion is told again, when that changes nothing; None when it may.

        A sum that the ledger learned after the file was written is newer than the file's.
        """
        if revised_money(conversion, known) is not None:
            return "stale" if known.told_at > self.written_at else None
        return "known" if known.session_row is not None or adds_nothing(conversion, known) else None

    async def submit(self, rows: Sequence[Waiting]) -> tuple[list[Waiting], TransientError | None]:
        """Give rows to the writer together; return those that the database did not take now, and why."""
        results = await asyncio.gather(
            *(self.process.writer.submit(row.unit) for row in rows), return_exceptions=True
        )
        undone: list[Waiting] = []
        trouble: TransientError | None = None
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, TransientError):
                undone.append(row)
                trouble = result
            elif isinstance(result, DatabaseRefusedError):
                self.tally.refused.append(BadRow(row=row.row, key="row", column="", reason=str(result)))
            elif isinstance(result, BaseException):
                raise result
            else:
                await self.settled(row, result[0])
        return undone, trouble

    async def settled(self, row: Waiting, settled: Settled) -> None:
        """Count a row that was recorded, and bring its session's goal list up to date."""
        recorded = settled.recorded
        self.tally.count(row.row, settled.kind, recorded.session_row)
        if recorded.session_row is not None and not recorded.imaged:
            with contextlib.suppress(DatabaseRefusedError):  # the ledger has it; the session's row refuses
                await self.process.keeper.follow(self.site.name, recorded.conversion_id)


def written_at(path: Path, now: datetime) -> datetime:
    """Return when a file was last changed, never later than now."""
    return min(now, datetime.fromtimestamp(path.stat().st_mtime, now.tzinfo))
