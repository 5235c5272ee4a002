"""The ledger of conversions: what is recorded in one batch, and what a known one becomes when told again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from closedloop.domain.conversion import Conversion, DedupKey, Identifier, dedup_key
from closedloop.domain.image import GoalImage, goal_image
from closedloop.store.inbox import KeptWebhook, inbox_json
from closedloop.store.sessions import SessionTable, fill, load_statement

# When the value was told of a conversion that came without one: before anything that may still come.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion of the ledger as its sender is told of it; `session_row` is None while it is unmatched."""

    conversion_id: UUID
    session_row: str | None
    rule: str | None = None
    imaged: bool = True  # False: the session was held by somebody else, its goal list has to follow


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion that was recorded before and is told again."""

    conversion_id: UUID
    goal: str
    deal_id: str | None
    dedup_rule: str
    value: Decimal
    currency: str
    occurred_at: datetime
    received_at: datetime
    told_at: datetime
    cancelled_at: datetime | None
    revision: int
    session_row: str | None
    rule: str | None
    search: dict[str, Any]  # as jsonb; see `Search`


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the batch, in the order of the columns that append.sql reads."""

    conversion_id: UUID
    dedup_key: str
    dedup_rule: str
    goal: str
    deal_id: str | None
    event_id: str | None
    session_id: str | None
    ym_uid: str | None
    ym_uid_low: str | None
    ym_uid_high: str | None
    yclid: str | None
    identifiers: Sequence[Identifier] | None
    value: Decimal
    currency: str
    occurred_at: datetime
    received_at: datetime
    told_at: datetime
    webhook_id: UUID | None
    image: GoalImage


def told_row(conversion: Conversion) -> Told:
    """Return the row of append.sql for one conversion."""
    told = conversion.told
    key = dedup_key(told)
    low, high = told.ym_uid_interval or (None, None)
    return Told(
        conversion_id=conversion.conversion_id,
        dedup_key=key.key.hex(),
        dedup_rule=key.rule,
        goal=told.goal,
        deal_id=told.deal_id,
        event_id=told.event_id,
        session_id=told.session_id,
        ym_uid=told.ym_uid,
        ym_uid_low=low,
        ym_uid_high=high,
        yclid=told.click_ids.get("yclid"),
        identifiers=conversion.identifiers or None,
        value=conversion.value,
        currency=conversion.currency,
        occurred_at=conversion.occurred_at,
        received_at=conversion.received_at,
        told_at=NEVER if told.value is None else conversion.received_at,
        webhook_id=conversion.webhook_id,
        image=goal_image(
            conversion.conversion_id,
            told.goal,
            conversion.occurred_at,
            (conversion.value, conversion.currency),
            told.deal_id,
        ),
    )


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a session can be found by; the names are those of the statements' parameters."""

    session_id: str | None = None
    ym_uid: str | None = None
    ym_uid_low: str | None = None
    ym_uid_high: str | None = None
    yclid: str | None = None
    identifiers: tuple[Identifier, ...] = ()

    def parameters(self) -> dict[str, str | None]:
        """Return the parameters of a statement."""
        encoded = _encode(self.identifiers).decode() if self.identifiers else None
        return msgspec.structs.asdict(self) | {"identifiers": encoded}

    def or_else(self, older: "Search") -> "Search":
        """Return what this one has, and from the older one what this one lacks."""
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(older)
        kept = {name: theirs[name] if value is None else value for name, value in mine.items()}
        kept["identifiers"] = tuple(dict.fromkeys((*older.identifiers, *self.identifiers)))
        return msgspec.convert(kept, Search)


def search_of(conversion: Conversion) -> Search:
    """Return what the session of a conversion can be found by."""
    told = conversion.told
    low, high = told.ym_uid_interval or (None, None)
    return Search(
        session_id=told.session_id,
        ym_uid=told.ym_uid,
        ym_uid_low=low,
        ym_uid_high=high,
        yclid=told.click_ids.get("yclid"),
        identifiers=conversion.identifiers,
    )


class Ledger:
    """The statements over `closedloop.conversion`, written for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable, destinations: Mapping[str, Sequence[str]] = {}) -> None:
        self.table = table
        self.destinations = destinations
        self.append_statement = load_statement("append", table)
        self.record_statement = self.append_statement.replace(fill("$fits", table), b"false").replace(
            b"locked.session_row is not null as imaged", b"false as imaged"
        )
        self.find_statement = fill(_FIND, table)

    async def append_batch(
        self,
        conn: AsyncConnection[Any],
        site: str,
        conversions: Sequence[Conversion],
        webhooks: Sequence[KeptWebhook],
        *,
        with_images: bool = True,
    ) -> dict[UUID, Recorded]:
        """Record the conversions of one site that are new and return these, by id; one statement.

        A conversion that is missing in the answer is known already: see `settle_known`. `with_images`
        False records without touching a session, for a session that refuses every change.
        """
        if not conversions and not webhooks:
            return {}
        statement = self.append_statement if with_images else self.record_statement
        async with conn.cursor(row_factory=class_row(Recorded)) as cursor:
            await cursor.execute(
                statement,
                {
                    "site": site,
                    "items": _encode([told_row(conversion) for conversion in conversions]).decode(),
                    "webhooks": inbox_json(webhooks),
                    "destinations": list(self.destinations.get(site, ())),
                },
            )
            return {row.conversion_id: row for row in await cursor.fetchall()}

    async def find_session(
        self, conn: AsyncConnection[Any], site: str, conversion: Conversion
    ) -> tuple[str, str] | None:
        """Return the row of the session that answers, and the rule that found it, or None."""
        async with conn.cursor() as cursor:
            await cursor.execute(self.find_statement, {"site": site, **search_of(conversion).parameters()})
            found = await cursor.fetchone()
        return None if found is None else (found[0], found[1])


_FIND = """
    select session.session_row, session.rule
      from (select %(session_id)s::text as session_id, %(ym_uid)s::text as ym_uid,
                   %(ym_uid_low)s::text as ym_uid_low, %(ym_uid_high)s::text as ym_uid_high,
                   %(yclid)s::text as yclid, %(identifiers)s::jsonb as identifiers) i
     cross join lateral ($find_session) session
"""

_REMEMBER_EVENT = """
    insert into closedloop.event (site, event_id, conversion_id)
    values (%(site)s, %(event_id)s, %(conversion_id)s)
    on conflict do nothing
    returning event_id
"""

_EVENT = """
    select conversion_id
      from closedloop.event
     where site = %(site)s and event_id = %(event_id)s
"""

# A `Known` conversion, and the table that it stands in.
KNOWN = """
           conversion_id, goal, deal_id, dedup_rule, value, currency, occurred_at, received_at, told_at,
           cancelled_at, revision, session_row, rule,
           jsonb_strip_nulls(jsonb_build_object(
               'session_id', session_id, 'ym_uid', ym_uid, 'ym_uid_low', ym_uid_low,
               'ym_uid_high', ym_uid_high, 'yclid', yclid, 'identifiers', identifiers)) as search
      from closedloop.conversion
"""

_KNOWN = f"""
    select {KNOWN}
     where site = %(site)s and dedup_key = %(dedup_key)s
       for update
"""

_BY_ID = """
    select conversion_id, session_row, rule
      from closedloop.conversion
     where site = %(site)s and conversion_id = %(conversion_id)s
"""


async def recorded_by_event(conn: AsyncConnection[Any], site: str, event_id: str) -> Recorded | None:
    """Return the conversion that this event id was first used for, or None."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(_EVENT, {"site": site, "event_id": event_id})
        conversion_id = await cursor.fetchone()
    return None if conversion_id is None else await recorded_by_id(conn, site, conversion_id)


async def recorded_by_id(conn: AsyncConnection[Any], site: str, conversion_id: UUID) -> Recorded | None:
    """Return what a sender is told of this conversion, or None when there is none such."""
    async with conn.cursor(row_factory=class_row(Recorded)) as cursor:
        await cursor.execute(_BY_ID, {"site": site, "conversion_id": conversion_id})
        return await cursor.fetchone()


async def remember_event(conn: AsyncConnection[Any], site: str, event_id: str, conversion_id: UUID) -> bool:
    """Note that this event id belongs to this conversion; False when it was used before."""
    async with conn.cursor() as cursor:
        await cursor.execute(
            _REMEMBER_EVENT, {"site": site, "event_id": event_id, "conversion_id": conversion_id}
        )
        return await cursor.fetchone() is not None


async def lock_known(conn: AsyncConnection[Any], site: str, key: DedupKey) -> Known | None:
    """Return the conversion that has this key, locked until the caller's transaction ends, or None."""
    async with conn.cursor(row_factory=class_row(Known)) as cursor:
        await cursor.execute(_KNOWN, {"site": site, "dedup_key": key.key})
        return await cursor.fetchone()


_FREE_KEY = """
    update closedloop.conversion
       set dedup_key = sha256(dedup_key || uuid_send(conversion_id))
     where site = %(site)s and conversion_id = %(conversion_id)s
"""


async def free_key(conn: AsyncConnection[Any], site: str, known: Known) -> None:
    """Take its key from a conversion whose dedup window is over, so that equal bytes count anew."""
    await conn.execute(_FREE_KEY, {"site": site, "conversion_id": known.conversion_id})


# Every change of a conversion is told to every destination that has a delivery of it.
_TELL_AGAIN = """
    update closedloop.delivery
       set wanted = wanted + 1, due_at = least(due_at, %(now)s),
           state = case when state in ('done', 'parked') then 'due' else state end,
           attempt = case when state in ('done', 'parked') then 0 else attempt end
     where site = %(site)s and conversion_id = %(conversion_id)s
"""

_REVISE = """
    update closedloop.conversion
       set value = %(value)s, currency = %(currency)s, revision = revision + 1, told_at = %(told_at)s
     where site = %(site)s and conversion_id = %(conversion_id)s
"""


async def revise(
    conn: AsyncConnection[Any], site: str, conversion: Conversion, known: Known, value: Decimal, currency: str
) -> None:
    """Give a known conversion its new value; the caller holds its lock and mends the image."""
    await conn.execute(
        _REVISE,
        {
            "site": site,
            "conversion_id": known.conversion_id,
            "value": value,
            "currency": currency,
            "told_at": conversion.received_at,
        },
    )
    await tell_again(conn, site, known.conversion_id, conversion.received_at)


async def tell_again(conn: AsyncConnection[Any], site: str, conversion_id: UUID, now: datetime) -> None:
    """Let every destination of a conversion be told of its present state; in its caller's transaction."""
    await conn.execute(_TELL_AGAIN, {"site": site, "conversion_id": conversion_id, "now": now})


_CONFIRM = """
    update closedloop.conversion
       set told_at = %(told_at)s
     where site = %(site)s and conversion_id = %(conversion_id)s
"""


async def confirm(conn: AsyncConnection[Any], site: str, conversion_id: UUID, told_at: datetime) -> None:
    """Note that a known conversion's value was told again at this moment; the caller holds its lock."""
    await conn.execute(_CONFIRM, {"site": site, "conversion_id": conversion_id, "told_at": told_at})


def window_is_over(known: Known, received_at: datetime, window: timedelta) -> bool:
    """Return whether equal bytes received now are a new conversion, not a repetition."""
    return known.dedup_rule == "body" and received_at - known.received_at > window
