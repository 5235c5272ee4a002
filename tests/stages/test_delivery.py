"""Any faults and kills end with the platform holding what the ledger holds, and nothing twice."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from closedloop.domain.delivery import Sale
from closedloop.stages import clock
from closedloop.stages.delivery import grouped
from fix_delivery import Shop, Table, in_shop, skip_time, states
from fix_flow import Tables

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

T = TypeVar("T")


@pytest.fixture
def sink() -> Iterator[Table]:
    """Give the platform."""
    with Table() as started:
        yield started


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
    note(f"{upserts} {history}")
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
