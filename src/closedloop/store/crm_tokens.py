"""The tokens of a CRM's authorization: sealed, and changed by one process at a time."""

from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

_READ = """
    select sealed, expires_at
      from closedloop.crm_token
     where site = %(site)s and crm = %(crm)s
"""

_LOCK = """
    insert into closedloop.crm_token (site, crm, sealed, expires_at)
    values (%(site)s, %(crm)s, '', '2000-01-01Z')
    on conflict (site, crm) do update
       set sealed = crm_token.sealed
    returning sealed, expires_at
"""

_PUT = """
    update closedloop.crm_token
       set sealed = %(sealed)s, expires_at = %(expires_at)s
     where site = %(site)s and crm = %(crm)s
"""


class SealedToken(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept; `sealed` is empty before the first pair."""

    sealed: bytes
    expires_at: datetime


async def read_token(conn: AsyncConnection[Any], site: str, crm: str) -> SealedToken | None:
    """Return the present pair, or None before the first."""
    async with conn.cursor(row_factory=class_row(SealedToken)) as cursor:
        await cursor.execute(_READ, {"site": site, "crm": crm})
        found = await cursor.fetchone()
    return found if found is not None and found.sealed else None


async def lock_token(conn: AsyncConnection[Any], site: str, crm: str) -> SealedToken:
    """Return the present pair, locked until the caller's transaction ends: only its holder may refresh."""
    async with conn.cursor(row_factory=class_row(SealedToken)) as cursor:
        await cursor.execute(_LOCK, {"site": site, "crm": crm})
        found = await cursor.fetchone()
    assert found is not None  # noqa: S101 - `returning` of an upsert gives the row
    return found


async def put_token(conn: AsyncConnection[Any], site: str, crm: str, token: SealedToken) -> None:
    """Keep a new pair; the caller holds the lock and commits before the pair is used."""
    await conn.execute(_PUT, {"site": site, "crm": crm, **msgspec.structs.asdict(token)})
