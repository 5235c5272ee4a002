"""What a deal asks of the ledger: a conversion made, of another value or moment, cancelled, or brought back.

The word of a CRM about its own deal always counts, whatever a webhook of the hook has said before; which of
two words of the CRM is the later one is decided by the caller, who holds the deal's lock.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import scalar_row

from closedloop.domain.conversion import Conversion, DedupKey, dedup_key
from closedloop.domain.money import decimal_text
from closedloop.errors import DatabaseConflictError
from closedloop.store.conversions import Known, Recorded, lock_known, tell_again
from closedloop.store.journal import Because, note
from closedloop.store.settle import Settled, Settler

_RESTATE = """
    update closedloop.conversion
       set value = %(value)s, currency = %(currency)s, occurred_at = %(occurred_at)s,
           cancelled_at = %(cancelled_at)s, told_at = %(told_at)s, revision = revision + 1
     where site = %(site)s and conversion_id = %(conversion_id)s
"""

_OF_DEAL = """
    select dedup_key
      from closedloop.conversion
     where site = %(site)s and deal_id = %(deal_id)s and dedup_rule = 'deal' and cancelled_at is null
     order by dedup_key
"""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion is worth, when it was, and whether it counts."""

    value: Decimal
    currency: str
    occurred_at: datetime
    cancelled_at: datetime | None = None


class Restater:
    """Makes conversions agree with their deal, in its caller's transaction."""

    def __init__(self, settler: Settler) -> None:
        self.settler = settler

    async def tell(self, conn: AsyncConnection[Any], site: str, conversion: Conversion) -> Settled:
        """Return what becomes of a goal that the deal has reached; `same` when nothing had to be done.

        Locks the conversion, makes it when there is none, and looks for a session that is still missing. The
        caller mends the goal list after its commit for whatever is not `imaged`.
        """
        known = await lock_known(conn, site, dedup_key(conversion.told))
        if known is None:
            added = await self.settler.ledger.append_batch(conn, site, [conversion], [])
            if conversion.conversion_id not in added:
                raise DatabaseConflictError("another process recorded the same conversion just now")
            return Settled(recorded=added[conversion.conversion_id], kind="new")
        found = await self.settler.late_session(conn, site, conversion, known)
        kind = await self.restate(conn, site, known, wanted_of(conversion, known), conversion)
        recorded = Recorded(
            conversion_id=known.conversion_id,
            session_row=found.session_row if found is not None else known.session_row,
            rule=found.rule if found is not None else known.rule,
            imaged=found is None and kind == "same",
        )
        return Settled(recorded=recorded, kind="matched" if found is not None and kind == "same" else kind)

    async def cancel(
        self, conn: AsyncConnection[Any], site: str, key: DedupKey, because: Because, reason: str
    ) -> Settled | None:
        """Let the conversion with this key count no longer; None when there is none that counts.

        `reason` is for the journal: reopened, lost, deleted. The goal list is the caller's to mend.
        """
        known = await lock_known(conn, site, key)
        if known is None or known.cancelled_at is not None:
            return None
        wanted = msgspec.structs.replace(standing_of(known), cancelled_at=because.received_at)
        await self.restate(conn, site, known, wanted, because, reason=reason)
        recorded = Recorded(
            conversion_id=known.conversion_id, session_row=known.session_row, rule=known.rule, imaged=False
        )
        return Settled(recorded=recorded, kind="cancelled")

    async def restate(
        self,
        conn: AsyncConnection[Any],
        site: str,
        known: Known,
        wanted: Standing,
        because: Because,
        *,
        reason: str = "",
    ) -> str:
        """Bring a known and locked conversion to what is wanted, note each change, and name the greatest."""
        kinds = list(changes(known, wanted))
        if not kinds:
            return "same"
        await conn.execute(
            _RESTATE,
            {
                "site": site,
                "conversion_id": known.conversion_id,
                "told_at": max(because.received_at, known.told_at),
                **msgspec.structs.asdict(wanted),
            },
        )
        await tell_again(conn, site, known.conversion_id, because.received_at)
        for kind in kinds:
            await note(conn, site, known.conversion_id, because, kind, detail(known, wanted, kind, reason))
        return kinds[0]


async def keys_of_deal(conn: AsyncConnection[Any], site: str, deal_id: str) -> Sequence[DedupKey]:
    """Return the keys of all conversions of a deal that count, in their order."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(_OF_DEAL, {"site": site, "deal_id": deal_id})
        return [DedupKey(rule="deal", key=bytes(key)) for key in await cursor.fetchall()]


def standing_of(known: Known) -> Standing:
    """Return how a conversion stands in the ledger."""
    return Standing(
        value=known.value,
        currency=known.currency,
        occurred_at=known.occurred_at,
        cancelled_at=known.cancelled_at,
    )


def wanted_of(conversion: Conversion, known: Known) -> Standing:
    """Return how it has to stand: what the deal does not tell stays as it is."""
    told = conversion.told
    is_told = told.value is not None
    return Standing(
        value=conversion.value if is_told else known.value,
        currency=conversion.currency if is_told else known.currency,
        occurred_at=conversion.occurred_at if told.occurred_at is not None else known.occurred_at,
    )


def changes(known: Known, wanted: Standing) -> list[str]:
    """Return the kinds of the changes, the greatest first: cancelled, reinstated, revised, moved."""
    kinds: list[str] = []
    if wanted.cancelled_at is not None and known.cancelled_at is None:
        kinds.append("cancelled")
    if wanted.cancelled_at is None and known.cancelled_at is not None:
        kinds.append("reinstated")
    if (wanted.value, wanted.currency) != (known.value, known.currency):
        kinds.append("revised")
    if wanted.occurred_at != known.occurred_at:
        kinds.append("moved")
    return kinds


def detail(known: Known, wanted: Standing, kind: str, reason: str) -> dict[str, str]:
    """Return one change as the journal keeps it: exact decimals and moments as text."""
    match kind:
        case "revised":
            return {
                "value": decimal_text(wanted.value),
                "currency": wanted.currency,
                "value_before": decimal_text(known.value),
                "currency_before": known.currency,
            }
        case "moved":
            return {
                "occurred_at": wanted.occurred_at.isoformat(),
                "occurred_at_before": known.occurred_at.isoformat(),
            }
        case _:
            return {"reason": reason} if reason else {}
