"""Keeps the goal lists in user_analytics equal to the ledger: what a batch left out, and what was wiped.

A script that writes the whole document wipes the goals in it; the ledger knows them and puts them back.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from closedloop.errors import DatabaseRefusedError, TransientError
from closedloop.stages import clock
from closedloop.store.database import borrowed, translated
from closedloop.store.images import FIRST, LAST, Imaged, read_matched
from closedloop.store.statements import Shape
from closedloop.store.waiting import written_so_far
from closedloop.telemetry import RESTORED, STAGE_FAILURES

# Wiped goals are back within a minute: a round every 20 s looks at the newest conversions first and spends
# at most a thirtieth of a core; what it did not reach is where the next round goes on.
ROUND_S = 20.0
BUDGET_S = 0.6
CHUNK = 10_000
FOLLOW_S = 2.5
LIMIT_WAIT = "set local lock_timeout = '2s'"

log = structlog.get_logger()

Pool = AsyncConnectionPool[AsyncConnection[object]]


class ImageKeeper:
    """Writes the images that the group commit did not write, and those that somebody wiped."""

    def __init__(self, pool: Pool, shape: Shape, sites: Sequence[str]) -> None:
        self.pool = pool
        self.shape = shape
        self.sites = sites
        self.reached = dict.fromkeys(sites, LAST)
        self.complete_at: dict[str, str] = {}
        self.refused: set[UUID] = set()
        # One at a time: whoever waits for a held session must not take every connection from the others.
        self.following = asyncio.Semaphore(1)

    async def follow(self, site: str, conversion_id: UUID) -> None:
        """Bring one session's list up to date now.

        Waits up to two seconds for whoever holds the session; if that is not enough, the next round does
        it. Raises DatabaseRefusedError when the session's row refuses the change.
        """
        try:
            async with asyncio.timeout(FOLLOW_S), self.following, borrowed(self.pool) as conn:
                wanted = await read_matched(conn, site, conversion_id)
                if wanted is not None:
                    await self.put(conn, site, wanted)
        except (TransientError, TimeoutError) as error:
            log.info("image_follows_later", site=site, conversion_id=str(conversion_id), reason=str(error))

    async def put(self, conn: AsyncConnection[object], site: str, wanted: Imaged) -> bool:
        """Write one image in a transaction of its own; True when the list changed."""
        async with conn.transaction():
            await conn.execute(LIMIT_WAIT)
            return await self.shape.current().images.put_image(conn, site, wanted)

    async def run(self) -> None:
        """Go round for ever; an error ends a round, never the loop."""
        while True:
            await asyncio.sleep(clock.jitter(ROUND_S))
            for site in self.sites:
                try:
                    await self.restore(site)
                except TransientError as error:
                    log.info("images_wait", site=site, reason=str(error))
                except Exception:
                    STAGE_FAILURES.labels("images").inc()
                    log.exception("images_failed", site=site)

    async def restore(self, site: str) -> int:
        """Put back the goals that are missing in one site's sessions, newest first; return how many.

        Stops when the budget of a round is spent, and goes on from there the next time. Costs nothing when
        the database has written nothing since the last complete look.
        """
        started = clock.elapsed()
        restored = 0
        async with borrowed(self.pool) as conn:
            written = await written_so_far(conn)
            if self.reached[site] == LAST and self.complete_at.get(site) == written:
                return 0
            restored += await self.restore_chunk(conn, site, LAST)
            before = await self.shape.current().images.chunk_end(conn, site, LAST, CHUNK)
            before = min(before, self.reached[site])
            while before != FIRST and clock.elapsed() - started < BUDGET_S:
                restored += await self.restore_chunk(conn, site, before)
                before = await self.shape.current().images.chunk_end(conn, site, before, CHUNK)
            self.reached[site] = LAST if before == FIRST else before
            if before == FIRST:
                self.complete_at[site] = written
        return restored

    async def restore_chunk(self, conn: AsyncConnection[object], site: str, before: UUID) -> int:
        """Put back what is missing among the conversions just before `before`; return how many."""
        start = await self.shape.current().images.chunk_end(conn, site, before, CHUNK)
        restored = 0
        for wanted in await self.shape.current().images.find_missing(
            conn, site, start, before, tuple(self.refused)
        ):
            restored += await self.try_put(conn, site, wanted)
        if restored:
            RESTORED.inc(restored)
            log.info("images_restored", site=site, count=restored)
        return restored

    async def try_put(self, conn: AsyncConnection[object], site: str, wanted: Imaged) -> bool:
        """Write one image; a row that refuses it is said once and left alone. Raises DatabaseAwayError."""
        try:
            with translated():
                return await self.put(conn, site, wanted)
        except DatabaseRefusedError as error:
            self.refused.add(wanted.conversion_id)
            log.warning(
                "image_refused", site=site, conversion_id=str(wanted.conversion_id), reason=str(error)
            )
            return False
