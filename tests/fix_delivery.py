"""A destination of tests that puts orders into a table over HTTP, and a shop whose deals go there."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from closedloop.deliver.base import Batch
from closedloop.domain.conversion import Conversion, ReportedConversion, dedup_key
from closedloop.domain.delivery import Outcome, Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest
from closedloop.outbound import Outbound
from closedloop.settings import Config, Site
from closedloop.stages import clock
from closedloop.stages.delivery import Deliverer, Route
from closedloop.stages.process import Process
from closedloop.store.database import borrowed
from closedloop.store.journal import Occasion
from fix_flow import Tables
from platforms.faults import Answer
from platforms.http import Platform, Request

T = TypeVar("T")
NAME = "sink"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sink is, and whether it knows an order again."""

    url: str
    upserts: bool = True
    rows: int = 3
    pends: bool = False  # a taken batch has no verdict before it is asked for
    one_state_per_order: bool = False
    gather: timedelta = timedelta()
    ask_lost_after: timedelta = timedelta(minutes=1)


class Sink:
    """A destination that puts orders into a table over HTTP, by upsert or by appending."""

    name = "sink"
    settings: type[msgspec.Struct] = Settings

    def terms(self, settings: Settings) -> Terms:
        """Return terms with short pauses."""
        return Terms(
            max_rows=settings.rows,
            repeat_lost_answer=settings.upserts,
            window=timedelta(days=21),
            verdict_after=(timedelta(),),
            one_state_per_order=settings.one_state_per_order,
            gather=settings.gather,
            ask_lost_after=settings.ask_lost_after,
        )

    def compile(self, sale: Sale, settings: Settings) -> Sale | Skipped:
        """Return the sale; what was never told needs no cancelling, an appending table takes no change."""
        if sale.is_cancelled and sale.told is None and not sale.attempt:
            return Skipped(reason="it was never told")
        if sale.told is not None and sale.told.goal != sale.goal:
            return Skipped(reason=f"the order stands at {sale.told.goal}")
        if sale.told is not None and not settings.upserts:
            return Skipped(reason="this platform takes no changes")
        return sale

    def encode(self, batch: Batch, settings: Settings, now: datetime) -> HttpRequest:  # noqa: ARG002
        """Return the rows as JSON."""
        rows = [
            {"id": sale.order_id, "value": None if sale.is_cancelled else str(sale.value)}
            for sale in batch.sales
        ]
        body = json.dumps({"batch": batch.batch_id, "rows": rows}).encode()
        return HttpRequest(method="POST", url=f"{settings.url}/upload", body=body)

    def decode(self, batch: Batch, reply: HttpReply, settings: Settings) -> Sequence[Verdict]:
        """Return the verdict of all rows."""
        outcomes = {
            200: Outcome.ACCEPTED_PENDING if settings.pends else Outcome.CONFIRMED,
            429: Outcome.THROTTLED,
            401: Outcome.AUTH_BLOCKED,
            400: Outcome.REJECT_RECORD,
        }
        lost = Outcome.UNKNOWN_OUTCOME if reply.sent else Outcome.RETRY_LATER
        outcome = outcomes.get(reply.status, Outcome.RETRY_LATER if reply.status else lost)
        reference = batch.batch_id if reply.status == 200 else ""
        verdict = Verdict(outcome=outcome, reason=f"status {reply.status}", reference=reference)
        return [verdict for _ in batch.sales]

    def ask(self, batch: Batch, reference: str, settings: Settings) -> HttpRequest | None:  # noqa: ARG002
        """Return the question whether a batch has come."""
        return HttpRequest(method="GET", url=f"{settings.url}/batches/{batch.batch_id}")

    def learn(
        self,
        batch: Batch,
        reference: str,  # noqa: ARG002
        reply: HttpReply,
        settings: Settings,  # noqa: ARG002
    ) -> Sequence[Verdict]:
        """Return what is known of a batch."""
        outcomes = {200: Outcome.CONFIRMED, 404: Outcome.RETRY_LATER, 410: Outcome.NOT_MATCHED}
        outcome = outcomes.get(reply.status, Outcome.ACCEPTED_PENDING)
        return [Verdict(outcome=outcome) for _ in batch.sales]

    def check(self, settings: Settings, now: datetime) -> HttpRequest | None:  # noqa: ARG002
        """Return nothing: it has no way."""
        return None

    def judge(self, reply: HttpReply, settings: Settings) -> Verdict:  # noqa: ARG002
        """Return that all is well."""
        return Verdict(outcome=Outcome.CONFIRMED)


class Table(Platform):
    """The platform: what it holds of each order, each row that ever came, and the batches."""

    def __init__(self) -> None:
        self.orders: dict[str, str | None] = {}
        self.rows: list[str] = []
        self.batches: set[str] = set()
        self.doubled: list[str] = []
        super().__init__()

    def answer(self, request: Request) -> Answer:
        """Take a batch, or say whether it has come."""
        if request.method == "GET":
            return Answer(200 if request.path.rpartition("/")[2] in self.batches else 404)
        told = json.loads(request.body)
        ids = [row["id"] for row in told["rows"]]
        self.doubled += [one for one in ids if ids.count(one) > 1]
        self.batches.add(told["batch"])
        self.orders |= {row["id"]: row["value"] for row in told["rows"]}
        self.rows += ids
        return Answer(200)


class Shop:
    """A process of ours with one destination, and the deals that happen."""

    def __init__(self, process: Process, url: str, **more: Any) -> None:  # noqa: ANN401 - any setting
        self.process = process
        self.outbound = Outbound(private=True)
        settings_of = Settings(url=url, **more)
        self.route = Route(site="default", name=NAME, destination=Sink(), settings=settings_of)

    def worker(self) -> Deliverer:
        """Return a worker."""
        process = self.process
        return Deliverer(self.route, process.pool, process.shape, process.intake.sealer, self.outbound)

    async def tell(self, deal: str, value: int | None, goal: str = "sale") -> None:
        """Let a deal be won for a sum, or be lost (None)."""
        now = clock.now()
        told = ReportedConversion(
            deal_id=deal, goal=goal, value=None if value is None else Decimal(value), digest=b""
        )
        restater = self.process.shape.current().restater
        async with borrowed(self.process.pool) as conn, conn.transaction():
            if value is None:
                await restater.cancel(conn, "default", dedup_key(told), Occasion(received_at=now), "lost")
                return
            conversion = Conversion(
                conversion_id=clock.new_id(),
                told=told,
                value=Decimal(value),
                currency="RUB",
                occurred_at=now,
                received_at=now,
                webhook_id=None,
            )
            await restater.tell(conn, "default", conversion)

    async def settle(self, tables: Tables) -> None:
        """Let time pass until nothing is left to be done."""
        for _ in range(40):
            skip_time(tables)
            if not await self.worker().work():
                return
        raise AssertionError("it never comes to an end")


def skip_time(tables: Tables) -> None:
    """Let every pause and every lease be over."""
    tables.conn.execute(
        "update closedloop.delivery set due_at = now() - interval '1 second' where state = 'due'"
    )
    tables.conn.execute(
        "update closedloop.delivery_batch set lease_until = now() - interval '1 second', ask_at = now()"
        " where state <> 'done'"
    )
    tables.conn.execute("update closedloop.destination set rests_until = null, is_blocked = false")


def in_shop(
    url: str,
    folder: Path,
    sink: Table,
    use: Callable[[Shop], Awaitable[T]],
    **more: Any,  # noqa: ANN401 - any setting
) -> T:
    """Return what `use` returns."""
    site = Site(name="default")
    config = Config(sites={"default": site}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)

    async def run() -> T:
        process = Process(config, url, web=False, worker=False)
        process.shape.destinations = {"default": [NAME]}
        await process.start()
        shop = Shop(process, sink.url, **more)
        try:
            return await use(shop)
        finally:
            await shop.outbound.close()
            await process.stop()

    return asyncio.run(run())


def states(tables: Tables) -> list[tuple[str, str | None]]:
    """Return state and outcome of every delivery."""
    query = "select state, outcome from closedloop.delivery order by delivery_id"
    return [(row[0], row[1]) for row in tables.conn.execute(query).fetchall()]
