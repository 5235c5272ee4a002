"""The conversions of deals that count, for the comparison with a CRM; reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.domain.reconcile import OurConversion

_COLUMNS = """
    select deal_id, goal, value, currency, occurred_at, state = 'matched' as is_matched, session_id, ym_uid,
           yclid is not null or identifiers is not null as has_others
      from closedloop.conversion
     where site = %(site)s and dedup_rule = 'deal' and cancelled_at is null
"""

_OF_DEALS = (
    _COLUMNS
    + """
       and deal_id = any(%(deal_ids)s)
"""
)

_OF_PERIOD = (
    _COLUMNS
    + """
       and occurred_at >= %(start)s and occurred_at < %(end)s and goal = any(%(goals)s)
     order by deal_id, goal
"""
)


async def conversions_of_deals(
    conn: AsyncConnection[Any], site: str, deal_ids: Sequence[str]
) -> list[OurConversion]:
    """Return the conversions of these deals."""
    async with conn.cursor(row_factory=class_row(OurConversion)) as cursor:
        await cursor.execute(_OF_DEALS.encode(), {"site": site, "deal_ids": list(deal_ids)})
        return await cursor.fetchall()


async def conversions_of_period(
    conn: AsyncConnection[Any], site: str, goals: Sequence[str], start: datetime, end: datetime
) -> list[OurConversion]:
    """Return the conversions of some goals that occurred in a period, by deal."""
    parameters = {"site": site, "goals": list(goals), "start": start, "end": end}
    async with conn.cursor(row_factory=class_row(OurConversion)) as cursor:
        await cursor.execute(_OF_PERIOD.encode(), parameters)
        return await cursor.fetchall()
