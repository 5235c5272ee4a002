"""Makes the ledger agree with what a CRM says of a deal, by webhook, answer or sweep."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from closedloop.domain.conversion import (
    Conversion,
    DedupKey,
    Identifier,
    ReportedConversion,
    dedup_key,
    digest_of,
)
from closedloop.domain.deal import Deal, Finding
from closedloop.domain.goals import DEFAULT_GOALS, Demand, demands
from closedloop.domain.ids import CLICK_IDS, MESSENGER_CODE, YmUid, read_ym_uid
from closedloop.errors import CallerError, DatabaseAwayError, DatabaseConflictError, TransientError
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.images import ImageKeeper
from closedloop.store.database import borrowed
from closedloop.store.deals import DealRow, Deals, KnownDeal
from closedloop.store.journal import Because, note
from closedloop.store.restate import keys_of_deal
from closedloop.store.sealed import Sealer
from closedloop.store.settle import Settled
from closedloop.store.statements import Shape

TRIES = 5
CONTACTS = ("phone", "email")
# What a robot or a webhook has told stays known: the CRM's own answer does not have it.
HINT = "robot"

log = structlog.get_logger()

Pool = AsyncConnectionPool[AsyncConnection[object]]
Work = Callable[[AsyncConnection[Any]], Awaitable[list[Settled]]]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a deal beside what it says itself: see the columns of `closedloop.deal`."""

    told: Sequence[str]
    digest: bytes
    read_at: datetime
    is_read: bool


class DealBook:
    """The deals of one CRM of one site, and the conversions that they ask for."""

    def __init__(self, site: Site, crm: str, shape: Shape, keeper: ImageKeeper, sealer: Sealer) -> None:
        self.site = site
        self.shape = shape
        self.keeper = keeper
        self.sealer = sealer
        self.deals = Deals(site.name, crm)
        self.goals = site.goals or DEFAULT_GOALS

    async def take(self, deal: Deal, because: Because, *, is_read: bool) -> list[Settled]:
        """Bring the ledger to what a deal says now, durably; nothing when a later word is known.

        `is_read`: the CRM was asked and shows all of the deal; else a webhook shows a part of it.
        """
        return await self.durably(lambda conn: self.apply(conn, [deal], because, is_read=is_read))

    async def take_many(self, deals: Sequence[Deal], because: Because) -> list[Settled]:
        """Take deals that were read together, in one transaction if that goes, else each in its own.

        Raises the error of the first that cannot be taken, after all others are.
        """
        try:
            return await self.durably(lambda conn: self.apply(conn, deals, because, is_read=True))
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - what it is shows when each is taken alone
            log.warning("deals_taken_singly", site=self.site.name, reason=str(error))
        failed: list[Exception] = []
        settled: list[Settled] = []
        for deal in deals:
            try:
                settled += await self.take(deal, because, is_read=True)
            except TransientError:
                raise
            except Exception as error:
                log.exception("deal_failed", site=self.site.name, deal_id=deal.deal_id)
                failed.append(error)
        if failed:
            raise failed[0]
        return settled

    async def take_gone(self, deal_id: str, because: Because) -> list[Settled]:
        """Cancel what a deal has earned that is no longer in its CRM, durably."""
        return await self.durably(lambda conn: self.apply_gone(conn, deal_id, because))

    async def durably(self, work: Work) -> list[Settled]:
        """Return what `work` settles in a transaction, with the goal lists brought up to date after it."""
        for _ in range(TRIES):
            try:
                async with borrowed(self.keeper.pool) as conn, conn.transaction():
                    settled = await work(conn)
            except DatabaseConflictError:
                continue
            await self.show(settled)
            return settled
        raise DatabaseAwayError("other transactions stand in the way", retry_after=1)

    async def show(self, settled: Iterable[Settled]) -> None:
        """Bring the goal lists up to date with conversions that were just committed."""
        for one in settled:
            if not one.recorded.imaged:
                await self.keeper.follow(self.site.name, one.recorded.conversion_id)

    async def apply(
        self, conn: AsyncConnection[Any], deals: Sequence[Deal], because: Because, *, is_read: bool
    ) -> list[Settled]:
        """Bring the ledger to what deals say, in the caller's transaction; see `take`."""
        known = await self.deals.lock(conn, [deal.deal_id for deal in deals])
        settled: list[Settled] = []
        rows: list[DealRow] = []
        for deal in deals:
            rows += await self.apply_one(conn, deal, known.get(deal.deal_id), (because, is_read), settled)
        await self.deals.put(conn, rows)
        return settled

    async def apply_one(
        self,
        conn: AsyncConnection[Any],
        deal: Deal,
        known: KnownDeal | None,
        source: tuple[Because, bool],
        settled: list[Settled],
    ) -> list[DealRow]:
        """Settle what one deal asks for, and return the row to be kept; none when a later word is known."""
        because, is_read = source
        if known is not None and is_older(deal, because, known, is_read=is_read):
            return []
        if known is not None and known.sealed:
            deal = merged(deal, self.opened(known), is_read=is_read)
        wanted = demands(deal, self.goals)
        digest = digest_of(*map(repr, wanted), *map(repr, deal.findings))
        told = set(known.told) if known is not None else set[str]()
        if known is None or known.digest != digest or known.is_deleted:
            for demand in sorted(wanted, key=lambda one: self.key(deal, one.goal).key):
                settled += await self.meet(conn, deal, demand, because, told)
        told |= {demand.goal for demand in wanted if demand.state == "reached"}
        kept = Kept(told=sorted(told), digest=digest, read_at=because.received_at, is_read=is_read)
        return [self.row(deal, kept)]

    async def meet(
        self, conn: AsyncConnection[Any], deal: Deal, demand: Demand, because: Because, told: set[str]
    ) -> list[Settled]:
        """Do what one demand asks for; a goal that only a webhook has told is not ours to cancel."""
        restater = self.shape.current().restater
        if demand.state == "reached":
            conversion = await self.conversion(conn, deal, demand, because)
            settled = await restater.tell(conn, self.site.name, conversion)
            if settled.kind in {"new", "matched"}:
                await self.note_found(conn, settled, deal, because)
            if demand.problem and settled.kind != "same":
                detail = {"problem": demand.problem}
                await note(conn, self.site.name, settled.recorded.conversion_id, because, "worthless", detail)
            return [settled]
        if demand.state == "gone" and demand.goal in told:
            key = self.key(deal, demand.goal)
            reason = {"open": "reopened", "lost": "lost", "won": "won"}[deal.outcome]
            return await self.cancel(conn, key, because, reason)
        return []

    async def apply_gone(self, conn: AsyncConnection[Any], deal_id: str, because: Because) -> list[Settled]:
        """Cancel every conversion of a deal that was deleted, in the caller's transaction."""
        known = (await self.deals.lock(conn, [deal_id])).get(deal_id)
        if known is not None and known.is_deleted:
            return []
        settled: list[Settled] = []
        for key in await keys_of_deal(conn, self.site.name, deal_id):
            settled += await self.cancel(conn, key, because, "deleted")
        if known is not None:
            await self.deals.put_gone(conn, deal_id, because.received_at)
        return settled

    async def cancel(
        self, conn: AsyncConnection[Any], key: DedupKey, because: Because, reason: str
    ) -> list[Settled]:
        """Let one conversion count no longer."""
        restater = self.shape.current().restater
        cancelled = await restater.cancel(conn, self.site.name, key, because, reason)
        return [] if cancelled is None else [cancelled]

    async def conversion(
        self, conn: AsyncConnection[Any], deal: Deal, demand: Demand, because: Because
    ) -> Conversion:
        """Return the conversion that a demand asks for, with a session id that leads somewhere."""
        now = because.received_at
        sessions: list[str | None] = [*values_of(deal.findings, "session_id")] or [None]
        occurred_at = min(demand.occurred_at, now) if demand.occurred_at is not None else None
        made = [
            Conversion(
                conversion_id=clock.new_id(),
                # A guess dates a new conversion, and moves none.
                told=self.told(deal, demand, None if demand.is_guess else occurred_at, session_id),
                value=demand.value if demand.value is not None else Decimal(0),
                currency=demand.currency or self.site.currency,
                occurred_at=occurred_at or now,
                received_at=now,
                webhook_id=because.webhook_id,
                identifiers=self.identifiers(deal.findings),
            )
            for session_id in sessions
        ]
        for one in made if len(made) > 1 else ():
            answer = await self.shape.current().ledger.find_session(conn, self.site.name, one)
            if answer is not None and answer[1] == "session_id":
                return one
        return made[0]

    def told(
        self, deal: Deal, demand: Demand, occurred_at: datetime | None, session_id: str | None
    ) -> ReportedConversion:
        """Return what the deal tells of one goal."""
        ym_uid = next(iter(ym_uids(deal.findings)), None)
        kinds = {one.kind: one.value for one in reversed(deal.findings)}
        return ReportedConversion(
            session_id=session_id,
            ym_uid=ym_uid.digits if ym_uid else None,
            ym_uid_interval=ym_uid.interval if ym_uid else None,
            goal=demand.goal,
            value=demand.value,
            currency=demand.currency,
            deal_id=deal.deal_id,
            occurred_at=occurred_at,
            click_ids={kind: kinds[kind] for kind in CLICK_IDS if kind in kinds},
            digest=b"",
        )

    def identifiers(self, findings: Sequence[Finding]) -> tuple[Identifier, ...]:
        """Return click ids and codes as they are, contacts hashed; `yclid` has its own place."""
        found = [
            Identifier(one.kind, one.value)
            for one in findings
            if one.kind == MESSENGER_CODE or (one.kind in CLICK_IDS and one.kind != "yclid")
        ]
        found += [
            Identifier(one.kind, self.sealer.hash(self.site.name, one.kind, one.value))
            for one in findings
            if one.kind in CONTACTS
        ]
        return tuple(dict.fromkeys(found))

    async def note_found(
        self, conn: AsyncConnection[Any], settled: Settled, deal: Deal, because: Because
    ) -> None:
        """Write what was found where; of a contact only the place."""
        places: dict[str, str] = {}
        for one in deal.findings:
            shown = one.place if one.kind in CONTACTS else f"{one.value} ({one.place})"
            places.setdefault(one.kind, shown)
        await note(conn, self.site.name, settled.recorded.conversion_id, because, "found", places)

    def row(self, deal: Deal, kept: Kept) -> DealRow:
        """Return the deal as the store keeps it."""
        return DealRow(
            crm=deal.crm,
            deal_id=deal.deal_id,
            funnel=deal.funnel,
            stage=deal.stage,
            outcome=deal.outcome,
            value=deal.value,
            currency=deal.currency,
            created_at=deal.created_at,
            changed_at=deal.changed_at,
            closed_at=deal.closed_at,
            is_deleted=deal.is_deleted,
            is_read=kept.is_read,
            read_at=kept.read_at,
            findings=[{"kind": one.kind, "place": one.place, **self.shown(one)} for one in deal.findings],
            told=kept.told,
            digest=kept.digest,
            sealed=self.sealer.seal(msgspec.json.encode(deal)),
        )

    def shown(self, finding: Finding) -> dict[str, str]:
        """Return what may stand in the clear beside the place of a finding: of a contact only its hash."""
        if finding.kind in CONTACTS:
            return {"hash": self.sealer.hash(self.site.name, finding.kind, finding.value)}
        return {"value": finding.value}

    def opened(self, known: KnownDeal) -> Deal:
        """Return a deal as it was kept."""
        return msgspec.json.decode(self.sealer.open(known.sealed), type=Deal)

    def key(self, deal: Deal, goal: str) -> DedupKey:
        """Return the key of one goal of one deal."""
        return dedup_key(ReportedConversion(deal_id=deal.deal_id, goal=goal, digest=b""))


def is_older(deal: Deal, because: Because, known: KnownDeal, *, is_read: bool) -> bool:
    """Return whether a later word about this deal is known: later by the CRM's own clock, then by ours.

    What is left of a deleted deal is an echo, unless the CRM was asked and shows it, or it changed since. The
    clock of a webhook may be ours, so that the first answer of the CRM always counts.
    """
    if is_read and not known.is_read:
        return False
    if known.is_deleted and not is_read:
        return deal.changed_at <= known.changed_at
    return (deal.changed_at, because.received_at) < (known.changed_at, known.read_at)


def merged(deal: Deal, before: Deal, *, is_read: bool) -> Deal:
    """Return a deal with what was known and it does not tell: hints, and all for a webhook's part."""
    kept = [one for one in before.findings if not is_read or one.place.startswith(HINT)]
    told = {(one.kind, one.place) for one in deal.findings}
    findings = (*deal.findings, *(one for one in kept if (one.kind, one.place) not in told))
    if is_read:
        return msgspec.structs.replace(deal, findings=findings)
    return msgspec.structs.replace(
        deal,
        findings=findings,
        title=deal.title or before.title,
        created_at=deal.created_at or before.created_at,
        fields={**before.fields, **deal.fields},
    )


def values_of(findings: Iterable[Finding], kind: str) -> list[str]:
    """Return the values of one kind, best first, each once."""
    return list(dict.fromkeys(one.value for one in findings if one.kind == kind))


def ym_uids(findings: Iterable[Finding]) -> Iterable[YmUid]:
    """Yield the ClientIDs that can be read."""
    for text in values_of(findings, "ym_uid"):
        try:
            yield read_ym_uid(text)
        except CallerError as error:
            log.info("ym_uid_unreadable", reason=error.problem)
