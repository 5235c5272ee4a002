"""A deal that is due is read until the CRM has answered, and its answer is the truth."""

import time
from datetime import timedelta
from decimal import Decimal

import pytest

from closedloop.settings import Bitrix24 as Portal
from closedloop.stages import clock
from closedloop.stages.readback import DealReader
from closedloop.store.database import borrowed
from fix_deals import InWorld, World
from fix_flow import Tables
from platforms.bitrix24 import Bitrix24

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]


@pytest.fixture
def asked(bitrix24: Bitrix24) -> Portal:
    """Give the settings that lead to the fake portal, with one won deal in it."""
    bitrix24.clock.set(time.time() - 60)
    bitrix24.create_deal(opportunity=Decimal(5000), stage_id="WON")
    return Portal(rest_url=bitrix24.webhook_url, private_address=True)


def reader_of(world: World) -> DealReader:
    """Return what reads the deals of this world."""
    assert world.crm.client is not None
    return DealReader(world.book, world.crm.client)


async def want(world: World, *deals: str) -> None:
    """Let deals be read."""
    async with borrowed(world.process.pool) as conn:
        for deal in deals:
            await world.book.deals.want(conn, deal, clock.now() - timedelta(seconds=1))


def test_deals_are_read_together_and_done(in_world: InWorld, tables: Tables, asked: Portal) -> None:
    """Fifty cost hardly more calls than one."""

    async def live(world: World) -> int:
        await want(world, "1", "404")
        return await reader_of(world).read_due()

    assert in_world(live, bitrix24=asked) == 2
    assert tables.deals() == ["1"]
    assert tables.one("select count(*) from closedloop.deal_task") == 0


def test_deal_that_is_told_while_it_is_read_is_read_again(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """The answer may be older than what was told meanwhile."""

    async def live(world: World) -> list[int]:
        await want(world, "1")
        reader = reader_of(world)
        async with borrowed(world.process.pool) as conn:
            (task,) = await world.book.deals.claim(conn, clock.now(), clock.now() + timedelta(minutes=1), 1)
            await world.book.deals.want(conn, "1", clock.now())
            bitrix24.change_deal(1, opportunity=Decimal(7))
            await world.book.deals.done(conn, task, clock.now())
        return [await reader.read_due(), await reader.read_due()]

    assert in_world(live, bitrix24=asked) == [1, 0]
    assert tables.one("select value from closedloop.conversion") == 7


def test_refusal_puts_all_off_and_says_what_to_do(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """Asking on would only be refused again."""
    bitrix24.code = "another"

    async def live(world: World) -> int:
        await want(world, "1")
        return await reader_of(world).read_due()

    assert in_world(live, bitrix24=asked) == 0
    assert "webhook" in tables.one("select reason from closedloop.deal_task")
    assert tables.one("select due_at > now() + interval '1 minute' from closedloop.deal_task")


def test_address_that_is_not_meant_to_be_private_is_said_at_the_deal(
    in_world: InWorld, tables: Tables, bitrix24: Bitrix24
) -> None:
    """The owner looks where the deal waits, and finds the setting."""

    async def live(world: World) -> int:
        await want(world, "1")
        return await reader_of(world).read_due()

    assert in_world(live, bitrix24=Portal(rest_url=bitrix24.webhook_url)) == 0
    assert "private_address = true" in tables.one("select reason from closedloop.deal_task")
    assert bitrix24.calls == []


def test_pauses_grow_while_the_portal_is_away(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """Nothing is given up: the last pause is a quarter of an hour."""

    async def live(world: World) -> list[float]:
        reader, pauses = reader_of(world), list[float]()
        await want(world, "1")
        for _ in range(14):
            async with borrowed(world.process.pool) as conn:
                tasks = await world.book.deals.claim(conn, clock.now(), clock.now() + timedelta(hours=1), 1)
            await reader.put_off(tasks, "away", timedelta(seconds=2))
            pauses.append(
                float(tables.one("select extract(epoch from due_at - now()) from closedloop.deal_task"))
            )
            tables.conn.execute("update closedloop.deal_task set due_at = now()")
        return pauses

    pauses = in_world(live, bitrix24=asked)
    assert pauses[0] < 3
    assert all(later > earlier for earlier, later in zip(pauses[:6], pauses[2:8], strict=True))
    assert 700 < pauses[-1] < 1100
    assert bitrix24.calls == []


def test_reader_that_dies_gives_its_deals_back(in_world: InWorld, tables: Tables, asked: Portal) -> None:
    """Their lease is over, and another reads them."""

    async def live(world: World) -> list[int]:
        await want(world, "1")
        async with borrowed(world.process.pool) as conn:
            await world.book.deals.claim(conn, clock.now(), clock.now() + timedelta(minutes=3), 1)
        before = await reader_of(world).read_due()
        tables.conn.execute("update closedloop.deal_task set due_at = now()")
        return [before, await reader_of(world).read_due()]

    assert in_world(live, bitrix24=asked) == [0, 1]
