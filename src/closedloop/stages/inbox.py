"""Works on webhooks that were kept and answered: reads them, and asks for the deals that they are about."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import structlog
from psycopg import AsyncConnection

from closedloop.domain.deal import Finding
from closedloop.errors import CallerError, DatabaseConflictError, TransientError
from closedloop.parse.base import CrmRequest, Notice, Reading, Webhooks
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.dealbook import DealBook
from closedloop.stages.intake import Intake
from closedloop.stages.rounds import one_round
from closedloop.store.database import borrowed
from closedloop.store.inbox import KeptWebhook, count_open, next_waiting, settle_webhook
from closedloop.store.journal import Occasion
from closedloop.store.settle import Settled
from closedloop.store.statements import Shape
from closedloop.telemetry import INBOX, STAGE_FAILURES, WEBHOOKS

LOOK_S = 0.5
COUNT_S = 10.0
UNREADABLE = (
    "closedloop cannot ask the CRM about deal {}: configure how it is read back, then run closedloop replay"
)

log = structlog.get_logger()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One CRM of one site: how its webhooks are read, and whether it can be asked about a deal."""

    webhooks: Webhooks
    book: DealBook
    can_be_asked: bool


class InboxReader:
    """Reads the webhooks of one site, oldest first, each in a transaction of its own."""

    def __init__(self, shape: Shape, intake: Intake, site: Site, sources: Mapping[str, Source]) -> None:
        self.pool = intake.keeper.pool
        self.shape = shape
        self.intake = intake
        self.site = site
        self.sources = sources

    async def run(self) -> None:
        """Look for webhooks for ever; an error ends a round, never the loop."""
        counted_at = clock.elapsed() - COUNT_S
        while True:
            with one_round("inbox", site=self.site.name):
                await self.work()
                if clock.elapsed() - counted_at >= COUNT_S:
                    await self.count()
                    counted_at = clock.elapsed()
            await asyncio.sleep(clock.jitter(LOOK_S))

    async def work(self) -> int:
        """Work on everything that waits; return how many webhooks that were."""
        passed: list[UUID] = []
        while True:
            try:
                webhook_id = await self.work_on_next(passed)
            except DatabaseConflictError:
                continue
            if webhook_id is None:
                return len(passed)
            passed.append(webhook_id)

    async def count(self) -> None:
        """Bring the gauges up to date."""
        async with borrowed(self.pool) as conn:
            counted = await count_open(conn, self.site.name)
        for outcome, number in counted.items():
            INBOX.labels(self.site.name, outcome).set(number)

    async def work_on_next(self, passed: list[UUID]) -> UUID | None:
        """Work on the oldest webhook that waits, and show what came of it; None when there is none."""
        settled: list[Settled] = []
        async with borrowed(self.pool) as conn, conn.transaction():
            webhook = await next_waiting(conn, self.site.name, passed)
            if webhook is None:
                return None
            reason = await self.try_to_read(conn, webhook, settled)
            outcome = "accepted" if reason is None else "failed"
            await settle_webhook(conn, self.site.name, webhook.webhook_id, outcome, reason)
        WEBHOOKS.labels(webhook.source, "read" if reason is None else "unreadable").inc()
        for one in settled:
            if not one.recorded.imaged:
                await self.intake.keeper.follow(self.site.name, one.recorded.conversion_id)
        return webhook.webhook_id

    async def try_to_read(
        self, conn: AsyncConnection[Any], webhook: KeptWebhook, settled: list[Settled]
    ) -> str | None:
        """Do what a webhook asks for, all or nothing; return why it could not be read, None when it was."""
        try:
            async with conn.transaction():
                return await self.read(conn, webhook, settled)
        except CallerError as error:
            reason = str(error)
        except TransientError:
            raise
        except Exception as error:
            STAGE_FAILURES.labels("inbox").inc()
            log.exception("webhook_unreadable", site=self.site.name, webhook_id=str(webhook.webhook_id))
            reason = f"an error of ours, it is in the log: {type(error).__name__}"
        settled.clear()
        log.warning("webhook_failed", site=self.site.name, source=webhook.source, reason=reason)
        return reason

    async def read(
        self, conn: AsyncConnection[Any], webhook: KeptWebhook, settled: list[Settled]
    ) -> str | None:
        """Do what a webhook asks for; return why a deal of it has to wait for its owner."""
        source = self.sources.get(webhook.source)
        if source is None:
            return f"{webhook.source} is not configured for the site {self.site.name}"
        reading = source.webhooks.read(self.request(webhook))
        because = Occasion(received_at=webhook.received_at, webhook_id=webhook.webhook_id)
        waiting = [
            notice.deal_id
            for notice in reading.notices
            if not await self.take(conn, source, notice, because, settled)
        ]
        settled += await self.report(conn, webhook, reading)
        return UNREADABLE.format(", ".join(waiting)) if waiting else None

    async def take(
        self,
        conn: AsyncConnection[Any],
        source: Source,
        notice: Notice,
        because: Occasion,
        settled: list[Settled],
    ) -> bool:
        """Let a deal be read again, or believe the webhook where nobody can be asked; False if it is mute."""
        if source.can_be_asked:
            hints = self.sealed(notice.findings) if notice.findings else None
            await source.book.deals.want(conn, notice.deal_id, clock.now(), because.webhook_id, hints)
        elif notice.kind == "deleted":
            settled += await source.book.apply_gone(conn, notice.deal_id, because)
        elif notice.deal is not None:
            settled += await source.book.apply(conn, [notice.deal], because, is_read=False)
        else:
            return False
        return True

    async def report(
        self, conn: AsyncConnection[Any], webhook: KeptWebhook, reading: Reading
    ) -> list[Settled]:
        """Record the conversions that a webhook reports in the hook's own keys."""
        told = [
            self.intake.complete(self.site, webhook.received_at, webhook.webhook_id, one)
            for one in reading.conversions
        ]
        if not told:
            return []
        settled = await self.shape.current().settler.settle(conn, self.site.name, told)
        return list(settled.values())

    def request(self, webhook: KeptWebhook) -> CrmRequest:
        """Return a webhook as it came."""
        opened = self.intake.sealer.open
        return CrmRequest(
            query=opened(webhook.query) if webhook.query else b"",
            content_type=webhook.content_type,
            body=opened(webhook.body) if webhook.body else b"",
            received_at=webhook.received_at,
        )

    def sealed(self, findings: tuple[Finding, ...]) -> bytes:
        """Return findings as a task keeps them: phones are among them."""
        return self.intake.sealer.seal(msgspec.json.encode(findings))
