"""Hits into public.user_analytics: what is told of sessions, merged into their rows."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection

from closedloop.domain.ids import CLICK_IDS, MESSENGER_CODE
from closedloop.domain.visit import Visit, all_ids, visit_part
from closedloop.store.sessions import SessionTable, load_statement

# A row that somebody fills without end costs every later hit of it.
MAX_VISIT_BYTES = 32 * 1024
# Found by columns of the table itself, or by nobody: these need no row in closedloop.identity.
KNOWN_KINDS = (*(name for name in CLICK_IDS if name != "yclid"), MESSENGER_CODE)

_encode = msgspec.json.Encoder().encode


class Hits:
    """The statement over sessions, written for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.statement = load_statement("hits", table)

    async def record(self, conn: AsyncConnection[Any], site: str, visits: Sequence[Visit]) -> dict[str, str]:
        """Merge visits into the rows of their sessions, durably, and return what became of each, by session.

        `visits` are of different sessions of one site. made and merged are stored; foreign (the session is
        another visitor's), full, odd (something else stands where ours belongs) and withdrawn are not; again
        means that another process is at that session just now: to be recorded again.
        """
        if not visits:
            return {}
        told = _encode([told_row(visit) for visit in visits]).decode()
        parameters = {"site": site, "hits": told, "max_bytes": MAX_VISIT_BYTES}
        async with conn.cursor() as cursor:
            await cursor.execute(self.statement, parameters)
            return dict(await cursor.fetchall())


def told_row(visit: Visit) -> dict[str, object]:
    """Return the row of hits.sql for one visit."""
    return {
        "session_id": visit.session_id,
        "visitor": visit.visitor,
        "began_at": visit.began_at,
        "received_at": visit.received_at,
        "ids": all_ids(visit),
        "visit": visit_part(visit),
        "goals": list(visit.goals.values()),
        "known": {kind: visit.ids[kind] for kind in KNOWN_KINDS if kind in visit.ids},
        "withdrawn": visit.withdrawn,
    }
