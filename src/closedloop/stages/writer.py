"""Group commit: units queue up while a statement is in flight and go together in the next one.

There is no timer: alone, a unit waits for nothing. An answer leaves only after the commit. While the
database is away every unit is turned away at once, and its giver keeps it in the spool.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog
from psycopg import AsyncConnection

from closedloop.domain.conversion import Conversion
from closedloop.errors import (
    BusyError,
    ClosedloopError,
    DatabaseAwayError,
    DatabaseConflictError,
    DatabaseRefusedError,
    OperatorError,
    TransientError,
)
from closedloop.stages import clock
from closedloop.stages.unit import Unit
from closedloop.store.database import connect, translated
from closedloop.store.migrate import migrate
from closedloop.store.sessions import read_session_table
from closedloop.store.settle import Settled
from closedloop.store.statements import Shape
from closedloop.telemetry import BATCH_SIZE, COMMIT_SECONDS, QUEUE

# A batch is as large as the queue was when the last commit came back. 400 keeps one statement below some
# 40 ms, so that a late comer never waits long; the queue holds what a busy second brings.
MAX_BATCH = 400
MAX_QUEUE = 4000
# Longer than any healthy commit, shorter than the patience of every sender (docs/protocols/integrators.md).
PATIENCE_S = 3.0
RECONNECT_S = 0.5
TRIES = 4

Queued = tuple[Unit, "asyncio.Future[list[Settled]]"]

log = structlog.get_logger()


class Writer:
    """The one task of this process that records conversions."""

    def __init__(self, conninfo: str, shape: Shape) -> None:
        self.conninfo = conninfo
        self.shape = shape
        self.queue: deque[Queued] = deque()
        self.wake = asyncio.Event()
        self.waiting: deque[tuple[float, asyncio.Future[list[Settled]]]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.conn: AsyncConnection[Any] | None = None
        self.away: DatabaseAwayError | None = DatabaseAwayError("the database is not connected yet")
        self.connected = asyncio.Event()
        self.stopping = False

    async def submit(self, unit: Unit) -> list[Settled]:
        """Record one unit and return what became of each of its conversions, in order.

        Raises DatabaseAwayError or BusyError at once, DatabaseAwayError also when no commit came within
        the patience (its outcome is then unknown, and a repetition is harmless), DatabaseRefusedError when
        the database refuses a row of this unit.
        """
        if self.away is not None or self.stopping:
            raise self.away or DatabaseAwayError("the server is stopping")
        if len(self.queue) >= MAX_QUEUE:
            raise BusyError("too many conversions wait for the database", retry_after=2)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Settled]] = loop.create_future()
        self.queue.append((unit, future))
        self.waiting.append((loop.time() + PATIENCE_S, future))
        if self.timer is None:
            self.timer = loop.call_later(PATIENCE_S, self.expire)
        self.wake.set()
        return await future

    def expire(self) -> None:
        """Turn away whoever has waited longer than the patience; one timer serves all."""
        loop = asyncio.get_running_loop()
        self.forget_answered()
        while self.waiting and self.waiting[0][0] <= loop.time():
            self.away = DatabaseAwayError(f"the database did not commit within {PATIENCE_S:.0f} s")
            resolve(self.waiting.popleft()[1], self.away)
        self.timer = loop.call_at(self.waiting[0][0], self.expire) if self.waiting else None

    def forget_answered(self) -> None:
        """Drop the deadlines of units that have their answer."""
        while self.waiting and self.waiting[0][1].done():
            self.waiting.popleft()

    async def run(self) -> None:
        """Connect, record, connect again; ends after `stop` when the queue is empty."""
        while not (self.stopping and not self.queue):
            try:
                await self.serve()
            except DatabaseAwayError as error:
                await self.turn_away(error)
            except Exception as error:
                log.exception("writer_failed")
                await self.turn_away(DatabaseAwayError(f"the writer failed: {type(error).__name__}"))
            if not self.stopping:
                await asyncio.sleep(clock.jitter(RECONNECT_S))
        await self.disconnect()

    def stop(self) -> None:
        """Take nothing new; `run` ends when what was taken is recorded."""
        self.stopping = True
        self.wake.set()

    async def serve(self) -> None:
        """Record batch after batch over one connection. Raises DatabaseAwayError."""
        conn = self.conn = await asyncio.wait_for(connect(self.conninfo), PATIENCE_S * 2)
        await self.require_writable(conn)
        await self.learn_shape(conn)
        if self.away is not None:
            log.info("database_connected", prepared=conn.prepare_threshold is not None)
        self.away = None
        self.connected.set()
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.queue:
                await self.record(conn, self.take_batch())
            if self.stopping:
                return

    async def require_writable(self, conn: AsyncConnection[Any]) -> None:
        """Raise DatabaseAwayError while the database takes no writes: a standby, or a full project."""
        with translated():
            cursor = await conn.execute("select current_setting('transaction_read_only')")
            row = await cursor.fetchone()
        if row is None or row[0] != "off":
            raise DatabaseAwayError("the database is read-only")

    async def learn_shape(self, conn: AsyncConnection[Any]) -> None:
        """Bring the migrations up to date and learn the shape of the session table.

        Raises DatabaseAwayError, also when a person has to act first: the spool keeps everything meanwhile.
        """
        try:
            await asyncio.to_thread(migrate, self.conninfo, clock.now())
            with translated():
                self.shape.learn(await read_session_table(conn))
        except OperatorError as error:
            raise DatabaseAwayError(str(error), retry_after=60) from error

    def take_batch(self) -> list[Queued]:
        """Take whole units from the queue, oldest first, up to the size of a batch."""
        batch: list[Queued] = []
        size = 0
        while self.queue and size < MAX_BATCH:
            unit, future = self.queue.popleft()
            batch.append((unit, future))
            size += max(1, len(unit.conversions))
        QUEUE.set(len(self.queue))
        return batch

    async def record(self, conn: AsyncConnection[Any], batch: list[Queued]) -> None:
        """Commit a batch, site by site, and resolve its futures; all of them, whatever happens."""
        BATCH_SIZE.observe(len(batch))
        try:
            by_site = sorted(batch, key=lambda one: one[0].site)
            for site, units in groupby(by_site, key=lambda one: one[0].site):
                await self.record_site(conn, site, list(units))
        except BaseException as error:
            away = error if isinstance(error, DatabaseAwayError) else DatabaseAwayError("the commit was lost")
            for _, future in batch:
                if not future.done():
                    future.set_exception(away)
            raise
        finally:
            self.forget_answered()
        self.away = None

    async def record_site(
        self,
        conn: AsyncConnection[Any],
        site: str,
        units: list[Queued],
    ) -> None:
        """Commit units of one site together; if the database refuses them, one by one."""
        try:
            settled = await self.commit(conn, site, [unit for unit, _ in units])
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - a refused row or a defect of ours: it fails alone, logged below
            if len(units) > 1:
                for one in units:
                    await self.record_site(conn, site, [one])
                return
            resolve(units[0][1], await self.commit_refused(conn, site, units[0][0], error))
            return
        for unit, future in units:
            resolve(future, [settled[one.conversion_id] for one in unit.conversions])

    async def commit_refused(
        self, conn: AsyncConnection[Any], site: str, unit: Unit, error: Exception
    ) -> "list[Settled] | ClosedloopError":
        """Record a unit whose session refuses its goal, or return the error when nothing helps."""
        log.warning(
            "row_refused",
            site=site,
            webhook_id=str(unit.webhook.webhook_id),
            reason=str(error),
            exc_info=error,
        )
        try:
            settled = await self.commit(conn, site, [unit], with_images=False)
        except TransientError:
            raise
        except Exception as again:
            log.exception("unit_refused", site=site, webhook_id=str(unit.webhook.webhook_id))
            return again if isinstance(again, ClosedloopError) else DatabaseRefusedError(type(again).__name__)
        return [settled[one.conversion_id] for one in unit.conversions]

    async def commit(
        self, conn: AsyncConnection[Any], site: str, units: Sequence[Unit], *, with_images: bool = True
    ) -> dict[UUID, Settled]:
        """Record units in one statement, settle what is known already, and return all by conversion."""
        # A unit that was given twice would stand twice in the goal list: its rows have one id.
        conversions = list({one.conversion_id: one for unit in units for one in unit.conversions}.values())
        for attempt in range(1, TRIES + 1):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    with translated():
                        return await self.attempt(conn, site, conversions, units, with_images=with_images)
            except DatabaseConflictError:
                if attempt == TRIES:
                    raise DatabaseAwayError("other transactions stand in the way", retry_after=1) from None
            except TimeoutError:
                raise DatabaseAwayError(f"no commit within {PATIENCE_S:.0f} s") from None
        raise AssertionError

    async def attempt(
        self,
        conn: AsyncConnection[Any],
        site: str,
        conversions: Sequence[Conversion],
        units: Sequence[Unit],
        *,
        with_images: bool,
    ) -> dict[UUID, Settled]:
        """Run the statement once; a second transaction settles conversions that were known.

        Both may be repeated as they are: what an earlier try has committed is recognised by its ids.
        """
        with COMMIT_SECONDS.time():
            webhooks = [unit.webhook for unit in units]
            added = await self.shape.current().ledger.append_batch(
                conn, site, conversions, webhooks, with_images=with_images
            )
        settled = {key: Settled(recorded=recorded, kind="new") for key, recorded in added.items()}
        known = [one for one in conversions if one.conversion_id not in added]
        if known:
            async with conn.transaction():
                settled |= await self.shape.current().settler.settle(conn, site, known)
        return settled

    async def turn_away(self, error: DatabaseAwayError) -> None:
        """Mark the database as away and give every waiting unit back to its giver."""
        if self.away is None:
            log.error("database_away", reason=str(error))
        self.away = error
        while self.queue:
            _, future = self.queue.popleft()
            if not future.done():
                future.set_exception(error)
        QUEUE.set(0)
        await self.disconnect()

    async def disconnect(self) -> None:
        """Drop the connection without waiting for a server that may not answer."""
        conn, self.conn = self.conn, None
        if conn is not None:
            await conn.close()


def resolve(future: "asyncio.Future[list[Settled]]", answer: "list[Settled] | ClosedloopError") -> None:
    """Give a future its answer unless its owner has gone."""
    if future.done():
        return
    if isinstance(answer, ClosedloopError):
        future.set_exception(answer)
    else:
        future.set_result(answer)
