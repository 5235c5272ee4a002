"""Reads deals back that webhooks were about: the CRM's answer counts, not what a webhook says."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
import structlog

from closedloop.domain.deal import Deal, Finding
from closedloop.errors import ClosedloopError, CrmAwayError, OperatorError, TransientError
from closedloop.stages import clock
from closedloop.stages.crm import CrmClient
from closedloop.stages.dealbook import DealBook
from closedloop.stages.rounds import one_round
from closedloop.store.database import borrowed
from closedloop.store.deals import Task
from closedloop.store.journal import Occasion
from closedloop.telemetry import CRM_REFUSES, DEALS_READ, STAGE_FAILURES

LOOK_S = 0.5
CHUNK = 50
LEASE = timedelta(minutes=3)
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=15)
REFUSED_PAUSE = timedelta(minutes=5)

log = structlog.get_logger()


class DealReader:
    """Reads the deals of one CRM of one site that are due."""

    def __init__(self, book: DealBook, client: CrmClient) -> None:
        self.book = book
        self.client = client
        self.pool = book.keeper.pool

    async def run(self) -> None:
        """Read what is due for ever; an error ends a round, never the loop."""
        while True:
            with one_round("readback", site=self.book.site.name):
                while await self.read_due():
                    pass
            await asyncio.sleep(clock.jitter(LOOK_S))

    async def read_due(self) -> int:
        """Read up to 50 deals that are due; return how many were."""
        now = clock.now()
        async with borrowed(self.pool) as conn:
            tasks = await self.book.deals.claim(conn, now, now + LEASE, CHUNK)
        if not tasks:
            return 0
        crm = self.client.api.name
        try:
            deals = await self.client.converse(self.client.api.read_deals([task.deal_id for task in tasks]))
        except CrmAwayError as error:
            await self.put_off(tasks, str(error), timedelta(seconds=error.retry_after))
            return 0
        except OperatorError as error:
            CRM_REFUSES.labels(self.book.site.name, crm).set(1)
            log.warning("crm_refuses", site=self.book.site.name, crm=crm, reason=str(error))
            await self.put_off(tasks, str(error), REFUSED_PAUSE)
            return 0
        CRM_REFUSES.labels(self.book.site.name, crm).set(0)
        for task in tasks:
            await self.take(task, deals)
        return len(tasks)

    async def take(self, task: Task, deals: Mapping[str, Deal | None]) -> None:
        """Bring the ledger to what the CRM says of one deal; trouble with it is no other deal's."""
        if task.deal_id not in deals:
            await self.put_off([task], "the CRM's answer does not have it", FIRST_PAUSE)
            return
        because = Occasion(received_at=clock.now(), webhook_id=task.webhook_id)
        try:
            deal = deals[task.deal_id]
            if deal is None:
                await self.book.take_gone(task.deal_id, because)
            else:
                await self.book.take(self.with_hints(deal, task), because, is_read=True)
            async with borrowed(self.pool) as conn:
                await self.book.deals.done(conn, task, clock.now())
            DEALS_READ.labels(self.client.api.name, "webhook").inc()
        except TransientError:
            raise
        except ClosedloopError as error:
            await self.put_off([task], str(error), FIRST_PAUSE)
        except Exception as error:
            STAGE_FAILURES.labels("readback").inc()
            log.exception("deal_failed", site=self.book.site.name, deal_id=task.deal_id)
            await self.put_off(
                [task], f"an error of ours, it is in the log: {type(error).__name__}", FIRST_PAUSE
            )

    def with_hints(self, deal: Deal, task: Task) -> Deal:
        """Return a deal with what the webhook has told of its visitor."""
        if task.hints is None:
            return deal
        hints = msgspec.json.decode(self.book.sealer.open(task.hints), type=tuple[Finding, ...])
        return msgspec.structs.replace(deal, findings=(*deal.findings, *hints))

    async def put_off(self, tasks: Sequence[Task], reason: str, pause: timedelta) -> None:
        """Let deals be tried again, later each time."""
        log.info("deals_put_off", site=self.book.site.name, count=len(tasks), reason=reason)
        async with borrowed(self.pool) as conn:
            for task in tasks:
                longer = min(pause * 2 ** min(task.attempt - 1, 10), LONGEST_PAUSE)
                due_at = clock.now() + timedelta(seconds=clock.jitter(max(longer, pause).total_seconds()))
                await self.book.deals.later(conn, [task.deal_id], due_at, reason)
