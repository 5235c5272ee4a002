"""Deliveries and their batches: claimed, stored before they are sent, and brought to what came of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from closedloop.domain.delivery import Told
from closedloop.store.sessions import SessionTable, fill

_CLAIM = """
    select d.delivery_id, d.conversion_id, d.wanted, d.attempt, c.goal, c.deal_id, c.value, c.currency,
           case when %(by_order)s then coalesce(others.told, d.told) else d.told end as told,
           c.cancelled_at is not null as is_cancelled, c.occurred_at, c.rule,
           c.ym_uid, c.yclid, c.identifiers, u."timestamp" as visited_at, u.session_id::text as session_id,
           u.analytics_data -> 'ids' as ids, deal.created_at as deal_created_at, deal.sealed as deal_sealed,
           lead.contacts as lead_sealed
      from closedloop.delivery d
      join closedloop.conversion c
        on c.site = d.site and c.conversion_id = d.conversion_id
      left join public.user_analytics u
        on $site_is and u.id = c.session_row::$id_type
      left join lateral (
           select created_at, sealed
             from closedloop.deal
            where deal.site = d.site and deal.deal_id = c.deal_id
            limit 1) deal on true
      left join lateral (
           select contacts
             from closedloop.lead
            where lead.site = d.site and lead.session_row = c.session_row
            order by received_at desc
            limit 1) lead on true
      left join lateral (
           select (array_agg(o.told order by o.told_at desc) filter (where o.told is not null))[1] as told,
                  bool_or(o.state in ('sending', 'pending')) as is_under_way
             from closedloop.conversion oc
             join closedloop.delivery o
               on o.site = oc.site and o.conversion_id = oc.conversion_id and o.destination = d.destination
            where %(by_order)s and oc.site = c.site and oc.deal_id = c.deal_id) others on true
     where d.site = %(site)s and d.destination = %(destination)s and d.state = 'due' and d.due_at <= %(now)s
       and others.is_under_way is not true
     order by d.deadline nulls last, d.due_at, d.delivery_id
     limit %(limit)s
       for update of d skip locked
"""

_SETTLE = """
    update closedloop.delivery
       set state = case when wanted > %(revision)s and %(state)s in ('done', 'parked') then 'due'
                        else %(state)s end,
           outcome = %(outcome)s, reason = %(reason)s, due_at = %(due_at)s,
           deadline = coalesce(%(deadline)s, deadline), batch_id = %(batch_id)s,
           attempt = case when %(is_attempt)s then attempt + 1 else attempt end,
           taken = case when %(state)s in ('done', 'parked') then greatest(taken, %(revision)s)
                        else taken end,
           told = case when %(is_told)s then %(told)s else told end,
           told_at = case when %(is_told)s then %(now)s else told_at end, changed_at = %(now)s
     where site = %(site)s and delivery_id = %(delivery_id)s
"""

_PUT_BATCH = """
    insert into closedloop.delivery_batch (
           site, batch_id, destination, made_at, state, lease_until, asked, reference, sealed)
    values (%(site)s, %(batch_id)s, %(destination)s, %(now)s, 'made', %(lease_until)s, 0, '', %(sealed)s)
"""

_OPEN_BATCHES = """
    select batch_id, state, asked, reference, made_at, sealed
      from closedloop.delivery_batch
     where site = %(site)s and destination = %(destination)s
       and ((state = 'made' and lease_until <= %(now)s)
            or (state in ('lost', 'pending') and ask_at <= %(now)s))
     order by made_at
     limit %(limit)s
       for update skip locked
"""

_LEASE = """
    update closedloop.delivery_batch
       set lease_until = %(lease_until)s, ask_at = %(lease_until)s
     where site = %(site)s and batch_id = %(batch_id)s
"""

_GATHERED = """
    select (select max(made_at) from closedloop.delivery_batch
             where site = %(site)s and destination = %(destination)s) as made_at,
           (select count(*) from (
                   select from closedloop.delivery
                    where site = %(site)s and destination = %(destination)s and state = 'due'
                      and due_at <= %(now)s
                    limit %(rows)s) due) as due
"""

# One claim of a destination at a time, where two conversions of one order must not be on their way together.
_ALONE = "select pg_advisory_xact_lock(hashtextextended(%s, 0))"

_SETTLE_BATCH = """
    update closedloop.delivery_batch
       set state = %(state)s, ask_at = %(ask_at)s, asked = asked + %(asked)s, lease_until = null,
           reference = case when %(reference)s = '' then reference else %(reference)s end,
           sealed = case when %(state)s = 'done' then '' else sealed end
     where site = %(site)s and batch_id = %(batch_id)s
"""

_REST = """
    insert into closedloop.destination (site, destination, rests_until, is_blocked, reason, alarmed_at)
    values (%(site)s, %(destination)s, %(rests_until)s, %(is_blocked)s, %(reason)s, null)
    on conflict (site, destination) do update
       set rests_until = excluded.rests_until, is_blocked = excluded.is_blocked, reason = excluded.reason,
           alarmed_at = case when destination.is_blocked and excluded.is_blocked
                             then destination.alarmed_at end
"""

_RESTING = """
    select rests_until, is_blocked, reason, alarmed_at
      from closedloop.destination
     where site = %(site)s and destination = %(destination)s
"""

_ALARMED = """
    update closedloop.destination
       set alarmed_at = %(now)s
     where site = %(site)s and destination = %(destination)s and alarmed_at is null
    returning reason
"""

_AT_RISK = """
    select d.destination, c.currency, sum(c.value) as value, count(*) as deliveries
      from closedloop.delivery d
      join closedloop.conversion c
        on c.site = d.site and c.conversion_id = d.conversion_id
     where d.site = %(site)s and d.state = 'due' and d.deadline <= %(before)s and c.cancelled_at is null
     group by d.destination, c.currency
"""

_ADD_MISSING = """
    insert into closedloop.delivery (
           site, delivery_id, conversion_id, destination, wanted, taken, state, due_at, attempt, changed_at)
    select c.site, gen_random_uuid(), c.conversion_id, %(destination)s, 1, 0, 'due', %(now)s, 0, %(now)s
      from closedloop.conversion c
     where c.site = %(site)s and c.occurred_at >= %(since)s
    on conflict (site, conversion_id, destination) do nothing
"""


class ClaimedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One due delivery with all that its sale is made from; `*_sealed` are opened by the stage."""

    delivery_id: UUID
    conversion_id: UUID
    wanted: int
    attempt: int
    told: Any
    goal: str
    deal_id: str | None
    value: Decimal
    currency: str
    is_cancelled: bool
    occurred_at: datetime
    rule: str | None
    ym_uid: str | None
    yclid: str | None
    identifiers: Any
    visited_at: datetime | None
    session_id: str | None
    ids: Any
    deal_created_at: datetime | None
    deal_sealed: bytes | None
    lead_sealed: bytes | None


class OpenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that waits for something: its worker has died, its answer was lost, or its verdict is due."""

    batch_id: str
    state: str
    asked: int
    reference: str
    made_at: datetime
    sealed: bytes


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a destination rests."""

    rests_until: datetime | None
    is_blocked: bool
    reason: str | None
    alarmed_at: datetime | None


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one delivery."""

    delivery_id: UUID
    revision: int
    state: str
    outcome: str | None
    reason: str
    due_at: datetime
    deadline: datetime | None = None
    is_attempt: bool = True
    batch_id: str | None = None
    told: Told | None = None
    is_told: bool = False  # `told` counts from now on, and None means that nothing was taken


class AtRisk(msgspec.Struct, frozen=True, kw_only=True):
    """Money that will have come too late at some moment."""

    destination: str
    currency: str
    value: Decimal
    deliveries: int


class Deliveries:
    """The statements over deliveries, written for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.claim_statement = fill(_CLAIM, table)

    async def claim(
        self,
        conn: AsyncConnection[Any],
        site: str,
        destination: str,
        now: datetime,
        limit: int,
        *,
        by_order: bool = False,
    ) -> list[ClaimedRow]:
        """Return due deliveries, nearest deadline first, locked until the caller's transaction ends.

        Rows that another worker has claimed are passed over, never waited for. `by_order`: what was told is
        that of the order, whichever conversion told it, and orders that are under way are left out.
        """
        parameters = {"site": site, "destination": destination, "now": now, "limit": limit}
        parameters["by_order"] = by_order
        if by_order:
            await conn.execute(_ALONE, (f"{site}/{destination}",))
        async with conn.cursor(row_factory=class_row(ClaimedRow)) as cursor:
            await cursor.execute(self.claim_statement, parameters)
            return await cursor.fetchall()


async def settle_deliveries(
    conn: AsyncConnection[Any], site: str, now: datetime, settlements: Sequence[Settlement]
) -> None:
    """Note what became of deliveries; one whose conversion has changed meanwhile is due again."""
    rows = [
        {
            **msgspec.structs.asdict(one),
            "site": site,
            "now": now,
            "told": None if one.told is None else Jsonb(msgspec.to_builtins(one.told, str_keys=True)),
        }
        for one in settlements
    ]
    async with conn.cursor() as cursor:
        await cursor.executemany(_SETTLE, rows)


async def put_batch(conn: AsyncConnection[Any], site: str, batch: Mapping[str, Any]) -> None:
    """Store a batch before it is sent: `batch_id`, `destination`, `now`, `lease_until`, `sealed`."""
    await conn.execute(_PUT_BATCH, {"site": site, **batch})


async def open_batches(
    conn: AsyncConnection[Any], site: str, destination: str, now: datetime, limit: int
) -> list[OpenBatch]:
    """Return batches that wait for something that is due, oldest first, locked."""
    parameters = {"site": site, "destination": destination, "now": now, "limit": limit}
    async with conn.cursor(row_factory=class_row(OpenBatch)) as cursor:
        await cursor.execute(_OPEN_BATCHES, parameters)
        return await cursor.fetchall()


async def gathered(
    conn: AsyncConnection[Any], site: str, destination: str, now: datetime, rows: int
) -> tuple[datetime | None, int]:
    """Return when the last batch was made, and how many deliveries are due, counted up to `rows`."""
    parameters = {"site": site, "destination": destination, "now": now, "rows": rows}
    found = await (await conn.execute(_GATHERED, parameters)).fetchone()
    return found if found is not None else (None, 0)


async def lease_batch(conn: AsyncConnection[Any], site: str, batch_id: str, lease_until: datetime) -> None:
    """Keep other workers from a batch for some time."""
    await conn.execute(_LEASE, {"site": site, "batch_id": batch_id, "lease_until": lease_until})


async def settle_batch(conn: AsyncConnection[Any], site: str, batch: Mapping[str, Any]) -> None:
    """Note how a batch stands: `batch_id`, `state`, `ask_at`, `asked` (0 or 1 more) and `reference`."""
    await conn.execute(_SETTLE_BATCH, {"site": site, **batch})


async def let_rest(
    conn: AsyncConnection[Any],
    site: str,
    destination: str,
    rests_until: datetime | None,
    reason: str | None,
    *,
    is_blocked: bool = False,
) -> None:
    """Let a destination rest until a moment, or until a person has mended what blocks it; None ends it."""
    await conn.execute(
        _REST,
        {
            "site": site,
            "destination": destination,
            "rests_until": rests_until,
            "is_blocked": is_blocked,
            "reason": reason,
        },
    )


async def resting(conn: AsyncConnection[Any], site: str, destination: str) -> Resting | None:
    """Return why a destination rests, None when it never did."""
    async with conn.cursor(row_factory=class_row(Resting)) as cursor:
        await cursor.execute(_RESTING, {"site": site, "destination": destination})
        return await cursor.fetchone()


async def alarm_once(conn: AsyncConnection[Any], site: str, destination: str, now: datetime) -> bool:
    """Return whether a blocked destination has to be told to a person: once for each time it is blocked."""
    cursor = await conn.execute(_ALARMED, {"site": site, "destination": destination, "now": now})
    return await cursor.fetchone() is not None


async def money_at_risk(conn: AsyncConnection[Any], site: str, before: datetime) -> list[AtRisk]:
    """Return the sums of due deliveries with a deadline before a moment, by destination and currency."""
    async with conn.cursor(row_factory=class_row(AtRisk)) as cursor:
        await cursor.execute(_AT_RISK, {"site": site, "before": before})
        return await cursor.fetchall()


async def add_missing(
    conn: AsyncConnection[Any], site: str, destination: str, since: datetime, now: datetime
) -> int:
    """Give every conversion since a moment its delivery to a destination; return how many had none."""
    parameters = {"site": site, "destination": destination, "since": since, "now": now}
    cursor = await conn.execute(_ADD_MISSING, parameters)
    return cursor.rowcount
