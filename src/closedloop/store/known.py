"""What the ledger knows already of many conversions at once: a second import of a file changes nothing."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.domain.conversion import Conversion
from closedloop.store.conversions import KNOWN, Known, Ledger, Search, search_of

_READ_ONLY = """
    set transaction read only
"""

_KNOWN = f"""
    select dedup_key, {KNOWN}
     where site = %(site)s and dedup_key = any(%(keys)s)
"""


class KnownByKey(Known, frozen=True, kw_only=True):
    """A conversion of the ledger with the key under which it counts once."""

    dedup_key: bytes


async def find_known(conn: AsyncConnection[Any], site: str, keys: Sequence[bytes]) -> dict[bytes, Known]:
    """Return the conversions that have these keys, by key, in no order; locks nothing."""
    async with conn.cursor(row_factory=class_row(KnownByKey)) as cursor:
        await cursor.execute(_KNOWN, {"site": site, "keys": list(keys)})
        return {row.dedup_key: row for row in await cursor.fetchall()}


async def count_found(
    conn: AsyncConnection[Any], ledger: Ledger, site: str, conversions: Sequence[Conversion]
) -> int:
    """Return how many of these would find their session now, in a transaction that cannot write."""
    found = 0
    async with conn.transaction():
        await conn.execute(_READ_ONLY)
        for conversion in conversions:
            found += await ledger.find_session(conn, site, conversion) is not None
    return found


def adds_nothing(conversion: Conversion, known: Known) -> bool:
    """Return whether a still unmatched conversion learns no new identifier from being told again."""
    stored = msgspec.convert(known.search, Search)
    return search_of(conversion).or_else(stored) == stored
