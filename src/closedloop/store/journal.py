"""The journal: what happened to a conversion and because of which webhook; append only."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from closedloop.domain.conversion import Conversion

_NOTE = """
    insert into closedloop.journal (site, conversion_id, at, kind, webhook_id, detail)
    values (%(site)s, %(conversion_id)s, %(at)s, %(kind)s, %(webhook_id)s, %(detail)s)
"""


async def note(
    conn: AsyncConnection[Any],
    site: str,
    conversion_id: UUID,
    because: Conversion,
    kind: str,
    detail: Mapping[str, str],
) -> None:
    """Write that `kind` happened to a conversion when `because` was told."""
    await conn.execute(
        _NOTE,
        {
            "site": site,
            "conversion_id": conversion_id,
            "at": because.received_at,
            "kind": kind,
            "webhook_id": because.webhook_id,
            "detail": msgspec.json.encode(detail).decode(),
        },
    )
