"""Records webhooks with their conversions: what the group commit does for the ledger."""

import functools
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from psycopg import AsyncConnection

from closedloop.domain.conversion import Conversion
from closedloop.stages.unit import Unit
from closedloop.stages.writer import patiently
from closedloop.store.settle import Settled
from closedloop.store.statements import Shape
from closedloop.telemetry import COMMIT_SECONDS

TRIES = 4

log = structlog.get_logger()


class ConversionRecorder:
    """Commits units; the answer for each is what became of its conversions, in order."""

    name = "webhooks"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def weight(self, item: Unit) -> int:
        """Return how many rows a unit brings to the batch."""
        return max(1, len(item.conversions))

    async def record(
        self, conn: AsyncConnection[Any], site: str, items: Sequence[Unit]
    ) -> list[list[Settled]]:
        """Commit units of one site together."""
        settled = await self.commit(conn, site, items)
        return [[settled[one.conversion_id] for one in unit.conversions] for unit in items]

    async def record_refused(
        self, conn: AsyncConnection[Any], site: str, item: Unit, error: Exception
    ) -> list[Settled]:
        """Commit a unit whose session refuses its goal without touching the session."""
        log.warning(
            "row_refused",
            site=site,
            webhook_id=str(item.webhook.webhook_id),
            reason=str(error),
            exc_info=error,
        )
        settled = await self.commit(conn, site, [item], with_images=False)
        return [settled[one.conversion_id] for one in item.conversions]

    async def commit(
        self, conn: AsyncConnection[Any], site: str, units: Sequence[Unit], *, with_images: bool = True
    ) -> dict[UUID, Settled]:
        """Record units in one statement, settle what is known already, and return all by conversion."""
        # A unit that was given twice would stand twice in the goal list: its rows have one id.
        conversions = list({one.conversion_id: one for unit in units for one in unit.conversions}.values())
        attempt = functools.partial(self.attempt, conn, site, conversions, units, with_images=with_images)
        return await patiently(attempt, TRIES)

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
        with COMMIT_SECONDS.labels(self.name).time():
            webhooks = [unit.webhook for unit in units]
            added = await self.shape.current().ledger.append_batch(
                conn, site, conversions, webhooks, with_images=with_images
            )
        leads = [unit.lead for unit in units if unit.lead is not None]
        await self.shape.current().leads.record(conn, site, leads)
        settled = {key: Settled(recorded=recorded, kind="new") for key, recorded in added.items()}
        known = [one for one in conversions if one.conversion_id not in added]
        if known:
            async with conn.transaction():
                settled |= await self.shape.current().settler.settle(conn, site, known)
        return settled
