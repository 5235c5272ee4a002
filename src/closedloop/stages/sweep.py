"""Reads back what a CRM never told us: at the start, at intervals, and from the command line."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from closedloop.domain.deal import Deal
from closedloop.errors import CrmAwayError, OperatorError, TransientError
from closedloop.stages import clock
from closedloop.stages.crm import CrmClient
from closedloop.stages.dealbook import DealBook
from closedloop.store.database import borrowed
from closedloop.store.deals import Sweep
from closedloop.store.journal import Occasion
from closedloop.telemetry import CRM_REFUSES, DEALS_READ, STAGE_FAILURES

# For a CRM that was never heard: further back than an ad platform takes a conversion in most cases.
FIRST_LOOK = timedelta(days=30)
# Clocks of two servers differ, and a change may be shown later than it was made.
OVERLAP = timedelta(hours=1)
# A deletion is told nowhere but by the deal's absence.
SEEN_WITHIN = timedelta(hours=24)
REMEMBERED = timedelta(days=90)
FOR_EVER = timedelta(days=36500)
# Whoever sweeps moves the cursor within this time, or is taken for dead; two at once only ask twice.
DEAD = timedelta(seconds=30)
CHUNK = 50
SOON_S = 20.0
LOOK_S = 5.0

log = structlog.get_logger()

Progress = Callable[[int, int | None], None]


def silent(_seen: int, _total: int | None) -> None:
    """Show nothing."""


class Sweeper:
    """Sweeps one CRM of one site."""

    def __init__(self, book: DealBook, client: CrmClient, every: timedelta) -> None:
        self.book = book
        self.client = client
        self.every = every
        self.pool = book.keeper.pool
        self.is_ours = False  # the sweep that was interrupted: by an error in this process

    async def run(self) -> None:
        """Sweep at the start and at intervals for ever; an error ends a sweep, never the loop."""
        while True:
            pause = self.every.total_seconds()
            try:
                if not await self.sweep_if_due():
                    pause = min(pause, LOOK_S)
            except (CrmAwayError, TransientError) as error:
                log.info("sweep_waits", site=self.book.site.name, reason=str(error))
                pause = min(pause, SOON_S, error.retry_after)
            except OperatorError as error:
                CRM_REFUSES.labels(self.book.site.name, self.client.api.name).set(1)
                log.warning("crm_refuses", site=self.book.site.name, reason=str(error))
            except Exception:
                STAGE_FAILURES.labels("sweep").inc()
                log.exception("sweep_failed", site=self.book.site.name)
            await asyncio.sleep(clock.jitter(pause))

    async def sweep_if_due(self) -> bool:
        """Sweep, and look for deletions; return False, and do nothing, while another process does."""
        async with borrowed(self.pool) as conn:
            sweep = await self.book.deals.sweep(conn)
        now = clock.now()
        is_running = sweep is not None and sweep.cursor is not None and now - sweep.touched_at < DEAD
        if is_running and not self.is_ours:
            return False
        self.is_ours = True
        await self.catch_up()
        self.is_ours = False
        await self.look_for_deletions(before=now - SEEN_WITHIN)
        return True

    async def catch_up(self, progress: Progress = silent, since: datetime | None = None) -> int:
        """Sweep until nothing is left that changed before this was called; return how many deals were read.

        After an interrupted sweep it sweeps once more: what changed since that one began is not in it.
        """
        async with borrowed(self.pool) as conn:
            before = await self.book.deals.sweep(conn)
        deals = await self.sweep(progress, since)
        if before is not None and before.cursor is not None and since is None:
            deals += await self.sweep(progress)
        return deals

    async def sweep(self, progress: Progress = silent, since: datetime | None = None) -> int:
        """Read every deal that changed since the last sweep, and since `since`; return how many.

        Without `since` it goes on where an interrupted one has come to. Raises CrmAwayError and
        CrmRefusedError; what was read before is kept.
        """
        sweep = await self.begun(since)
        cursor = sweep.cursor
        assert cursor is not None  # noqa: S101 - a sweep that has begun has one
        seen = sweep.seen
        while True:
            page = await self.client.converse(self.client.api.changed_deals(cursor))
            await self.take(page.deals)
            seen += len(page.deals)
            cursor = page.cursor
            progress(seen, page.total)
            if page.is_last:
                break
            await self.put(msgspec.structs.replace(sweep, cursor=cursor, seen=seen, touched_at=clock.now()))
        done = clock.now()
        await self.put(
            msgspec.structs.replace(
                sweep, cursor=None, seen=seen, touched_at=done, done_at=done, since=sweep.began_at - OVERLAP
            )
        )
        CRM_REFUSES.labels(self.book.site.name, self.client.api.name).set(0)
        log.info("swept", site=self.book.site.name, crm=self.client.api.name, deals=seen)
        return seen

    async def take(self, deals: Sequence[Deal]) -> None:
        """Bring the ledger to what the CRM says of deals; trouble with one is no other's."""
        because = Occasion(received_at=clock.now())
        for at in range(0, len(deals), CHUNK):
            try:
                await self.book.take_many(deals[at : at + CHUNK], because)
            except TransientError:
                raise
            except Exception:
                STAGE_FAILURES.labels("sweep").inc()
                log.exception("deals_passed_over", site=self.book.site.name)
        DEALS_READ.labels(self.client.api.name, "sweep").inc(len(deals))

    async def begun(self, since: datetime | None) -> Sweep:
        """Return the sweep that was interrupted, or a new one, kept."""
        async with borrowed(self.pool) as conn:
            before = await self.book.deals.sweep(conn)
        if since is None and before is not None and before.cursor is not None:
            return before
        now = clock.now()
        due_since = before.since if before is not None else now - FIRST_LOOK
        # A day that is asked for lets nothing be passed over that no sweep has read yet.
        start = due_since if since is None else min(since, due_since)
        sweep = Sweep(
            cursor=self.client.api.first_cursor(start),
            began_at=now,
            seen=0,
            touched_at=now,
            done_at=None if before is None else before.done_at,
            since=start,
        )
        await self.put(sweep)
        return sweep

    async def look_for_deletions(
        self, before: datetime, progress: Progress = silent, remembered: timedelta = REMEMBERED
    ) -> int:
        """Ask again for deals with conversions that were not read since `before`; return how many.

        Those that have not changed for longer than `remembered` before that are left alone. Each is asked for
        once in a round, so that one that cannot be read holds up no other.
        """
        looked = 0
        while True:
            async with borrowed(self.pool) as conn:
                unseen = await self.book.deals.unseen(conn, before, before - remembered, CHUNK)
            if not unseen:
                return looked
            deals = await self.client.converse(self.client.api.read_deals(unseen))
            for deal_id in unseen:
                because = Occasion(received_at=clock.now())
                deal = deals.get(deal_id)
                if deal is not None:
                    await self.book.take(deal, because, is_read=True)
                elif deal_id in deals:
                    await self.book.take_gone(deal_id, because)
                async with borrowed(self.pool) as conn:
                    await self.book.deals.put_read(conn, deal_id, because.received_at)
            looked += len(unseen)
            progress(looked, None)

    async def put(self, sweep: Sweep) -> None:
        """Note how far the sweep has come."""
        async with borrowed(self.pool) as conn:
            await self.book.deals.put_sweep(conn, sweep)
