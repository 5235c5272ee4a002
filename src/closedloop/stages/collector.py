"""Records hits: what the group commit does for sessions."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from psycopg import AsyncConnection

from closedloop.domain.visit import Visit, merged_by_session
from closedloop.stages import clock
from closedloop.stages.writer import Writer, patiently
from closedloop.store.statements import Shape
from closedloop.telemetry import COMMIT_SECONDS

# How often a hit is tried whose session another process is at just now, and how long apart.
TRIES = 5
PAUSE_S = 0.02
AGAIN = "again"

log = structlog.get_logger()

HitWriter = Writer[Visit, str]


class HitRecorder:
    """Merges visits into the rows of their sessions; the answer is the outcome that store/hits.py names."""

    name = "hits"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def weight(self, item: Visit) -> int:  # noqa: ARG002 - the protocol's
        """Return how many rows a visit brings to the batch."""
        return 1

    async def record(self, conn: AsyncConnection[Any], site: str, items: Sequence[Visit]) -> list[str]:
        """Commit visits of one site together; those of one session are merged before."""
        left = merged_by_session(items)
        outcomes: dict[tuple[str, str], str] = {}
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(clock.jitter(PAUSE_S))
            left = await self.record_once(conn, site, left, outcomes)
            if not left:
                break
        return [outcomes[item.session_id, item.visitor] for item in items]

    async def record_once(
        self,
        conn: AsyncConnection[Any],
        site: str,
        visits: Sequence[Visit],
        outcomes: dict[tuple[str, str], str],
    ) -> list[Visit]:
        """Commit one visit of each session, note the outcomes, and return what is to be tried again."""
        now = {visit.session_id: visit for visit in reversed(visits)}
        told = await self.commit(conn, site, list(now.values()))
        for session_id, outcome in told.items():
            outcomes[session_id, now[session_id].visitor] = outcome
        # A second visitor of the same session waits for its turn.
        late = [visit for visit in visits if now[visit.session_id] is not visit]
        for visit in late:
            outcomes[visit.session_id, visit.visitor] = AGAIN
        return [visit for visit in now.values() if told.get(visit.session_id, AGAIN) == AGAIN] + late

    async def commit(self, conn: AsyncConnection[Any], site: str, visits: Sequence[Visit]) -> dict[str, str]:
        """Run the statement. Raises DatabaseAwayError also when no commit comes within the patience."""

        async def attempt() -> dict[str, str]:
            with COMMIT_SECONDS.labels(self.name).time():
                return await self.shape.current().hits.record(conn, site, visits)

        return await patiently(attempt, TRIES)

    async def record_refused(
        self,
        conn: AsyncConnection[Any],  # noqa: ARG002 - the protocol's
        site: str,
        item: Visit,  # noqa: ARG002 - the protocol's
        error: Exception,
    ) -> str:
        """Raise the error: a hit that the database refuses is refused to its sender."""
        log.warning("hit_refused", site=site, reason=str(error))
        raise error
