"""Deals with the sessions that earned them, for what is written back into the CRM; reads only."""

from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.store.sessions import SessionTable, fill

PAGE = 500

_FIND = """
    select d.deal_id, d.read_at, d.written, c.rule, u.analytics_data as document
      from closedloop.deal d
      join lateral (
           select rule, session_row
             from closedloop.conversion
            where site = %(site)s and deal_id = d.deal_id
            order by session_row is null, conversion_id
            limit 1) c on true
      left join public.user_analytics u
        on $site_is and u.id = c.session_row::$id_type
     where d.site = %(site)s and d.crm = %(crm)s and not d.is_deleted
       and (%(read_at)s::timestamptz is null or (d.read_at, d.deal_id) < (%(read_at)s, %(deal_id)s))
     order by d.read_at desc, d.deal_id desc
     limit %(limit)s
"""


class Place(NamedTuple):
    """Where in the order of deals, those read last first, a page ends."""

    read_at: datetime
    deal_id: str


class DealOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """One deal, what was written into it last, and the session that earned it if one did."""

    deal_id: str
    read_at: datetime
    written: bytes | None
    rule: str | None
    document: Any  # of jsonb, or None

    @property
    def place(self) -> Place:
        """Where the deal stands in the order."""
        return Place(self.read_at, self.deal_id)


class Origins:
    """The statement for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.statement = fill(_FIND, table)

    async def find(
        self, conn: AsyncConnection[Any], site: str, crm: str, after: Place | None = None, limit: int = PAGE
    ) -> list[DealOrigin]:
        """Return up to `limit` deals of a CRM that have a conversion, those read last first, from `after` on.

        Of several conversions of a deal the first that has a session counts.
        """
        read_at, deal_id = after or (None, None)
        parameters = {"site": site, "crm": crm, "read_at": read_at, "deal_id": deal_id, "limit": limit}
        async with conn.cursor(row_factory=class_row(DealOrigin)) as cursor:
            await cursor.execute(self.statement, parameters)
            return await cursor.fetchall()
