"""The inbox: every authentic webhook as it came, what people typed in it sealed with the deployment's key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row


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
    outcome: str = "accepted"  # or waiting, when work on it comes after


def inbox_json(webhooks: Sequence[KeptWebhook]) -> str:
    """Return the rows of the inbox as append.sql reads them: a JSON list, bytes in base64."""
    return msgspec.json.encode(webhooks).decode()


_NEXT = """
    select webhook_id, source, received_at, method, query, content_type, user_agent, body, outcome
      from closedloop.webhook
     where site = %(site)s and outcome = 'waiting' and not webhook_id = any(%(passed)s::uuid[])
     order by webhook_id
     limit 1
       for update skip locked
"""

_COUNT = """
    select count(*) filter (where outcome = 'waiting'), count(*) filter (where outcome = 'failed')
      from closedloop.webhook
     where site = %(site)s and outcome in ('waiting', 'failed')
"""

_SETTLE = """
    update closedloop.webhook
       set outcome = %(outcome)s, reason = %(reason)s
     where site = %(site)s and webhook_id = %(webhook_id)s
"""

_FAILED = """
    select webhook_id, source, received_at, reason
      from closedloop.webhook
     where site = %(site)s and outcome = 'failed' and (%(source)s::text is null or source = %(source)s)
     order by webhook_id
"""

_REPLAY = """
    update closedloop.webhook
       set outcome = 'waiting', reason = null
     where site = %(site)s and outcome = 'failed' and (%(source)s::text is null or source = %(source)s)
    returning webhook_id
"""

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


async def next_waiting(conn: AsyncConnection[Any], site: str, passed: Sequence[UUID]) -> KeptWebhook | None:
    """Return the oldest webhook that waits to be worked on, locked until the caller's transaction ends.

    One that another process works on is passed over, and so are those in `passed`. None when there is none.
    """
    async with conn.cursor(row_factory=class_row(KeptWebhook)) as cursor:
        await cursor.execute(_NEXT, {"site": site, "passed": list(passed)})
        return await cursor.fetchone()


async def count_open(conn: AsyncConnection[Any], site: str) -> dict[str, int]:
    """Return how many webhooks wait for work, and how many could not be read."""
    cursor = await conn.execute(_COUNT, {"site": site})
    row = await cursor.fetchone()
    waiting, failed = row if row is not None else (0, 0)
    return {"waiting": waiting, "failed": failed}


async def settle_webhook(
    conn: AsyncConnection[Any], site: str, webhook_id: UUID, outcome: str, reason: str | None = None
) -> None:
    """Note what became of a webhook that waited: accepted, or failed with the reason."""
    parameters = {"site": site, "webhook_id": webhook_id, "outcome": outcome, "reason": reason}
    await conn.execute(_SETTLE, parameters)


class FailedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that could not be read, and why."""

    webhook_id: UUID
    source: str
    received_at: datetime
    reason: str | None


def find_failed(conn: Connection[Any], site: str, source: str | None) -> list[FailedWebhook]:
    """Return the webhooks that could not be read, oldest first; of one source, or of all."""
    with conn.cursor(row_factory=class_row(FailedWebhook)) as cursor:
        return cursor.execute(_FAILED, {"site": site, "source": source}).fetchall()


def replay_failed(conn: Connection[Any], site: str, source: str | None) -> int:
    """Let the webhooks that could not be read wait for work again; return how many."""
    return conn.execute(_REPLAY, {"site": site, "source": source}).rowcount
