"""Late matching: unmatched conversions find the sessions that arrive after them, whoever inserts these."""

import asyncio
from collections.abc import Sequence

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from closedloop.stages import clock
from closedloop.stages.images import ImageKeeper
from closedloop.stages.rounds import one_round
from closedloop.store.database import borrowed
from closedloop.store.leads import tie_lead
from closedloop.store.statements import Shape
from closedloop.store.waiting import CHUNK, Found, match_late, written_so_far
from closedloop.telemetry import LATE_MATCHES

# A session is found within 5 s of its arrival. A pass comes every second while it is cheap; a dear one
# (100,000 waiting: some 90 ms) comes more seldom, so that the search stays under 5 % of a core.
SOONEST_S = 1.0
LATEST_S = 3.0
SHARE = 0.04

log = structlog.get_logger()


class Matcher:
    """Looks for late sessions, site by site."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[object]],
        shape: Shape,
        keeper: ImageKeeper,
        sites: Sequence[str],
    ) -> None:
        self.pool = pool
        self.shape = shape
        self.keeper = keeper
        self.sites = sites
        self.written = ""

    async def run(self) -> None:
        """Pass after pass for ever; an error ends a pass, never the loop."""
        pause = SOONEST_S
        while True:
            await asyncio.sleep(pause)
            started = clock.elapsed()
            with one_round("matching"):
                await self.look_at_all()
            pause = min(max((clock.elapsed() - started) / SHARE, SOONEST_S), LATEST_S)

    async def look_at_all(self) -> int:
        """Match what can be matched now on every site; return how many. Idle when nothing was written."""
        async with borrowed(self.pool) as conn:
            written = await written_so_far(conn)
            if written == self.written:
                return 0
            matched = sum([await self.look(conn, site) for site in self.sites])
            self.written = written
        return matched

    async def look(self, conn: AsyncConnection[object], site: str) -> int:
        """Match what can be matched now on one site; return how many."""
        matched = 0
        while True:
            candidates = await self.shape.current().waiting.find_answered(conn, site)
            if not candidates:
                return matched
            # Leads first: a conversion may wait for the phone that a lead brings.
            leads = await self.shape.current().leads.find_sessions(conn, site, candidates)
            for lead in leads:
                await tie_lead(conn, site, lead, clock.now())
            found = await self.shape.current().waiting.find_sessions(conn, site, candidates)
            for one in found:
                matched += await self.tie(conn, site, one)
            if not leads and (len(candidates) < CHUNK or not found):
                return matched

    async def tie(self, conn: AsyncConnection[object], site: str, found: Found) -> bool:
        """Tie one conversion to its session and show it there; False when another process was first."""
        if not await match_late(conn, site, found, clock.now()):
            return False
        LATE_MATCHES.inc()
        log.info("late_match", site=site, conversion_id=str(found.conversion_id), rule=found.rule)
        await self.keeper.try_put(conn, site, found)
        return True
