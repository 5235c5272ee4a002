"""Deals with the sessions that earned them, for what is written back into the CRM; reads only."""

from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.store.sessions import SessionTable, fill

# The newest first: whoever looks at a deal looks at one of these.
_FIND = """
    select d.deal_id, d.written, c.rule, u.analytics_data as document
      from (select deal_id, written, read_at
              from closedloop.deal
             where site = %(site)s and crm = %(crm)s and not is_deleted
             order by read_at desc
             limit 500) d
      join lateral (
           select rule, session_row
             from closedloop.conversion
            where site = %(site)s and deal_id = d.deal_id
            order by session_row is null, conversion_id
            limit 1) c on true
      left join public.user_analytics u
        on $site_is and u.id = c.session_row::$id_type
     order by d.read_at desc
"""


class DealOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """One deal, what was written into it last, and the session that earned it if one did."""

    deal_id: str
    written: bytes | None
    rule: str | None
    document: Any  # of jsonb, or None


class Origins:
    """The statement for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.statement = fill(_FIND, table)

    async def find(self, conn: AsyncConnection[Any], site: str, crm: str) -> list[DealOrigin]:
        """Return the deals of a CRM that were read last and have a conversion, up to 500."""
        async with conn.cursor(row_factory=class_row(DealOrigin)) as cursor:
            await cursor.execute(self.statement, {"site": site, "crm": crm})
            return await cursor.fetchall()
