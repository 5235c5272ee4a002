"""Deals as their CRM showed them last, the list of those to be read again, and how far a sweep has come."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

# A deal that is told for the first time by two at once has no row to lock.
_ALONE = """
    select pg_advisory_xact_lock(
           hashtextextended(concat_ws(chr(10), %(site)s::text, %(crm)s::text, deal_id), 0))
      from (select deal_id from unnest(%(deal_ids)s::text[]) as deal_id order by deal_id) as wanted
"""

_LOCK = """
    select deal_id, changed_at, read_at, is_deleted, is_read, told, digest, written, sealed
      from closedloop.deal
     where site = %(site)s and crm = %(crm)s and deal_id = any(%(deal_ids)s::text[])
     order by deal_id
       for update
"""

_PUT = """
    insert into closedloop.deal (
           site, crm, deal_id, funnel, stage, outcome, value, currency, created_at, changed_at, closed_at,
           is_deleted, is_read, read_at, findings, told, digest, sealed)
    values (%(site)s, %(crm)s, %(deal_id)s, %(funnel)s, %(stage)s, %(outcome)s, %(value)s, %(currency)s,
           %(created_at)s, %(changed_at)s, %(closed_at)s, %(is_deleted)s, %(is_read)s, %(read_at)s,
           %(findings)s, %(told)s, %(digest)s, %(sealed)s)
    on conflict (site, crm, deal_id) do update
       set funnel = excluded.funnel, stage = excluded.stage, outcome = excluded.outcome,
           value = excluded.value, currency = excluded.currency, created_at = excluded.created_at,
           changed_at = excluded.changed_at, closed_at = excluded.closed_at,
           is_deleted = excluded.is_deleted, is_read = excluded.is_read, read_at = excluded.read_at,
           findings = excluded.findings, told = excluded.told, digest = excluded.digest,
           sealed = excluded.sealed
"""

_GONE = """
    update closedloop.deal
       set is_deleted = true, read_at = %(read_at)s, digest = ''
     where site = %(site)s and crm = %(crm)s and deal_id = %(deal_id)s
"""

_READ_AGAIN = """
    update closedloop.deal
       set read_at = %(read_at)s
     where site = %(site)s and crm = %(crm)s and deal_id = %(deal_id)s
"""

_WANT = """
    insert into closedloop.deal_task (site, crm, deal_id, wanted, due_at, attempt, webhook_id, hints)
    values (%(site)s, %(crm)s, %(deal_id)s, 1, %(due_at)s, 0, %(webhook_id)s, %(hints)s)
    on conflict (site, crm, deal_id) do update
       set wanted = deal_task.wanted + 1, due_at = least(deal_task.due_at, excluded.due_at),
           webhook_id = coalesce(excluded.webhook_id, deal_task.webhook_id),
           hints = coalesce(excluded.hints, deal_task.hints)
"""

_CLAIM = """
    update closedloop.deal_task
       set due_at = %(leased_until)s, attempt = attempt + 1
     where site = %(site)s and crm = %(crm)s and deal_id in (
           select deal_id
             from closedloop.deal_task
            where site = %(site)s and crm = %(crm)s and due_at <= %(now)s
            order by due_at, deal_id
            limit %(limit)s
              for update skip locked)
    returning deal_id, wanted, attempt, webhook_id, hints
"""

_DONE = """
    delete from closedloop.deal_task
     where site = %(site)s and crm = %(crm)s and deal_id = %(deal_id)s and wanted = %(wanted)s
"""

_LATER = """
    update closedloop.deal_task
       set due_at = %(due_at)s, reason = %(reason)s
     where site = %(site)s and crm = %(crm)s and deal_id = any(%(deal_ids)s)
"""

_AT_ONCE = """
    update closedloop.deal_task
       set due_at = %(now)s, attempt = 0
     where site = %(site)s and crm = %(crm)s and deal_id = %(deal_id)s
"""

_UNSEEN = """
    select deal_id
      from closedloop.deal
     where site = %(site)s and crm = %(crm)s and not is_deleted and read_at < %(before)s
       and cardinality(told) > 0 and changed_at > %(since)s
     order by read_at
     limit %(limit)s
"""

_SWEEP = """
    select cursor, began_at, seen, touched_at, done_at, since
      from closedloop.sweep
     where site = %(site)s and crm = %(crm)s
"""

_PUT_SWEEP = """
    insert into closedloop.sweep (site, crm, cursor, began_at, seen, touched_at, done_at, since)
    values (%(site)s, %(crm)s, %(cursor)s, %(began_at)s, %(seen)s, %(touched_at)s, %(done_at)s, %(since)s)
    on conflict (site, crm) do update
       set cursor = excluded.cursor, began_at = excluded.began_at, seen = excluded.seen,
           touched_at = excluded.touched_at, done_at = excluded.done_at, since = excluded.since
"""

_WRITTEN = """
    update closedloop.deal
       set written = %(written)s
     where site = %(site)s and crm = %(crm)s and deal_id = %(deal_id)s
"""


class KnownDeal(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared with a deal that was read: see the columns of `closedloop.deal`."""

    deal_id: str
    changed_at: datetime
    read_at: datetime
    is_deleted: bool
    is_read: bool
    told: list[str]
    digest: bytes
    written: bytes | None
    sealed: bytes


class DealRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `closedloop.deal`."""

    crm: str
    deal_id: str
    funnel: str
    stage: str
    outcome: str
    value: Decimal | None
    currency: str | None
    created_at: datetime | None
    changed_at: datetime
    closed_at: datetime | None
    is_deleted: bool
    is_read: bool
    read_at: datetime
    findings: Sequence[Mapping[str, str]]
    told: Sequence[str]
    digest: bytes
    sealed: bytes


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A deal that was claimed to be read; `hints` are findings of a webhook, sealed."""

    deal_id: str
    wanted: int
    attempt: int
    webhook_id: UUID | None
    hints: bytes | None


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sweep has come: `cursor` is None between sweeps, `since` is where the next one begins.

    `touched_at` moves with every page: when it stands still, whoever swept is dead.
    """

    cursor: str | None
    began_at: datetime
    seen: int
    touched_at: datetime
    done_at: datetime | None
    since: datetime


class Deals:
    """The deals of one CRM of one site; every method runs in its caller's transaction."""

    def __init__(self, site: str, crm: str) -> None:
        self.of = {"site": site, "crm": crm}

    async def lock(self, conn: AsyncConnection[Any], deal_ids: Sequence[str]) -> dict[str, KnownDeal]:
        """Return what is known of some deals, by id; nobody else works on them until the transaction ends."""
        parameters = {**self.of, "deal_ids": list(deal_ids)}
        async with conn.cursor(row_factory=class_row(KnownDeal)) as cursor:
            await cursor.execute(_ALONE, parameters)
            await cursor.execute(_LOCK, parameters)
            return {known.deal_id: known for known in await cursor.fetchall()}

    async def put(self, conn: AsyncConnection[Any], rows: Sequence[DealRow]) -> None:
        """Keep deals as they were read now."""
        async with conn.cursor() as cursor:
            await cursor.executemany(
                _PUT,
                [
                    msgspec.structs.asdict(row)
                    | {"findings": Jsonb(list(row.findings)), "told": list(row.told), **self.of}
                    for row in rows
                ],
            )

    async def put_gone(self, conn: AsyncConnection[Any], deal_id: str, read_at: datetime) -> None:
        """Note that a known deal is no longer in its CRM."""
        await conn.execute(_GONE, {**self.of, "deal_id": deal_id, "read_at": read_at})

    async def put_read(self, conn: AsyncConnection[Any], deal_id: str, read_at: datetime) -> None:
        """Note that a deal was read again and nothing of it has changed."""
        await conn.execute(_READ_AGAIN, {**self.of, "deal_id": deal_id, "read_at": read_at})

    async def put_written(self, conn: AsyncConnection[Any], deal_id: str, written: bytes) -> None:
        """Note what was written into the fields of a deal."""
        await conn.execute(_WRITTEN, {**self.of, "deal_id": deal_id, "written": written})

    async def want(
        self,
        conn: AsyncConnection[Any],
        deal_id: str,
        due_at: datetime,
        webhook_id: UUID | None = None,
        hints: bytes | None = None,
    ) -> None:
        """Let a deal be read again, once, however often it is wanted before that."""
        parameters = {"deal_id": deal_id, "due_at": due_at, "webhook_id": webhook_id, "hints": hints}
        await conn.execute(_WANT, {**self.of, **parameters})

    async def claim(
        self, conn: AsyncConnection[Any], now: datetime, leased_until: datetime, limit: int
    ) -> list[Task]:
        """Take up to `limit` deals that are due; if their reader dies they are due again after the lease."""
        parameters = {**self.of, "now": now, "leased_until": leased_until, "limit": limit}
        async with conn.cursor(row_factory=class_row(Task)) as cursor:
            await cursor.execute(_CLAIM, parameters)
            return await cursor.fetchall()

    async def done(self, conn: AsyncConnection[Any], task: Task, now: datetime) -> None:
        """Take a deal from the list; one that was wanted again meanwhile is due at once."""
        cursor = await conn.execute(_DONE, {**self.of, "deal_id": task.deal_id, "wanted": task.wanted})
        if not cursor.rowcount:
            await conn.execute(_AT_ONCE, {**self.of, "deal_id": task.deal_id, "now": now})

    async def later(
        self, conn: AsyncConnection[Any], deal_ids: Sequence[str], due_at: datetime, reason: str
    ) -> None:
        """Let deals be tried again later, and say why."""
        parameters = {"deal_ids": list(deal_ids), "due_at": due_at, "reason": reason}
        await conn.execute(_LATER, {**self.of, **parameters})

    async def unseen(
        self, conn: AsyncConnection[Any], before: datetime, since: datetime, limit: int
    ) -> Sequence[str]:
        """Return deals with conversions not read since `before`: a deletion is told nowhere else."""
        parameters = {**self.of, "before": before, "since": since, "limit": limit}
        async with conn.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(_UNSEEN, parameters)
            return await cursor.fetchall()

    async def sweep(self, conn: AsyncConnection[Any]) -> Sweep | None:
        """Return how far the sweep of this CRM has come, None before the first."""
        async with conn.cursor(row_factory=class_row(Sweep)) as cursor:
            await cursor.execute(_SWEEP, self.of)
            return await cursor.fetchone()

    async def put_sweep(self, conn: AsyncConnection[Any], sweep: Sweep) -> None:
        """Note how far the sweep has come."""
        await conn.execute(_PUT_SWEEP, {**self.of, **msgspec.structs.asdict(sweep)})
