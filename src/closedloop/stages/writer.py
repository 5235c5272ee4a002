"""Group commit: items queue up while a statement is in flight and go together in the next one.

There is no timer: alone, an item waits for nothing. An answer leaves only after the commit. While the
database is away every item is turned away at once, and its giver sees what can be done.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any, Generic, Protocol, TypeVar

import structlog
from psycopg import AsyncConnection

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
from closedloop.store.database import connect, translated
from closedloop.store.migrate import migrate
from closedloop.store.sessions import read_session_table
from closedloop.store.statements import Shape
from closedloop.telemetry import BATCH_SIZE, QUEUE

# A batch is as large as the queue was when the last commit came back. 400 keeps one statement below some
# 40 ms, so that a late comer never waits long; the queue holds what a busy second brings.
MAX_BATCH = 400
MAX_QUEUE = 4000
# Longer than any healthy commit, shorter than the patience of every sender (docs/protocols/integrators.md).
PATIENCE_S = 3.0
RECONNECT_S = 0.5


class OfSite(Protocol):
    """Something that belongs to one site."""

    @property
    def site(self) -> str:
        """The site's name."""
        ...


Item = TypeVar("Item", bound=OfSite)
Answer = TypeVar("Answer")
Value = TypeVar("Value")
Item_contra = TypeVar("Item_contra", bound=OfSite, contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)

log = structlog.get_logger()


class Recorder(Protocol[Item_contra, Answer_co]):
    """What a writer commits and how: the one thing in which conversions and hits differ."""

    name: str

    def weight(self, item: Item_contra) -> int:
        """Return how many rows an item brings to the batch."""
        ...

    async def record(
        self, conn: AsyncConnection[Any], site: str, items: Sequence[Item_contra]
    ) -> Sequence[Answer_co]:
        """Commit items of one site and return what became of each, in order.

        Raises TransientError when the database is away, any other error when it refuses them.
        """
        ...

    async def record_refused(
        self, conn: AsyncConnection[Any], site: str, item: Item_contra, error: Exception
    ) -> Answer_co:
        """Commit what can be kept of an item that was refused; raises what it is to be answered with."""
        ...


class Writer(Generic[Item, Answer]):
    """The one task of this process that records items of one kind."""

    def __init__(self, conninfo: str, shape: Shape, recorder: Recorder[Item, Answer]) -> None:
        self.conninfo = conninfo
        self.shape = shape
        self.recorder = recorder
        self.batch_size = BATCH_SIZE.labels(recorder.name)
        self.depth = QUEUE.labels(recorder.name)
        self.queue: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self.wake = asyncio.Event()
        self.waiting: deque[tuple[float, asyncio.Future[Answer]]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.conn: AsyncConnection[Any] | None = None
        self.away: DatabaseAwayError | None = DatabaseAwayError("the database is not connected yet")
        self.connected = asyncio.Event()
        self.stopping = False

    async def submit(self, item: Item) -> Answer:
        """Record one item and return what became of it.

        Raises DatabaseAwayError or BusyError at once, DatabaseAwayError also when no commit came within
        the patience (its outcome is then unknown, and a repetition is harmless), DatabaseRefusedError when
        the database refuses a row of this item.
        """
        if self.away is not None or self.stopping:
            raise self.away or DatabaseAwayError("the server is stopping")
        if len(self.queue) >= MAX_QUEUE:
            raise BusyError(f"too many {self.recorder.name} wait for the database", retry_after=2)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self.queue.append((item, future))
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
        """Drop the deadlines of items that have their answer."""
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
                log.exception("writer_failed", what=self.recorder.name)
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
            prepared = conn.prepare_threshold is not None
            log.info("database_connected", what=self.recorder.name, prepared=prepared)
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

    def take_batch(self) -> "list[tuple[Item, asyncio.Future[Answer]]]":
        """Take whole items from the queue, oldest first, up to the size of a batch."""
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        size = 0
        while self.queue and size < MAX_BATCH:
            item, future = self.queue.popleft()
            batch.append((item, future))
            size += self.recorder.weight(item)
        self.depth.set(len(self.queue))
        return batch

    async def record(
        self, conn: AsyncConnection[Any], batch: "list[tuple[Item, asyncio.Future[Answer]]]"
    ) -> None:
        """Commit a batch, site by site, and resolve its futures; all of them, whatever happens."""
        self.batch_size.observe(len(batch))
        try:
            by_site = sorted(batch, key=lambda one: one[0].site)
            for site, queued in groupby(by_site, key=lambda one: one[0].site):
                await self.record_site(conn, site, list(queued))
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
        self, conn: AsyncConnection[Any], site: str, queued: "list[tuple[Item, asyncio.Future[Answer]]]"
    ) -> None:
        """Commit items of one site together; if the database refuses them, one by one."""
        try:
            answers = await self.recorder.record(conn, site, [item for item, _ in queued])
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - a refused row or a defect of ours: it fails alone, logged below
            if len(queued) > 1:
                for one in queued:
                    await self.record_site(conn, site, [one])
                return
            resolve(queued[0][1], await self.refused(conn, site, queued[0][0], error))
            return
        for (_, future), answer in zip(queued, answers, strict=True):
            resolve(future, answer)

    async def refused(
        self, conn: AsyncConnection[Any], site: str, item: Item, error: Exception
    ) -> Answer | ClosedloopError:
        """Return what becomes of an item that was refused, or the error when nothing helps."""
        try:
            return await self.recorder.record_refused(conn, site, item, error)
        except TransientError:
            raise
        except Exception as again:
            log.exception("item_refused", site=site, what=self.recorder.name)
            return again if isinstance(again, ClosedloopError) else DatabaseRefusedError(type(again).__name__)

    async def turn_away(self, error: DatabaseAwayError) -> None:
        """Mark the database as away and give every waiting item back to its giver."""
        if self.away is None:
            log.error("database_away", what=self.recorder.name, reason=str(error))
        self.away = error
        while self.queue:
            _, future = self.queue.popleft()
            if not future.done():
                future.set_exception(error)
        self.depth.set(0)
        await self.disconnect()

    async def disconnect(self) -> None:
        """Drop the connection without waiting for a server that may not answer."""
        conn, self.conn = self.conn, None
        if conn is not None:
            await conn.close()


def resolve(future: "asyncio.Future[Answer]", answer: Answer | ClosedloopError) -> None:
    """Give a future its answer unless its owner has gone."""
    if future.done():
        return
    if isinstance(answer, ClosedloopError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


async def patiently(attempt: Callable[[], Awaitable[Value]], tries: int) -> Value:
    """Return what `attempt` gives; another transaction in the way lets it be made again.

    Raises DatabaseAwayError after so many tries, and when one takes longer than the patience.
    """
    for _ in range(tries):
        try:
            async with asyncio.timeout(PATIENCE_S):
                with translated():
                    return await attempt()
        except DatabaseConflictError:
            continue
        except TimeoutError:
            raise DatabaseAwayError(f"no commit within {PATIENCE_S:.0f} s") from None
    raise DatabaseAwayError("other transactions stand in the way", retry_after=1)
