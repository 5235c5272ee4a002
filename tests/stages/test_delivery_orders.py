"""Where a platform keeps one state of an order, or lists an upload late: nothing goes back or goes twice."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from closedloop.stages import clock
from fix_delivery import Shop, Table, in_shop, skip_time, states
from fix_flow import Tables

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]


@pytest.fixture
def sink() -> Iterator[Table]:
    """Give the platform."""
    with Table() as started:
        yield started


def test_second_state_of_an_order_waits_for_the_verdict_on_the_first(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """Two files under way are applied in any order, and a paid deal would be a new one again."""

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500, "created")
        await shop.tell("1", 500, "paid")
        await shop.tell("2", 100, "created")
        await shop.worker().work()
        assert sorted(sink.rows) == ["1", "2"]
        assert await shop.worker().send_due(clock.now()) == 0
        assert sorted(state for state, _ in states(tables)) == ["due", "pending", "pending"]
        await shop.settle(tables)

    in_shop(database, tmp_path, sink, live, pends=True, one_state_per_order=True)

    assert sorted(sink.rows) == ["1", "2"]
    query = "select reason from closedloop.delivery where outcome = 'skipped'"
    assert tables.one(query) == "the order stands at created"


def test_told_of_another_conversion_is_its_own_affair_elsewhere(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """A platform that keeps conversions has not heard of the second one."""

    async def live(shop: Shop) -> None:
        for goal in ("created", "paid"):
            await shop.tell("1", 500, goal)
            await shop.settle(tables)

    in_shop(database, tmp_path, sink, live)

    assert sink.rows == ["1", "1"]


def test_what_the_platform_could_not_use_was_not_told(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """A conversion whose visit is found later goes again, as the platform has nothing of it."""
    sink.faults.answer(410, "batches")

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        await shop.worker().work()
        assert tables.one("select told ->> 'value' from closedloop.delivery") == "500"
        await shop.settle(tables)

    in_shop(database, tmp_path, sink, live, pends=True, upserts=False)

    assert states(tables) == [("done", "not_matched")]
    assert tables.one("select told from closedloop.delivery") is None


def test_upload_without_an_answer_is_not_asked_for_before_it_is_listed(
    database: str, tmp_path: Path, sink: Table, tables: Tables
) -> None:
    """A platform that lists it late would deny it, and it would be sent twice."""
    after = timedelta(minutes=15)

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        await shop.worker().claim(clock.now())
        skip_time(tables)
        assert await shop.worker().work() == 1

    in_shop(database, tmp_path, sink, live, upserts=False, ask_lost_after=after)

    assert sink.calls == []
    assert tables.one("select ask_at - made_at from closedloop.delivery_batch") == after


@pytest.mark.parametrize("is_restarted", [True, False])
def test_destination_that_was_mended_goes_on(
    database: str, tmp_path: Path, sink: Table, tables: Tables, *, is_restarted: bool
) -> None:
    """A new token comes with a start; rights may be given on the platform, where nobody tells us."""
    sink.faults.answer(401, "upload")

    async def live(shop: Shop) -> None:
        await shop.tell("1", 500)
        assert [await shop.worker().work() for _ in range(2)] == [1, 0]
        if is_restarted:
            await shop.worker().unblock()
        else:
            tables.conn.execute("update closedloop.destination set rests_until = now()")
        await shop.worker().work()

    in_shop(database, tmp_path, sink, live)

    assert sink.orders == {"1": "500"}


def test_rows_are_gathered_unless_a_batch_is_full(database: str, tmp_path: Path, sink: Table) -> None:
    """One upload for each sale exhausts the day's quota of the account, for its other programs, too."""

    async def live(shop: Shop) -> None:
        sent: list[int] = []
        for number in range(1, 5):
            await shop.tell(str(number), 500)
            sent.append(await shop.worker().send_due(clock.now()))
        assert sent == [1, 0, 0, 1]
        await shop.tell("5", 500)
        assert await shop.worker().send_due(clock.now()) == 0
        assert await shop.worker().send_due(clock.now() + timedelta(minutes=10)) == 1

    in_shop(database, tmp_path, sink, live, gather=timedelta(minutes=10))

    assert sorted(sink.rows) == ["1", "2", "3", "4", "5"]
