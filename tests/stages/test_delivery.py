"""Any faults and kills end with the platform holding what the ledger holds, and nothing twice."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from closedloop.deliver.base import Batch
from closedloop.domain.conversion import Conversion, ReportedConversion, dedup_key
from closedloop.domain.delivery import Outcome, Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest
from closedloop.outbound import Outbound
from closedloop.settings import Config, Site
from closedloop.stages import clock
from closedloop.stages.delivery import Deliverer, Route, grouped
from closedloop.stages.process import Process
from closedloop.store.database import borrowed
from closedloop.store.journal import Occasion
from fix_flow import Tables
from platforms.faults import Answer
from platforms.http import Platform, Request

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

T = TypeVar("T")
NAME = "sink"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sink is, and whether it knows an order again."""

    url: str
    upserts: bool = True
    rows: int = 3


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
        )

    def compile(self, sale: Sale, settings: Settings) -> Sale | Skipped:
        """Return the sale; what was never told needs no cancelling, an appending table takes no change."""
        if sale.is_cancelled and sale.told is None:
            return Skipped(reason="it was never told")
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

    def decode(self, batch: Batch, reply: HttpReply, settings: Settings) -> Sequence[Verdict]:  # noqa: ARG002
        """Return the verdict of all rows."""
        outcomes = {
            200: Outcome.CONFIRMED,
            429: Outcome.THROTTLED,
            401: Outcome.AUTH_BLOCKED,
            400: Outcome.REJECT_RECORD,
        }
        lost = Outcome.UNKNOWN_OUTCOME if reply.sent else Outcome.RETRY_LATER
        outcome = outcomes.get(reply.status, Outcome.RETRY_LATER if reply.status else lost)
        return [Verdict(outcome=outcome, reason=f"status {reply.status}") for _ in batch.sales]

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
        outcomes = {200: Outcome.CONFIRMED, 404: Outcome.RETRY_LATER}
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


@pytest.fixture
def sink() -> Iterator[Table]:
    """Give the platform."""
    with Table() as started:
        yield started


class Shop:
    """A process of ours with one destination, and the deals that happen."""

    def __init__(self, process: Process, url: str, *, upserts: bool = True) -> None:
        self.process = process
        self.outbound = Outbound(private=True)
        settings_of = Settings(url=url, upserts=upserts)
        self.route = Route(site="default", name=NAME, destination=Sink(), settings=settings_of)

    def worker(self) -> Deliverer:
        """Return a worker."""
        process = self.process
        return Deliverer(self.route, process.pool, process.shape, process.intake.sealer, self.outbound)

    async def tell(self, deal: str, value: int | None) -> None:
        """Let a deal be won for a sum, or be lost (None)."""
        now = clock.now()
        told = ReportedConversion(
            deal_id=deal, goal="sale", value=None if value is None else Decimal(value), digest=b""
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
    url: str, folder: Path, sink: Table, use: Callable[[Shop], Awaitable[T]], *, upserts: bool = True
) -> T:
    """Return what `use` returns."""
    site = Site(name="default")
    config = Config(sites={"default": site}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)

    async def run() -> T:
        process = Process(config, url, web=False, worker=False)
        process.shape.destinations = {"default": [NAME]}
        await process.start()
        shop = Shop(process, sink.url, upserts=upserts)
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


def test_conversion_is_recorded_with_its_delivery_and_delivered(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """Both are in one commit: what counts is told."""

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        assert states(tables) == [("due", None)]
        await shop.worker().work()

    in_shop(database, tmp_path, sink, live)

    assert sink.orders == {"1": "500"}
    assert states(tables) == [("done", "confirmed")]


def test_change_and_cancellation_follow(database: str, tmp_path: Path, sink: Table, tables: Tables) -> None:
    """The latest state wins."""

    async def live(shop: Shop) -> None:
        for value in (500, 400, None):
            await shop.tell("1", value)
            await shop.settle(tables)

    in_shop(database, tmp_path, sink, live)

    assert sink.orders == {"1": None}
    assert sink.rows == ["1", "1", "1"]


def test_lost_answer_is_asked_for_where_a_repetition_would_count_twice(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """The platform has it, and our side does not know."""
    sink.faults.drop("upload", done=True)

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        await shop.settle(tables)

    in_shop(database, tmp_path, sink, live, upserts=False)

    assert sink.rows == ["1"]
    assert states(tables) == [("done", "confirmed")]


def test_request_that_never_came_goes_again(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """It was lost before the platform read it: the platform says so when asked."""
    sink.faults.drop("upload")

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        await shop.settle(tables)

    in_shop(database, tmp_path, sink, live, upserts=False)

    assert sink.rows == ["1"]
    assert states(tables) == [("done", "confirmed")]


@pytest.mark.parametrize(("status", "blocked"), [(401, True), (429, False)])
def test_destination_that_refuses_rests_alone(
    database: str, tmp_path: Path, sink: Table, tables: Tables, status: int, *, blocked: bool
) -> None:
    """Its records wait, and burn no attempt."""
    sink.faults.answer(status, "upload")

    async def live(shop: Shop) -> list[int]:
        await shop.tell("1", 500)
        return [await shop.worker().work() for _ in range(3)]

    assert in_shop(database, tmp_path, sink, live) == [1, 0, 0]
    assert tables.one("select is_blocked from closedloop.destination") == blocked
    assert tables.one("select attempt from closedloop.delivery") == 0
    assert len(sink.calls) == 1


def test_worker_that_dies_before_sending_is_followed_by_another(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """The batch was stored: nobody has to guess what was in it."""

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        await shop.worker().claim(clock.now())
        assert await shop.worker().work() == 0
        await shop.settle(tables)

    in_shop(database, tmp_path, sink, live)

    assert sink.orders == {"1": "500"}


def test_what_is_too_late_is_never_sent(database: str, tmp_path: Path, sink: Table, tables: Tables) -> None:
    """It would be refused, or worse, taken for another visit's."""

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        tables.conn.execute("update closedloop.conversion set occurred_at = now() - interval '22 days'")
        await shop.worker().work()

    in_shop(database, tmp_path, sink, live)

    assert sink.calls == []
    assert states(tables) == [("done", "expired")]


def test_no_batch_holds_an_order_twice() -> None:
    """A platform applies the rows of a file in any order."""
    sale = Sale(
        delivery_id=clock.new_id(),
        conversion_id=clock.new_id(),
        site="default",
        goal="g",
        deal_id="1",
        revision=1,
        value=Decimal(1),
        currency="RUB",
        occurred_at=clock.now(),
    )
    other = msgspec.structs.replace(sale, deal_id="2", door="yclid")

    assert [len(one) for one in grouped([sale, sale, other], 10)] == [1, 1, 1]


happening = st.one_of(
    st.tuples(st.just("tell"), st.integers(1, 4), st.integers(0, 5)),
    st.tuples(st.just("lose"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("work"), st.just(0), st.just(0)),
    st.tuples(st.just("die"), st.just(0), st.just(0)),
    st.tuples(st.just("time"), st.just(0), st.just(0)),
    st.tuples(st.just("fault"), st.integers(0, 5), st.just(0)),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(happening, min_size=6, max_size=24), upserts=st.booleans())
def test_platform_ends_with_what_the_ledger_holds(
    database: str,
    tables: Tables,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[str, int, int]],
    upserts: bool,  # noqa: FBT001
) -> None:
    """Whatever went wrong on the way; an appending platform has every order once."""
    names = ("conversion", "delivery", "delivery_batch", "destination", "journal", "waiting")
    tables.conn.execute(f"truncate {', '.join(f'closedloop.{name}' for name in names)}".encode())
    with Table() as sink:

        async def live(shop: Shop) -> None:
            for kind, first, second in history:
                await happen(shop, sink, tables, kind, first, second)
            sink.faults.clear()
            await shop.settle(tables)

        in_shop(database, tmp_path_factory.mktemp("shop"), sink, live, upserts=upserts)
        check(tables, sink, upserts=upserts)


async def happen(shop: Shop, sink: Table, tables: Tables, kind: str, first: int, second: int) -> None:
    """Let one thing happen."""
    match kind:
        case "tell":
            await shop.tell(str(first), second * 100)
        case "lose":
            await shop.tell(str(first), None)
        case "work":
            await shop.worker().work()
        case "die":
            await shop.worker().claim(clock.now())
        case "time":
            skip_time(tables)
        case _:
            faults: list[Callable[[], Any]] = [
                sink.faults.drop,
                lambda: sink.faults.drop(done=True),
                lambda: sink.faults.answer(503),
                lambda: sink.faults.answer(429),
                lambda: sink.faults.answer(401),
                lambda: sink.faults.answer(502),
            ]
            faults[first]()


def check(tables: Tables, sink: Table, *, upserts: bool) -> None:
    """Check what the platform holds against the ledger."""
    query = "select deal_id, value, cancelled_at is not null from closedloop.conversion"
    ledger = {row[0]: None if row[2] else str(int(row[1])) for row in tables.conn.execute(query).fetchall()}
    assert sink.doubled == []
    if upserts:
        told = {order: value for order, value in ledger.items() if value is not None or order in sink.orders}
        assert sink.orders == told
    else:
        assert len(sink.rows) == len(set(sink.rows))
        assert {order for order, value in ledger.items() if value is not None} <= set(sink.rows)
    assert {state for state, _ in states(tables)} <= {"done"}
