"""The goal lists in public.user_analytics, kept equal to the ledger: added, changed, put back.

`append.sql` writes the first image of a conversion together with the conversion. This file does the rest,
one session at a time, under the lock of its row.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from closedloop.domain.image import GoalImage, goal_image
from closedloop.store.sessions import SessionTable, fill

FIRST = UUID(int=0)
LAST = UUID(int=2**128 - 1)


class Imaged(msgspec.Struct, frozen=True, kw_only=True):
    """What the image of one matched conversion is made from."""

    conversion_id: UUID
    session_row: str
    goal: str
    deal_id: str | None
    value: Decimal
    currency: str
    occurred_at: datetime
    is_cancelled: bool = False  # its goal must not stand in the list

    def image(self) -> GoalImage:
        """Return the goal as it has to stand in the session's list."""
        money = (self.value, self.currency)
        return goal_image(self.conversion_id, self.goal, self.occurred_at, money, self.deal_id)


_PLACE = """
    select (select min(place) - 1
              from jsonb_array_elements($document #> '{target_actions,yandex_goals_triggered}')
                   with ordinality as listed (goal, place)
             where goal ->> 'conversion_id' = %(conversion_id)s) as place
      from public.user_analytics u
     where $site_is and u.id = %(session_row)s::$id_type and $fits
       for no key update of u
"""

_ADD = """
    update public.user_analytics u
       set analytics_data = $appended
      from (select %(session_row)s::$id_type as id, %(images)s::jsonb as images) wanted
     where $site_is and u.id = wanted.id and $fits
"""

_REPLACE = """
    update public.user_analytics u
       set analytics_data = $replaced
     where $site_is and u.id = %(session_row)s::$id_type
"""

_REMOVE = """
    update public.user_analytics u
       set analytics_data = $removed
     where $site_is and u.id = %(session_row)s::$id_type
"""

_MATCHED = """
    select conversion_id, session_row, goal, deal_id, value, currency, occurred_at,
           cancelled_at is not null as is_cancelled
      from closedloop.conversion
     where site = %(site)s and conversion_id = %(conversion_id)s and state = 'matched'
"""

_CHUNK_END = """
    select conversion_id
      from closedloop.conversion
     where site = %(site)s and conversion_id < %(before)s
     order by conversion_id desc
    offset %(rows)s
     limit 1
"""

_MISSING = """
    select c.conversion_id, c.session_row, c.goal, c.deal_id, c.value, c.currency, c.occurred_at,
           c.cancelled_at is not null as is_cancelled
      from closedloop.conversion c
      join public.user_analytics u
        on $site_is and u.id = c.session_row::$id_type
     where c.site = %(site)s and c.state = 'matched'
       and not c.conversion_id = any(%(refused)s::uuid[])
       and c.conversion_id >= %(from)s and c.conversion_id < %(before)s
       and $fits
       and case when c.cancelled_at is null
                then not coalesce($document #> '{target_actions,yandex_goals_triggered}'
                                  @> jsonb_build_array(jsonb_build_object(
                                          'conversion_id', c.conversion_id,
                                          'value', c.value, 'currency', c.currency)), false)
                else coalesce($document #> '{target_actions,yandex_goals_triggered}'
                              @> jsonb_build_array(
                                      jsonb_build_object('conversion_id', c.conversion_id)), false)
           end
     order by c.session_row, c.conversion_id
     limit 500
"""


class Images:
    """The statements over goal lists, written for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.place, self.add, self.replace, self.remove, self.missing = (
            fill(statement, table) for statement in (_PLACE, _ADD, _REPLACE, _REMOVE, _MISSING)
        )

    async def put_image(self, conn: AsyncConnection[Any], site: str, wanted: Imaged) -> bool:
        """Make the session's list hold this conversion exactly as the ledger has it; True when it changed.

        A cancelled one is taken out of the list.
        Locks the session's row until the caller's transaction ends, and waits for whoever holds it. A row
        that is gone, or has something else where the list belongs, is left alone. Repeatable.
        """
        where = {"site": site, "session_row": wanted.session_row, "conversion_id": str(wanted.conversion_id)}
        image = msgspec.json.encode(wanted.image()).decode()
        async with conn.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(self.place, where)
            row = await cursor.fetchmany(1)
            if not row:
                return False
            path = ["target_actions", "yandex_goals_triggered", str(row[0])]
            if row[0] is not None and wanted.is_cancelled:
                await cursor.execute(self.remove, {**where, "path": path})
            elif row[0] is not None:
                await cursor.execute(self.replace, {**where, "path": path, "image": image})
            elif wanted.is_cancelled:
                return False
            else:
                await cursor.execute(self.add, {**where, "images": f"[{image}]"})
            return cursor.rowcount > 0

    async def chunk_end(self, conn: AsyncConnection[Any], site: str, before: UUID, rows: int) -> UUID:
        """Return where a chunk of `rows` conversions ends that goes back in time from `before`."""
        async with conn.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(_CHUNK_END, {"site": site, "before": before, "rows": rows - 1})
            return await cursor.fetchone() or FIRST

    async def find_missing(
        self, conn: AsyncConnection[Any], site: str, start: UUID, before: UUID, refused: Sequence[UUID] = ()
    ) -> Sequence[Imaged]:
        """Return up to 500 matched conversions here whose goal, with its present value, is not listed.

        And those that are cancelled and still are.
        """
        async with conn.cursor(row_factory=class_row(Imaged)) as cursor:
            await cursor.execute(
                self.missing, {"site": site, "from": start, "before": before, "refused": list(refused)}
            )
            return await cursor.fetchall()


async def read_matched(conn: AsyncConnection[Any], site: str, conversion_id: UUID) -> Imaged | None:
    """Return what the image of this conversion is made from, or None while it is unmatched."""
    async with conn.cursor(row_factory=class_row(Imaged)) as cursor:
        await cursor.execute(_MATCHED, {"site": site, "conversion_id": conversion_id})
        return await cursor.fetchone()
