"""Takes a webhook that was read: fills in what the sender left open, records it, keeps it when that fails."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import structlog

from closedloop.domain.conversion import Conversion, Identifier, ReportedConversion
from closedloop.domain.ids import MESSENGER_CODE
from closedloop.domain.lead import Lead, lead_key
from closedloop.errors import ClosedloopError, DatabaseAwayError, DatabaseRefusedError, TransientError
from closedloop.parse.crm.tilda import TildaLead
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.images import ImageKeeper
from closedloop.stages.unit import Unit
from closedloop.stages.writer import Writer
from closedloop.store.database import borrowed
from closedloop.store.inbox import KeptWebhook, keep_refused
from closedloop.store.sealed import Sealer
from closedloop.store.settle import Settled
from closedloop.store.spool import Spool
from closedloop.telemetry import SPOOL

DRAIN_CHUNK = 100
DRAIN_S = 0.5

UnitWriter = Writer[Unit, list[Settled]]

log = structlog.get_logger()


# amoCRM waits two seconds (docs/protocols/amocrm.md, 1.2); what is later is in the spool.
CRM_PATIENCE_S = 1.2


class RawWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """One authentic HTTP request: `query` has lost the site's key, texts carry no NUL."""

    source: str
    received_at: datetime
    method: str
    query: str
    content_type: str
    user_agent: str
    body: bytes


class Intake:
    """The way of every webhook into the ledger, and into the spool while there is no way."""

    def __init__(self, writer: UnitWriter, keeper: ImageKeeper, spool: Spool, sealer: Sealer) -> None:
        self.writer = writer
        self.keeper = keeper
        self.spool = spool
        self.sealer = sealer
        # One thread: SQLite takes one writer at a time anyway, and order is kept.
        self.disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self.pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self.flushing: asyncio.Task[None] | None = None

    async def take(self, site: Site, raw: RawWebhook, told: Sequence[ReportedConversion]) -> list[Settled]:
        """Record every conversion of one webhook durably and return what became of each, in order.

        Raises TransientError after the webhook is in the spool (then it is recorded by itself later, and
        `kept` would only be repeated harmlessly), OSError when not even the spool takes it, and
        DatabaseRefusedError when a row is refused.
        """
        settled = await self.record(self.unit(site, raw, told))
        for one in settled:
            if one.recorded.session_row is not None and not one.recorded.imaged:
                await self.keeper.follow(site.name, one.recorded.conversion_id)
        return settled

    async def take_lead(self, site: Site, raw: RawWebhook, told: TildaLead) -> None:
        """Record a form that was sent, durably. Raises as `take` does, after the webhook is in the spool."""
        webhook_id = clock.new_id()
        identifiers = [Identifier(kind, value) for kind, value in told.click_ids.items() if kind != "yclid"]
        if told.code is not None:
            identifiers.append(Identifier(MESSENGER_CODE, told.code))
        contacts = {"phone": told.phone, "email": told.email}
        for kind, value in contacts.items():
            if value is not None:
                identifiers.append(Identifier(kind, self.sealer.hash(site.name, kind, value)))
        order = told.order
        lead = Lead(
            lead_id=clock.new_id(),
            source=raw.source,
            dedup_key=lead_key(raw.source, told.transaction_id, told.digest),
            transaction_id=told.transaction_id,
            form_id=told.form_id,
            form_name=told.form_name,
            session_id=told.session_id,
            ym_uid=told.ym_uid,
            yclid=told.click_ids.get("yclid"),
            identifiers=tuple(identifiers),
            contacts=self.sealer.seal(msgspec.json.encode(contacts)),
            order_id=None if order is None else order.order_id,
            order_amount=None if order is None else order.amount,
            order_paid=None if order is None else order.is_paid,
            received_at=raw.received_at,
            webhook_id=webhook_id,
        )
        await self.record(Unit(site=site.name, webhook=self.kept(webhook_id, raw), lead=lead))

    async def take_webhook(self, site: Site, raw: RawWebhook) -> None:
        """Keep a webhook durably that is worked on afterwards, within the patience of the least patient CRM.

        Raises TransientError after it is in the spool, OSError when not even that takes it.
        """
        unit = Unit(site=site.name, webhook=self.kept(clock.new_id(), raw, outcome="waiting"))
        try:
            async with asyncio.timeout(CRM_PATIENCE_S):
                await self.writer.submit(unit)
        except TransientError:
            await self.keep(unit)
            raise
        except TimeoutError:
            # It may be committed yet: its id makes it one.
            await self.keep(unit)
            raise DatabaseAwayError("the database did not commit in time") from None

    async def record(self, unit: Unit) -> list[Settled]:
        """Record one unit durably, in the database or else in the spool: then raises TransientError."""
        try:
            return await self.writer.submit(unit)
        except TransientError:
            await self.keep(unit)
            raise

    async def refuse(self, site: Site, raw: RawWebhook, reason: str) -> None:
        """Keep a webhook that could not be read, so that its site's owner can see it; best effort.

        Its sender is told at once what is wrong, so nothing is lost when the database is away.
        """
        webhook = self.unit(site, raw, ()).webhook
        if self.writer.away is not None:
            return
        try:
            async with borrowed(self.keeper.pool) as conn:
                await keep_refused(conn, site.name, webhook, reason)
        except ClosedloopError as error:
            log.info("refused_not_kept", site=site.name, reason=str(error))

    def unit(self, site: Site, raw: RawWebhook, told: Sequence[ReportedConversion]) -> Unit:
        """Return the unit of one webhook, what people typed sealed, its conversions complete."""
        webhook_id = clock.new_id()
        return Unit(
            site=site.name,
            webhook=self.kept(webhook_id, raw),
            conversions=[self.complete(site, raw.received_at, webhook_id, one) for one in told],
        )

    def kept(self, webhook_id: UUID, raw: RawWebhook, *, outcome: str = "accepted") -> KeptWebhook:
        """Return a webhook as the inbox keeps it: what people typed is sealed."""
        return KeptWebhook(
            webhook_id=webhook_id,
            source=raw.source,
            received_at=raw.received_at,
            method=raw.method,
            query=self.sealer.seal(raw.query.encode()) if raw.query else b"",
            content_type=raw.content_type,
            user_agent=raw.user_agent,
            body=self.sealer.seal(raw.body) if raw.body else b"",
            outcome=outcome,
        )

    def complete(
        self, site: Site, received_at: datetime, webhook_id: UUID, told: ReportedConversion
    ) -> Conversion:
        """Return a reported conversion with nothing left open: the site's currency, zero, now."""
        return Conversion(
            conversion_id=clock.new_id(),
            told=without_contacts(told),
            value=told.value if told.value is not None else Decimal(0),
            currency=told.currency or site.currency,
            occurred_at=told.occurred_at or received_at,
            received_at=received_at,
            webhook_id=webhook_id,
            identifiers=self.identifiers(site.name, told),
        )

    def identifiers(self, site: str, told: ReportedConversion) -> tuple[Identifier, ...]:
        """Return the further identifiers by certainty: click ids as they are, phone and e-mail hashed."""
        found = [Identifier(kind, value) for kind, value in told.click_ids.items() if kind != "yclid"]
        for kind, value in (("phone", told.phone), ("email", told.email)):
            if value is not None:
                found.append(Identifier(kind, self.sealer.hash(site, kind, value)))
        return tuple(found)

    async def keep(self, unit: Unit) -> None:
        """Put one unit into the spool; returns when it is on the disk. Raises OSError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.append((self.sealer.seal(unit.to_bytes()), future))
        if self.flushing is None or self.flushing.done():
            self.flushing = asyncio.create_task(self.flush())
        await future

    async def flush(self) -> None:
        """Write what waits for the spool, many at once, as the writer does for the database."""
        loop = asyncio.get_running_loop()
        while self.pending:
            batch, self.pending = self.pending, []
            try:
                await loop.run_in_executor(self.disk, self.spool.keep, [kept for kept, _ in batch])
            except OSError as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for _, future in batch:
                if not future.done():
                    future.set_result(None)
            await self.count()

    async def drain(self) -> None:
        """Carry the spool into the database for ever, in order, as soon as the database takes it."""
        while True:
            try:
                moved = await self.drain_chunk()
            except (ClosedloopError, OSError) as error:
                log.info("spool_waits", reason=str(error))
                moved = 0
            except Exception:
                log.exception("drain_failed")
                moved = 0
            await self.count()
            if moved == 0:
                await asyncio.sleep(clock.jitter(DRAIN_S))

    async def drain_chunk(self) -> int:
        """Carry the oldest of the spool into the database; return how many."""
        if self.writer.away is not None:
            return 0
        loop = asyncio.get_running_loop()
        spooled = await loop.run_in_executor(self.disk, self.spool.oldest, DRAIN_CHUNK)
        if not spooled:
            return 0
        units: list[tuple[int, Unit]] = []
        for one in spooled:
            try:
                units.append((one.place, Unit.from_bytes(self.sealer.open(one.intake))))
            except msgspec.MsgspecError as error:
                await loop.run_in_executor(self.disk, self.spool.park, one.place, str(error))
                log.exception("spool_parked", place=one.place, reason=str(error))
        results = await asyncio.gather(
            *(self.writer.submit(unit) for _, unit in units), return_exceptions=True
        )
        done: list[int] = []
        for (place, _), result in zip(units, results, strict=True):
            if isinstance(result, DatabaseRefusedError):
                await loop.run_in_executor(self.disk, self.spool.park, place, str(result))
                log.error("spool_parked", place=place, reason=str(result))
            elif isinstance(result, BaseException):
                break
            else:
                done.append(place)
        await loop.run_in_executor(self.disk, self.spool.remove, done)
        if done:
            log.info("spool_drained", count=len(done))
        return len(done)

    async def close(self) -> None:
        """Wait until everything that was taken is on the disk."""
        if self.flushing is not None:
            await self.flushing
        self.disk.shutdown()

    async def count(self) -> None:
        """Bring the gauge of the spool up to date."""
        loop = asyncio.get_running_loop()
        waiting, parked = await loop.run_in_executor(self.disk, self.spool.count)
        SPOOL.labels("waiting").set(waiting)
        SPOOL.labels("parked").set(parked)


def without_contacts(told: ReportedConversion) -> ReportedConversion:
    """Return the same without phone and e-mail, which are kept only hashed and in the sealed webhook."""
    if told.phone is None and told.email is None:
        return told
    return msgspec.structs.replace(told, phone=None, email=None)
