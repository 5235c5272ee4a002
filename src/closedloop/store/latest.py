"""What came last to a site: visits, forms, deals; for the page that helps to set it up."""

from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.store.sessions import SessionTable, fill

_VISIT = """
    select i.made_at as at, u.analytics_data -> 'ids' ->> 'ym_uid' as ym_uid,
           u.analytics_data -> 'visit' ->> 'bot' as bot,
           coalesce(u.analytics_data #>> '{visit,pages}', '{}') as pages,
           coalesce(u.analytics_data #>> '{visit,forms}', '{}') as forms
      from (select session_id, made_at
              from closedloop.session_made
             where site = %(site)s
             order by made_at desc
             limit 20) i
     cross join lateral (
           select u.analytics_data
             from public.user_analytics u
            where $site_is and $session_id
            order by u."timestamp" desc nulls last
            limit 1) u
     order by i.made_at desc
"""

_LEAD = """
    select received_at as at, form_name, session_id is not null as has_session,
           ym_uid is not null as has_ym_uid, session_row is not null as is_matched
      from closedloop.lead
     where site = %(site)s
     order by received_at desc
     limit 1
"""

_CONVERSION = """
    select received_at as at, goal, state = 'matched' as is_matched
      from closedloop.conversion
     where site = %(site)s
     order by conversion_id desc
     limit 1
"""


class LatestVisit(msgspec.Struct, frozen=True, kw_only=True):
    """One of the latest sessions; `pages` and `forms` are JSON as the document has it."""

    at: datetime
    ym_uid: str | None
    bot: str | None
    pages: str
    forms: str


class LatestLead(msgspec.Struct, frozen=True, kw_only=True):
    """The latest form that its webhook told."""

    at: datetime
    form_name: str | None
    has_session: bool
    has_ym_uid: bool
    is_matched: bool


class LatestConversion(msgspec.Struct, frozen=True, kw_only=True):
    """The latest conversion that a CRM told."""

    at: datetime
    goal: str
    is_matched: bool


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """What came last; newest visit first."""

    visits: list[LatestVisit]
    lead: LatestLead | None
    conversion: LatestConversion | None


class Arrivals:
    """The statements for one shape of the table."""

    def __init__(self, table: SessionTable) -> None:
        self.visits = fill(_VISIT, table)

    async def latest(self, conn: AsyncConnection[Any], site: str) -> Latest:
        """Return what came last to a site."""
        parameters = {"site": site}
        async with conn.cursor(row_factory=class_row(LatestVisit)) as cursor:
            await cursor.execute(self.visits, parameters)
            visits = await cursor.fetchall()
        async with conn.cursor(row_factory=class_row(LatestLead)) as leads:
            await leads.execute(_LEAD, parameters)
            lead = await leads.fetchone()
        async with conn.cursor(row_factory=class_row(LatestConversion)) as conversions:
            await conversions.execute(_CONVERSION, parameters)
            conversion = await conversions.fetchone()
        return Latest(visits=visits, lead=lead, conversion=conversion)
