"""Delivers conversions to one destination: claim, compile, store the batch, send, record.

Every step can be killed: a stored batch whose worker is dead goes again as it was where the platform
de-duplicates, and is asked for where it does not. No platform is known by name here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog

from closedloop.deliver.base import Batch, Destination
from closedloop.domain.deal import Deal
from closedloop.domain.delivery import BLOCKED, Outcome, Sale, Skipped, Told, Verdict, deadline
from closedloop.domain.ids import CLICK_IDS
from closedloop.domain.schedule import step
from closedloop.errors import OperatorError
from closedloop.stages import clock
from closedloop.stages.dealbook import Pool
from closedloop.stages.rounds import one_round
from closedloop.store.database import borrowed
from closedloop.store.deliveries import (
    ClaimedRow,
    OpenBatch,
    Settlement,
    gathered,
    lease_batch,
    let_rest,
    open_batches,
    put_batch,
    resting,
    settle_batch,
    settle_deliveries,
)
from closedloop.store.sealed import Sealer
from closedloop.store.statements import Shape
from closedloop.telemetry import DELIVERIES

if TYPE_CHECKING:
    from closedloop.outbound import Outbound

LOOK_S = 1.0
LEASE = timedelta(minutes=3)
CLAIM = 2000
LOST_FOR = timedelta(hours=24)
# How long a destination that a person has to mend is left alone: some is mended on the platform alone.
BLOCKED_FOR = timedelta(hours=1)
TAKEN = frozenset(
    {
        Outcome.ACCEPTED_PENDING,
        Outcome.ACCEPTED_UNVERIFIABLE,
        Outcome.CONFIRMED,
        Outcome.DUPLICATE_OK,
    }
)
SKIPPED = "skipped"

log = structlog.get_logger()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One destination of one site: how it is spoken to, and with which settings."""

    site: str
    name: str
    destination: Destination
    settings: Any


class Deliverer:
    """Delivers to one destination of one site; any number of them work side by side."""

    def __init__(self, route: Route, pool: Pool, shape: Shape, sealer: Sealer, outbound: "Outbound") -> None:
        self.route = route
        self.pool = pool
        self.shape = shape
        self.sealer = sealer
        self.outbound = outbound
        self.terms = route.destination.terms(route.settings)

    async def run(self) -> None:
        """Deliver for ever; an error ends a round, never the loop. A start may bring what a person mended."""
        is_started = False
        while True:
            with one_round("delivery", site=self.route.site, destination=self.route.name):
                if not is_started:
                    await self.unblock()
                    is_started = True
                while await self.work():
                    pass
            await asyncio.sleep(clock.jitter(LOOK_S))

    async def work(self) -> int:
        """Do what is due now; return how many batches were sent or asked for."""
        now = clock.now()
        async with borrowed(self.pool) as conn:
            rest = await resting(conn, self.route.site, self.route.name)
        if rest is not None and rest.rests_until is not None and rest.rests_until > now:
            return 0
        return await self.go_on(now) + await self.send_due(now)

    async def unblock(self) -> None:
        """End a rest at once."""
        async with borrowed(self.pool) as conn:
            await let_rest(conn, self.route.site, self.route.name, None, None)

    async def send_due(self, now: datetime) -> int:
        """Claim what is due, store it as batches, send them; return how many."""
        if not await self.is_gathered(now):
            return 0
        batches = await self.claim(now)
        for at in range(0, len(batches), self.terms.at_once):
            some = batches[at : at + self.terms.at_once]
            await asyncio.gather(*(self.send(batch) for batch in some))
        return len(batches)

    async def is_gathered(self, now: datetime) -> bool:
        """Tell whether a batch may go: one is full, or the last one is long enough ago."""
        if not self.terms.gather:
            return True
        rows = self.terms.max_rows
        async with borrowed(self.pool) as conn:
            made_at, due = await gathered(conn, self.route.site, self.route.name, now, rows)
        return due > 0 and (made_at is None or due >= rows or made_at + self.terms.gather <= now)

    async def claim(self, now: datetime) -> list[Batch]:
        """Return new batches of due deliveries, stored; what needs no sending is settled on the way."""
        limit = min(CLAIM, self.terms.max_rows * self.terms.at_once)
        settled: list[Settlement] = []
        async with borrowed(self.pool) as conn, conn.transaction():
            rows = await self.shape.current().deliveries.claim(
                conn,
                self.route.site,
                self.route.name,
                now,
                limit,
                by_order=self.terms.one_state_per_order,
            )
            if self.terms.one_state_per_order:
                rows = one_of_each_order(rows)
            sales = [sale for row in rows if (sale := self.compiled(row, now, settled)) is not None]
            batches = [
                Batch(batch_id=clock.new_id().hex, sales=some) for some in grouped(sales, self.terms.max_rows)
            ]
            for batch in batches:
                sealed = self.sealer.seal(msgspec.msgpack.encode(batch))
                told = {"batch_id": batch.batch_id, "destination": self.route.name, "sealed": sealed}
                await put_batch(conn, self.route.site, {**told, "now": now, "lease_until": now + LEASE})
                settled += [self.sending(sale, batch, now) for sale in batch.sales]
            await settle_deliveries(conn, self.route.site, now, settled)
        return batches

    def compiled(self, row: ClaimedRow, now: datetime, settled: list[Settlement]) -> Sale | None:
        """Return the sale that is to be sent, or None after saying what became of it instead."""
        sale = self.sale(row)
        last = deadline(sale, self.terms)
        if last is not None and last <= now:
            settled.append(self.settlement(sale, "done", Outcome.EXPIRED, "too late for this platform", now))
            return None
        held = (sale.visited_at or now - self.terms.hold) + self.terms.hold
        if held > now:
            settled.append(self.settlement(sale, "due", None, "the visit is too fresh", held))
            return None
        compiled = self.route.destination.compile(sale, self.route.settings)
        if isinstance(compiled, Skipped):
            settled.append(self.settlement(sale, "done", SKIPPED, compiled.reason, now))
            return None
        return compiled

    def settlement(
        self, sale: Sale, state: str, outcome: str | None, reason: str, due_at: datetime
    ) -> Settlement:
        """Return what became of a delivery that was not sent."""
        return Settlement(
            delivery_id=sale.delivery_id,
            revision=sale.revision,
            state=state,
            outcome=outcome,
            reason=reason,
            due_at=due_at,
            deadline=deadline(sale, self.terms),
            is_attempt=False,
        )

    def sending(self, sale: Sale, batch: Batch, now: datetime) -> Settlement:
        """Return that a delivery is on its way in a batch."""
        return msgspec.structs.replace(
            self.settlement(sale, "sending", None, "", now), batch_id=batch.batch_id
        )

    def sale(self, row: ClaimedRow) -> Sale:
        """Return all that a platform may want to know of a conversion, contacts in the clear."""
        deal = self.deal(row)
        phones = [one.value for one in deal.findings if one.kind == "phone"] if deal else []
        emails = [one.value for one in deal.findings if one.kind == "email"] if deal else []
        if row.lead_sealed:
            contacts = msgspec.json.decode(
                self.sealer.open(bytes(row.lead_sealed)), type=dict[str, str | None]
            )
            phones += filter(None, [contacts.get("phone")])
            emails += filter(None, [contacts.get("email")])
        return Sale(
            delivery_id=row.delivery_id,
            conversion_id=row.conversion_id,
            site=self.route.site,
            goal=row.goal,
            deal_id=row.deal_id,
            revision=row.wanted,
            value=row.value,
            currency=row.currency,
            is_cancelled=row.is_cancelled,
            occurred_at=row.occurred_at,
            deal_created_at=row.deal_created_at,
            visited_at=row.visited_at,
            ids=ids_of(row),
            phones=tuple(dict.fromkeys(phones)),
            emails=tuple(dict.fromkeys(emails)),
            told=None if row.told is None else msgspec.convert(row.told, Told, strict=False),
            attempt=row.attempt,
            match=row.rule,
        )

    def deal(self, row: ClaimedRow) -> Deal | None:
        """Return the copy of the deal, None when there is none."""
        if not row.deal_sealed:
            return None
        return msgspec.json.decode(self.sealer.open(bytes(row.deal_sealed)), type=Deal)

    async def send(self, batch: Batch) -> None:
        """Send a stored batch and record what came of it."""
        now = clock.now()
        try:
            request = self.route.destination.encode(batch, self.route.settings, now)
            reply = await self.outbound.exchange(request)
        except OperatorError as error:
            verdicts: Sequence[Verdict] = [
                Verdict(outcome=Outcome.CONFIG_BLOCKED, reason=str(error)) for _ in batch.sales
            ]
        else:
            verdicts = self.route.destination.decode(batch, reply, self.route.settings)
        await self.record(batch, verdicts)

    async def record(
        self,
        batch: Batch,
        verdicts: Sequence[Verdict],
        *,
        asked: int = 0,
        is_lost: bool = False,
        is_unknown: bool = False,
    ) -> None:
        """Bring the deliveries of a batch to what came of them, all in one transaction.

        While an answer is lost (`is_lost`) a verdict that is still open does not say that it was taken. Of a
        batch that may have been taken (`is_unknown`) the next state is told as a change.
        """
        now = clock.now()
        taken = TAKEN - {Outcome.ACCEPTED_PENDING} if is_lost else TAKEN
        steps = [
            step(one, self.terms, (asked or sale.attempt) + 1, now, clock.jitter(1))
            for sale, one in zip(batch.sales, verdicts, strict=True)
        ]
        settlements = [
            Settlement(
                delivery_id=sale.delivery_id,
                revision=sale.revision,
                state="pending" if one.state in {"pending", "lost"} else one.state,
                outcome=verdict.outcome,
                reason=verdict.reason,
                due_at=one.at,
                is_attempt=one.is_attempt,
                batch_id=batch.batch_id if one.state in {"pending", "lost"} else None,
                told=told_of(sale) if verdict.outcome in taken or is_unknown else sale.told,
                is_told=verdict.outcome in taken or is_unknown or (asked > 0 and one.state != "pending"),
            )
            for sale, verdict, one in zip(batch.sales, verdicts, steps, strict=True)
        ]
        states = {one.state for one in steps}
        state = next((name for name in ("lost", "pending") if name in states), "done")
        ask_at = min((one.at for one in steps if one.state in {"pending", "lost"}), default=None)
        reference = next((one.reference for one in verdicts if one.reference), "")
        async with borrowed(self.pool) as conn, conn.transaction():
            await settle_deliveries(conn, self.route.site, now, settlements)
            told = {"batch_id": batch.batch_id, "state": state, "ask_at": ask_at, "asked": 1}
            await settle_batch(conn, self.route.site, {**told, "reference": reference})
            await self.rest(conn, verdicts, steps, now)
        for verdict in verdicts:
            DELIVERIES.labels(self.route.site, self.route.name, verdict.outcome).inc()

    async def rest(self, conn: Any, verdicts: Sequence[Verdict], steps: Sequence[Any], now: datetime) -> None:  # noqa: ANN401
        """Let only this destination rest: throttled, or blocked, and then one batch an hour tries."""
        for verdict, one in zip(verdicts, steps, strict=True):
            if verdict.outcome in BLOCKED:
                log.error("destination_blocked", destination=self.route.name, reason=verdict.reason)
                until = now + BLOCKED_FOR
                await let_rest(conn, self.route.site, self.route.name, until, verdict.reason, is_blocked=True)
                return
            if verdict.outcome == Outcome.THROTTLED and one.at > now:
                await let_rest(conn, self.route.site, self.route.name, one.at, verdict.reason)
                return

    async def go_on(self, now: datetime) -> int:
        """Go on with batches whose worker has died, whose answer was lost, or whose verdict is due."""
        async with borrowed(self.pool) as conn, conn.transaction():
            found = await open_batches(conn, self.route.site, self.route.name, now, self.terms.at_once)
            for one in found:
                await lease_batch(conn, self.route.site, one.batch_id, now + LEASE)
        for one in found:
            batch = msgspec.msgpack.decode(self.sealer.open(bytes(one.sealed)), type=Batch)
            if one.state == "made" and self.terms.repeat_lost_answer:
                await self.send(batch)
            elif one.state == "made" and now < one.made_at + self.terms.ask_lost_after:
                await self.ask_later(one)
            else:
                await self.ask(one, batch, now)
        return len(found)

    async def ask_later(self, one: OpenBatch) -> None:
        """Ask about the batch of a dead worker when the platform lists what it has taken, not before."""
        ask_at = one.made_at + self.terms.ask_lost_after
        told = {"batch_id": one.batch_id, "state": "lost", "ask_at": ask_at, "asked": 0, "reference": ""}
        async with borrowed(self.pool) as conn:
            await settle_batch(conn, self.route.site, told)

    async def ask(self, one: OpenBatch, batch: Batch, now: datetime) -> None:
        """Ask the platform about a batch, and record what it says."""
        request = self.route.destination.ask(batch, one.reference, self.route.settings)
        if request is None:
            reason = "no answer came, and this platform cannot be asked: it may have it, or not"
            verdict = Verdict(outcome=Outcome.REJECT_RECORD, reason=reason)
            await self.record(batch, [verdict for _ in batch.sales], asked=one.asked, is_unknown=True)
            return
        reply = await self.outbound.exchange(request)
        verdicts = self.route.destination.learn(batch, one.reference, reply, self.route.settings)
        is_lost = not one.reference
        await self.record(batch, self.patient(verdicts, one, now), asked=one.asked, is_lost=is_lost)

    def patient(self, verdicts: Sequence[Verdict], one: OpenBatch, now: datetime) -> Sequence[Verdict]:
        """Return the verdicts, and for a platform that stays silent too long that nobody will know."""
        if now - one.made_at < LOST_FOR:
            return verdicts
        silent = Verdict(outcome=Outcome.ACCEPTED_UNVERIFIABLE, reason="the platform never gave its verdict")
        return [silent if verdict.outcome == Outcome.ACCEPTED_PENDING else verdict for verdict in verdicts]


def grouped(sales: Sequence[Sale], max_rows: int) -> list[list[Sale]]:
    """Return sales in batches of at most `max_rows`, of one door each, no order twice in one batch."""
    batches: dict[str, list[list[Sale]]] = {}
    for sale in sales:
        of_door = batches.setdefault(sale.door, [])
        fits = (
            some
            for some in of_door
            if len(some) < max_rows and all(one.order_id != sale.order_id for one in some)
        )
        found = next(fits, None)
        if found is None:
            of_door.append([sale])
        else:
            found.append(sale)
    return [some for of_door in batches.values() for some in of_door]


def one_of_each_order(rows: Sequence[ClaimedRow]) -> list[ClaimedRow]:
    """Return the earliest conversion of each deal; the others wait until the platform has judged it."""
    first: dict[str, ClaimedRow] = {}
    for row in sorted(rows, key=lambda one: one.occurred_at):
        first.setdefault(row.deal_id or str(row.conversion_id), row)
    return list(first.values())


def ids_of(row: ClaimedRow) -> Mapping[str, str]:
    """Return what is known of the visitor by name: the session's own first, then what the deal has told."""
    told: dict[str, str | None] = {"ym_uid": row.ym_uid, "yclid": row.yclid, "session_id": row.session_id}
    for one in row.identifiers or ():
        if one.get("kind") in CLICK_IDS:
            told.setdefault(str(one["kind"]), str(one["value"]))
    session = cast("dict[str, object]", row.ids) if isinstance(row.ids, dict) else {}
    found = {**told, **{name: value for name, value in session.items() if isinstance(value, str)}}
    return {name: value for name, value in found.items() if value}


def told_of(sale: Sale) -> Told:
    """Return what a destination has taken with this sale."""
    return Told(
        value=sale.value,
        currency=sale.currency,
        is_cancelled=sale.is_cancelled,
        revision=sale.revision,
        goal=sale.goal,
        created_at=sale.deal_created_at,
    )
