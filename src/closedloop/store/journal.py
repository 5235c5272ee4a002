"""The journal: what happened to a conversion and because of which webhook; append only."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

_NOTE = """
    insert into closedloop.journal (site, conversion_id, at, kind, webhook_id, detail)
    values (%(site)s, %(conversion_id)s, %(at)s, %(kind)s, %(webhook_id)s, %(detail)s)
"""


class Because(Protocol):
    """When something happened, and the webhook that made it happen; None when a CRM was asked."""

    @property
    def received_at(self) -> datetime:
        """The moment."""
        ...

    @property
    def webhook_id(self) -> UUID | None:
        """The webhook."""
        ...


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """A reason that is no conversion."""

    received_at: datetime
    webhook_id: UUID | None = None


async def note(
    conn: AsyncConnection[Any],
    site: str,
    conversion_id: UUID,
    because: Because,
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
