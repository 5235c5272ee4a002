"""Writes where a deal came from into its fields, so that a manager sees it in the CRM; off by default."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from closedloop.domain.conversion import digest_of
from closedloop.domain.origin import Origin, origin_of
from closedloop.errors import CrmRefusedError, OperatorError, TransientError
from closedloop.settings import WriteBack
from closedloop.stages import clock
from closedloop.stages.crm import CrmClient
from closedloop.stages.dealbook import DealBook
from closedloop.stages.rounds import one_round
from closedloop.store.database import borrowed
from closedloop.store.origins import PAGE, DealOrigin, Place

ROUND_S = 30.0
# A deal that the CRM refuses to change is left alone for so long; when it refuses several in a row it means
# us and not the deals, and the round ends.
REFUSED_PAUSE = timedelta(hours=1)
MAX_IN_A_ROW = 3

log = structlog.get_logger()


class BackWriter:
    """Writes into the deals of one CRM of one site whatever is not written there yet.

    A round looks at the deals that were read last, and at a page of the older ones, whose turn it is.
    """

    def __init__(self, book: DealBook, client: CrmClient, fields: WriteBack, page: int = PAGE) -> None:
        self.book = book
        self.client = client
        self.fields = fields
        self.page = page
        self.pool = book.keeper.pool
        self.reached: Place | None = None
        self.left_alone: dict[str, datetime] = {}
        self.refused_in_a_row = 0

    async def run(self) -> None:
        """Go round for ever; an error ends a round, never the loop."""
        while True:
            await asyncio.sleep(clock.jitter(ROUND_S))
            with one_round("writeback", passing=(TransientError, OperatorError), site=self.book.site.name):
                await self.write()

    async def write(self) -> int:
        """Write what has changed since it was written last; return into how many deals.

        Our own change comes back as a webhook, and changes nothing: what was written is remembered. Raises
        CrmAwayError, and CrmRefusedError when the CRM refuses one deal after the other.
        """
        now = clock.now()
        self.left_alone = {deal_id: until for deal_id, until in self.left_alone.items() if until > now}
        self.refused_in_a_row = 0
        newest = await self.find(None)
        wrote = sum([await self.write_one(one) for one in newest])
        if len(newest) < self.page:
            return wrote
        older = await self.find(self.reached or newest[-1].place)
        wrote += sum([await self.write_one(one) for one in older])
        self.reached = older[-1].place if len(older) == self.page else None
        return wrote

    async def find(self, after: Place | None) -> list[DealOrigin]:
        """Return a page of the deals with conversions, those read last first."""
        origins = self.book.shape.current().origins
        async with borrowed(self.pool) as conn:
            return await origins.find(conn, self.book.site.name, self.client.api.name, after, self.page)

    async def write_one(self, one: DealOrigin) -> bool:
        """Write into one deal unless the same stands there; return whether it was written."""
        told = self.texts(origin_of(one.document, one.rule))
        digest = digest_of(*(f"{name}={text}" for name, text in sorted(told.items())))
        if digest == one.written or one.deal_id in self.left_alone:
            return False
        try:
            await self.client.converse(self.client.api.write_fields(one.deal_id, told))
        except CrmRefusedError as error:
            log.warning("origin_refused", site=self.book.site.name, deal_id=one.deal_id, reason=str(error))
            self.left_alone[one.deal_id] = clock.now() + REFUSED_PAUSE
            self.refused_in_a_row += 1
            if self.refused_in_a_row >= MAX_IN_A_ROW:
                raise
            return False
        self.refused_in_a_row = 0
        async with borrowed(self.pool) as conn:
            await self.book.deals.put_written(conn, one.deal_id, digest)
        return True

    def texts(self, origin: Origin) -> Mapping[str, str]:
        """Return what belongs into which field of the CRM."""
        places = {
            self.fields.source: origin.source,
            self.fields.campaign: origin.campaign,
            self.fields.match: origin.match,
        }
        return {name: text for name, text in places.items() if name is not None}
