"""The conversions of deals that count, for the comparison with a CRM; reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.domain.reconcile import OurConversion

_OF_DEALS = """
    select deal_id, goal, value, currency, occurred_at, state = 'matched' as is_matched, session_id, ym_uid,
           yclid is not null or identifiers is not null as has_others
      from closedloop.conversion
     where site = %(site)s and dedup_rule = 'deal' and cancelled_at is null
       and deal_id = any(%(deal_ids)s::text[])
     order by deal_id, goal
"""

# A deal that nobody has shown yet may be of any CRM of the site.
_OF_PERIOD = """
    select c.deal_id, c.goal, c.value, c.currency, c.occurred_at, c.state = 'matched' as is_matched,
           c.session_id, c.ym_uid, c.yclid is not null or c.identifiers is not null as has_others
      from closedloop.conversion c
     where c.site = %(site)s and c.dedup_rule = 'deal' and c.cancelled_at is null
       and c.occurred_at >= %(start)s and c.occurred_at < %(end)s and c.goal = any(%(goals)s::text[])
       and (exists (select from closedloop.deal d
                     where d.site = %(site)s and d.crm = %(crm)s and d.deal_id = c.deal_id)
            or not exists (select from closedloop.deal d
                            where d.site = %(site)s and d.deal_id = c.deal_id))
     order by c.deal_id, c.goal
"""


async def conversions_of_deals(
    conn: AsyncConnection[Any], site: str, deal_ids: Sequence[str]
) -> list[OurConversion]:
    """Return the conversions of these deals that count, by deal and goal."""
    async with conn.cursor(row_factory=class_row(OurConversion)) as cursor:
        await cursor.execute(_OF_DEALS, {"site": site, "deal_ids": list(deal_ids)})
        return await cursor.fetchall()


async def conversions_of_period(
    conn: AsyncConnection[Any], of: tuple[str, str], goals: Sequence[str], period: tuple[datetime, datetime]
) -> list[OurConversion]:
    """Return the conversions of some goals that occurred in a period, until before its end, by deal and goal.

    `of` is site and CRM: those whose deal only another CRM of the site has shown are left out.
    """
    site, crm = of
    start, end = period
    parameters = {"site": site, "crm": crm, "goals": list(goals), "start": start, "end": end}
    async with conn.cursor(row_factory=class_row(OurConversion)) as cursor:
        await cursor.execute(_OF_PERIOD, parameters)
        return await cursor.fetchall()
