"""The inbox: every authentic webhook as it came, what people typed in it sealed with the deployment's key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection


class KeptWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as it is kept: `query` and `body` are sealed, or empty."""

    webhook_id: UUID
    source: str  # hook
    received_at: datetime
    method: str
    query: bytes
    content_type: str
    user_agent: str
    body: bytes


def inbox_json(webhooks: Sequence[KeptWebhook]) -> str:
    """Return the rows of the inbox as append.sql reads them: a JSON list, bytes in base64."""
    return msgspec.json.encode(webhooks).decode()


_REFUSED = """
    insert into closedloop.webhook (
           site, webhook_id, source, received_at, method, query, content_type, user_agent, body, outcome,
           reason)
    values (%(site)s, %(webhook_id)s, %(source)s, %(received_at)s, %(method)s, %(query)s, %(content_type)s,
           %(user_agent)s, %(body)s, 'refused', %(reason)s)
"""


async def keep_refused(conn: AsyncConnection[Any], site: str, webhook: KeptWebhook, reason: str) -> None:
    """Keep an authentic webhook that could not be read, with the sentence that its sender was told."""
    await conn.execute(_REFUSED, {"site": site, "reason": reason, **msgspec.structs.asdict(webhook)})
