"""Writes where a deal came from into its fields, so that a manager sees it in the CRM; off by default."""

import asyncio
from collections.abc import Mapping

import structlog

from closedloop.domain.conversion import digest_of
from closedloop.domain.origin import Origin, origin_of
from closedloop.errors import CrmRefusedError, TransientError
from closedloop.settings import WriteBack
from closedloop.stages import clock
from closedloop.stages.crm import CrmClient
from closedloop.stages.dealbook import DealBook
from closedloop.store.database import borrowed
from closedloop.telemetry import STAGE_FAILURES

ROUND_S = 30.0

log = structlog.get_logger()


class BackWriter:
    """Writes into the deals of one CRM of one site whatever is not written there yet."""

    def __init__(self, book: DealBook, client: CrmClient, fields: WriteBack) -> None:
        self.book = book
        self.client = client
        self.fields = fields
        self.pool = book.keeper.pool

    async def run(self) -> None:
        """Go round for ever; an error ends a round, never the loop."""
        while True:
            await asyncio.sleep(clock.jitter(ROUND_S))
            try:
                await self.write()
            except (TransientError, CrmRefusedError) as error:
                log.info("writeback_waits", site=self.book.site.name, reason=str(error))
            except Exception:
                STAGE_FAILURES.labels("writeback").inc()
                log.exception("writeback_failed", site=self.book.site.name)

    async def write(self) -> int:
        """Write what has changed since it was written last; return into how many deals.

        Our own change comes back as a webhook, and changes nothing: what was written is remembered.
        """
        wrote = 0
        statements = self.book.shape.current().origins
        async with borrowed(self.pool) as conn:
            found = await statements.find(conn, self.book.site.name, self.client.api.name)
        for one in found:
            told = self.texts(origin_of(one.document, one.rule))
            digest = digest_of(*(f"{name}={text}" for name, text in sorted(told.items())))
            if digest == one.written:
                continue
            await self.client.converse(self.client.api.write_fields(one.deal_id, told))
            async with borrowed(self.pool) as conn:
                await self.book.deals.put_written(conn, one.deal_id, digest)
            wrote += 1
        return wrote

    def texts(self, origin: Origin) -> Mapping[str, str]:
        """Return what belongs into which field of the CRM."""
        places = {
            self.fields.source: origin.source,
            self.fields.campaign: origin.campaign,
            self.fields.match: origin.match,
        }
        return {name: text for name, text in places.items() if name is not None}
