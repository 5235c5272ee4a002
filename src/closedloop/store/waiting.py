"""Unmatched conversions, and the search for sessions that came after them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from closedloop.store.conversions import Search
from closedloop.store.images import Imaged
from closedloop.store.sessions import SessionTable, fill

CHUNK = 500

# One probe of a whole index for each kind: the waiting values go in as one sorted array, and only
# conversions that a session now answers come back.
_ANSWERED = """
    with waits as materialized (
        select value
          from closedloop.waiting
         where site = %(site)s and kind = '$kind'
    )
    select waiting.waiter_id
      from (select distinct $column::text as value
              from public.user_analytics u
             where $site_is and $probe) hit
      join closedloop.waiting
        on waiting.site = %(site)s and waiting.kind = '$kind' and waiting.value = hit.value
     limit %(limit)s
"""

_ROUNDED = """
    select i.conversion_id
      from closedloop.waiting
      join closedloop.conversion i
        on i.site = %(site)s and i.conversion_id = waiting.waiter_id
     cross join lateral ($find_session) session
     where waiting.site = %(site)s and waiting.kind = 'ym_uid_rounded'
     limit %(limit)s
"""

_KNOWN = """
    select waiting.waiter_id
      from closedloop.waiting
      join closedloop.identity known
        on known.site = %(site)s and known.kind = waiting.kind and known.value = waiting.value
     where waiting.site = %(site)s and waiting.kind not in ('session_id', 'ym_uid', 'ym_uid_rounded', 'yclid')
     limit %(limit)s
"""

_FOUND = """
    select i.conversion_id, session.session_row, session.rule, i.goal, i.deal_id, i.value, i.currency,
           i.occurred_at, i.cancelled_at is not null as is_cancelled
      from closedloop.conversion i
     cross join lateral ($find_session) session
     where i.site = %(site)s and i.state = 'unmatched' and i.conversion_id = any(%(candidates)s)
     order by i.conversion_id
"""

_MATCH = """
    with matched as (
        update closedloop.conversion
           set state = 'matched', session_row = %(session_row)s, rule = %(rule)s, matched_at = %(now)s
         where site = %(site)s and conversion_id = %(conversion_id)s and state = 'unmatched'
        returning conversion_id, identifiers
    ), served as (
        delete from closedloop.waiting
         where site = %(site)s and waiter_id in (select conversion_id from matched)
    ), known as (
        insert into closedloop.identity (site, kind, value, session_row, seen_at)
        select distinct %(site)s, pair ->> 'kind', pair ->> 'value', %(session_row)s, %(now)s::timestamptz
          from matched, jsonb_array_elements(identifiers) as pair
        on conflict do nothing
    ), told_again as (
        update closedloop.delivery
           set wanted = wanted + 1, due_at = least(due_at, %(now)s::timestamptz),
               state = case when state in ('done', 'parked') then 'due' else state end
         where site = %(site)s and conversion_id in (select conversion_id from matched)
    ), noted as (
        insert into closedloop.journal (site, conversion_id, at, kind, webhook_id, detail)
        select %(site)s, conversion_id, %(now)s, 'matched', %(webhook_id)s,
               jsonb_build_object('late', true)
          from matched
    )
    select conversion_id
      from matched
"""

_TELL = """
    update closedloop.conversion
       set session_id = %(session_id)s, ym_uid = %(ym_uid)s, ym_uid_low = %(ym_uid_low)s,
           ym_uid_high = %(ym_uid_high)s, yclid = %(yclid)s, identifiers = %(identifiers)s
     where site = %(site)s and conversion_id = %(conversion_id)s and state = 'unmatched'
"""

_FORGET = """
    delete from closedloop.waiting
     where site = %(site)s and waiter_id = %(conversion_id)s
"""

_WAIT = """
    insert into closedloop.waiting (site, kind, value, waiter_id)
    select %(site)s, identifier.kind, identifier.value, conversion_id
      from closedloop.conversion, lateral ($identifiers) identifier
     where conversion.site = %(site)s and conversion_id = %(conversion_id)s
"""

_WRITTEN = """
    select pg_current_wal_insert_lsn()::text
"""


class Found(Imaged, frozen=True, kw_only=True):
    """An unmatched conversion and the session that now answers it."""

    rule: str


class Waiting:
    """The statements over unmatched conversions, written for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.probes = [
            fill(
                _ANSWERED,
                table,
                kind=kind,
                column=f"u.{kind}" if kind == "session_id" else f"${kind}",
                probe=probe,
            )
            for kind, probe in (
                ("session_id", "$session_id_any"),
                ("ym_uid", "$ym_uid = any(array(select value from waits order by value))"),
                ("yclid", "$yclid = any(array(select value from waits order by value))"),
            )
        ]
        self.probes += [fill(_ROUNDED, table), _KNOWN.encode()]
        self.found = fill(_FOUND, table)
        self.wait_statement = fill(_WAIT, table)

    async def find_answered(self, conn: AsyncConnection[Any], site: str) -> Sequence[UUID]:
        """Return up to 500 conversions and leads of this site that some session now seems to answer."""
        answered: dict[UUID, None] = {}
        async with conn.cursor(row_factory=scalar_row) as cursor:
            for probe in self.probes:
                await cursor.execute(probe, {"site": site, "limit": CHUNK})
                answered |= dict.fromkeys(await cursor.fetchall())
        return list(answered)[:CHUNK]

    async def find_sessions(
        self, conn: AsyncConnection[Any], site: str, candidates: Sequence[UUID]
    ) -> Sequence[Found]:
        """Return the session of each candidate that has one, by the same rules as at its arrival."""
        async with conn.cursor(row_factory=class_row(Found)) as cursor:
            await cursor.execute(self.found, {"site": site, "candidates": list(candidates)})
            return await cursor.fetchall()

    async def wait_for(
        self, conn: AsyncConnection[Any], site: str, conversion_id: UUID, search: Search
    ) -> None:
        """Let an unmatched conversion wait for `search` from now on; the caller holds its lock."""
        parameters = {"site": site, "conversion_id": conversion_id, **search.parameters()}
        for statement in (_TELL, _FORGET, self.wait_statement):
            await conn.execute(statement, parameters)


async def match_late(
    conn: AsyncConnection[Any], site: str, found: Found, now: datetime, webhook_id: UUID | None = None
) -> bool:
    """Tie an unmatched conversion to its session; False when somebody was first. The image is the caller's.

    `webhook_id` is the webhook that told of it again, None when the session's arrival decided.
    """
    cursor = await conn.execute(
        _MATCH,
        {
            "site": site,
            "now": now,
            "session_row": found.session_row,
            "rule": found.rule,
            "conversion_id": found.conversion_id,
            "webhook_id": webhook_id,
        },
    )
    return await cursor.fetchone() is not None


async def written_so_far(conn: AsyncConnection[Any]) -> str:
    """Return how far the database has written its log: unchanged means that no session can have come."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(_WRITTEN)
        return str(await cursor.fetchone())
