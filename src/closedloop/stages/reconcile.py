"""Compares a CRM's deals of a period with our conversions; changes nothing."""

from collections.abc import Sequence
from datetime import datetime

from closedloop.domain.reconcile import (
    Comparison,
    Difference,
    OurConversion,
    Reached,
    compare,
    extra,
    reached,
)
from closedloop.stages.crm import CrmClient
from closedloop.stages.dealbook import DealBook
from closedloop.stages.sweep import Progress
from closedloop.store.database import borrowed
from closedloop.store.reconcile import conversions_of_deals, conversions_of_period

CHUNK = 50


class Reconciler:
    """Compares one CRM of one site."""

    def __init__(self, book: DealBook, client: CrmClient) -> None:
        self.book = book
        self.client = client
        self.site = book.site

    async def compare(self, start: datetime, end: datetime, progress: Progress) -> Comparison:
        """Return what differs among the goals that were reached from `start` until before `end`.

        Raises CrmAwayError and CrmRefusedError: half a comparison proves nothing.
        """
        there: dict[tuple[str, str], Reached] = {}
        cursor, seen = self.client.api.first_cursor(start), 0
        while True:
            page = await self.client.converse(self.client.api.changed_deals(cursor))
            for deal in page.deals:
                # A deal that changes while it is compared comes twice: the later word counts.
                for key in [key for key in there if key[0] == deal.deal_id]:
                    del there[key]
                told = reached(deal, self.book.goals, start, end)
                there |= {(one.deal_id, one.demand.goal): one for one in told}
            cursor, seen = page.cursor, seen + len(page.deals)
            progress(seen, page.total)
            if page.is_last:
                break
        here = await self.ours(sorted({deal_id for deal_id, _ in there}))
        differences = compare(there.values(), here, self.site.currency)
        differences += await self.extras(there, start, end)
        return Comparison(in_crm=len(there), here=len(there.keys() & here.keys()), differences=differences)

    async def ours(self, deal_ids: Sequence[str]) -> dict[tuple[str, str], OurConversion]:
        """Return our conversions of these deals by deal and goal."""
        async with borrowed(self.book.keeper.pool) as conn:
            found = await conversions_of_deals(conn, self.site.name, deal_ids)
        return {(one.deal_id, one.goal): one for one in found}

    async def extras(
        self, there: dict[tuple[str, str], Reached], start: datetime, end: datetime
    ) -> list[Difference]:
        """Return our conversions of the period that no deal of the CRM asks for, and why."""
        goals = sorted({goal.goal for goal in self.book.goals})
        of, zone = (self.site.name, self.client.api.name), self.site.zone
        async with borrowed(self.book.keeper.pool) as conn:
            ours = await conversions_of_period(conn, of, goals, (start, end))
        unasked = [one for one in ours if (one.deal_id, one.goal) not in there]
        differences: list[Difference] = []
        for at in range(0, len(unasked), CHUNK):
            chunk = unasked[at : at + CHUNK]
            ids = sorted({one.deal_id for one in chunk})
            deals = await self.client.converse(self.client.api.read_deals(ids))
            found = [
                extra(one, deals.get(one.deal_id), self.book.goals, zone, is_asked=one.deal_id in deals)
                for one in chunk
            ]
            differences += filter(None, found)
        return differences
