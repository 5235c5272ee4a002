"""What becomes of a conversion that is told again: a repetition, a revision, a late match, or a new one."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from closedloop.domain.conversion import Conversion, dedup_key
from closedloop.domain.money import decimal_text
from closedloop.errors import DatabaseConflictError
from closedloop.store.conversions import (
    Known,
    Ledger,
    Recorded,
    Search,
    confirm,
    free_key,
    lock_known,
    recorded_by_event,
    recorded_by_id,
    remember_event,
    revise,
    search_of,
    window_is_over,
)
from closedloop.store.journal import note
from closedloop.store.waiting import Found, Waiting, match_late

# For a site that was taken out of the configuration while its webhooks waited in the spool.
DEFAULT_WINDOW = timedelta(hours=24)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered for a conversion, and what it was: new, repeated, revised, stale or matched."""

    recorded: Recorded
    kind: str


class Settler:
    """Settles conversions one after the other in its caller's transaction.

    `windows` says per site how long equal bytes without an id of their own count as one.
    """

    def __init__(self, ledger: Ledger, waiting: Waiting, windows: Mapping[str, timedelta]) -> None:
        self.ledger = ledger
        self.waiting = waiting
        self.windows = windows

    async def settle(
        self, conn: AsyncConnection[Any], site: str, conversions: Sequence[Conversion]
    ) -> dict[UUID, Settled]:
        """Return what becomes of each, by its own id; they are locked in the order of their keys.

        The caller owns the transaction, and brings the goal lists up to date after its commit for
        whatever is not `imaged`.
        """
        ordered = sorted(conversions, key=lambda one: dedup_key(one.told).key)
        return {one.conversion_id: await self.settle_one(conn, site, one) for one in ordered}

    async def settle_one(self, conn: AsyncConnection[Any], site: str, conversion: Conversion) -> Settled:
        """Return what becomes of one conversion; see `settle`."""
        told = conversion.told
        if told.event_id is not None:
            first = await recorded_by_event(conn, site, told.event_id)
            if first is not None:
                return await self.repeated(conn, site, conversion, first.conversion_id)
        known = await lock_known(conn, site, dedup_key(told))
        if known is not None and window_is_over(
            known, conversion.received_at, self.windows.get(site, DEFAULT_WINDOW)
        ):
            await free_key(conn, site, known)
            known = None
        if known is None:
            added = await self.ledger.append_batch(conn, site, [conversion], [])
            if conversion.conversion_id not in added:
                raise DatabaseConflictError("another process recorded the same conversion just now")
            return Settled(recorded=added[conversion.conversion_id], kind="new")
        if told.event_id is not None and not await remember_event(
            conn, site, told.event_id, known.conversion_id
        ):
            return await self.repeated(conn, site, conversion, known.conversion_id)
        return await self.told_again(conn, site, conversion, known)

    async def told_again(
        self, conn: AsyncConnection[Any], site: str, conversion: Conversion, known: Known
    ) -> Settled:
        """Return what a known and locked conversion becomes: revised, matched, stale or only repeated."""
        found = await self.late_session(conn, site, conversion, known)
        kind = await self.told_money(conn, site, conversion, known)
        if kind == "repeated" and found is None:
            return await self.repeated(conn, site, conversion, known.conversion_id)
        recorded = Recorded(
            conversion_id=known.conversion_id,
            session_row=found.session_row if found is not None else known.session_row,
            rule=found.rule if found is not None else known.rule,
            imaged=False,
        )
        return Settled(recorded=recorded, kind=kind if found is None or kind == "revised" else "matched")

    async def told_money(
        self, conn: AsyncConnection[Any], site: str, conversion: Conversion, known: Known
    ) -> str:
        """Give a known conversion the value that is told now; return revised, stale or repeated."""
        change = revised_money(conversion, known)
        if change is None:
            if told_the_same(conversion, known):
                await confirm(conn, site, known.conversion_id, conversion.received_at)
            return "repeated"
        kind = "stale" if conversion.received_at < known.told_at else "revised"
        if kind == "revised":
            await revise(conn, site, conversion, known, change.value, change.currency)
        await note(conn, site, known.conversion_id, conversion, kind, change.detail())
        return kind

    async def late_session(
        self, conn: AsyncConnection[Any], site: str, conversion: Conversion, known: Known
    ) -> Found | None:
        """Return the session that a still unmatched conversion finds with what is told now, tied to it."""
        if known.session_row is not None:
            return None
        answer = await self.ledger.find_session(conn, site, conversion)
        if answer is None:
            await self.wait_longer(conn, site, conversion, known)
            return None
        found = Found(
            conversion_id=known.conversion_id,
            session_row=answer[0],
            rule=answer[1],
            goal=known.goal,
            deal_id=known.deal_id,
            value=known.value,
            currency=known.currency,
            occurred_at=known.occurred_at,
        )
        now, because = conversion.received_at, conversion.webhook_id
        return found if await match_late(conn, site, found, now, because) else None

    async def wait_longer(
        self, conn: AsyncConnection[Any], site: str, conversion: Conversion, known: Known
    ) -> None:
        """Let a still unmatched conversion wait for what is told now; the later telling has the last word."""
        stored, told = msgspec.convert(known.search, Search), search_of(conversion)
        is_older = conversion.received_at < known.told_at
        search = stored.or_else(told) if is_older else told.or_else(stored)
        if search == stored:
            return
        await self.waiting.wait_for(conn, site, known.conversion_id, search)
        await note(conn, site, known.conversion_id, conversion, "unmatched", {})

    async def repeated(
        self, conn: AsyncConnection[Any], site: str, conversion: Conversion, conversion_id: UUID
    ) -> Settled:
        """Note a repetition that changes nothing and return what was answered the first time.

        The conversion itself may be met here: recorded by a commit whose answer was lost, and tried again.
        """
        if conversion_id != conversion.conversion_id:
            await note(conn, site, conversion_id, conversion, "repeated", {})
        recorded = await recorded_by_id(conn, site, conversion_id)
        if recorded is None:
            recorded = Recorded(conversion_id=conversion_id, session_row=None)
        return Settled(recorded=recorded, kind="repeated")


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """A changed value of a known conversion."""

    value: Decimal
    currency: str
    before: Decimal
    currency_before: str

    def detail(self) -> dict[str, str]:
        """Return the change as the journal keeps it: exact decimals as text."""
        return {
            "value": decimal_text(self.value),
            "currency": self.currency,
            "value_before": decimal_text(self.before),
            "currency_before": self.currency_before,
        }


def told_the_same(conversion: Conversion, known: Known) -> bool:
    """Return whether a deal's present value was told once more, later than before.

    An older request that waited in a spool must not win over it.
    """
    told = conversion.told
    return known.dedup_rule == "deal" and told.value is not None and conversion.received_at > known.told_at


def revised_money(conversion: Conversion, known: Known) -> Money | None:
    """Return the new value of a deal, or None when it was not told or is the same.

    Only a deal can be revised: an event id or equal bytes mean the same fact told again. A request that
    carries no value changes none, whatever the default for a new conversion is.
    """
    told = conversion.told
    if known.dedup_rule != "deal" or told.value is None:
        return None
    currency = told.currency or known.currency
    if told.value == known.value and currency == known.currency:
        return None
    return Money(value=told.value, currency=currency, before=known.value, currency_before=known.currency)
