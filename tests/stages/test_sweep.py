"""What a CRM never told is read at the start and at intervals, and an interrupted sweep goes on."""

import time
from datetime import timedelta
from decimal import Decimal

import pytest

from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.settings import Bitrix24 as Portal
from closedloop.stages import clock
from closedloop.stages.sweep import OVERLAP, Sweeper
from fix_deals import InWorld, World
from fix_flow import Tables
from platforms.bitrix24 import Bitrix24

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]


@pytest.fixture
def asked(bitrix24: Bitrix24) -> Portal:
    """Give the settings that lead to the fake portal, whose limit is a thousand times faster."""
    bitrix24.clock.set(time.time() - 3600)
    bitrix24.buckets.watch.speed = 1000
    return Portal(rest_url=bitrix24.webhook_url, private_address=True)


def sweeper_of(world: World) -> Sweeper:
    """Return what sweeps the CRM of this world."""
    assert world.crm.client is not None
    return Sweeper(world.book, world.crm.client, world.crm.every)


def won(portal: Bitrix24, count: int) -> None:
    """Make deals that are won."""
    for number in range(count):
        portal.create_deal(opportunity=Decimal(number + 1), stage_id="WON")


def test_everything_that_changed_is_read_and_the_next_sweep_begins_before_this_one(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """Clocks differ: the overlap reads some deals twice and changes nothing."""
    won(bitrix24, 120)
    seen: list[tuple[int, int | None]] = []

    async def live(world: World) -> int:
        return await sweeper_of(world).sweep(lambda done, total: seen.append((done, total)))

    began = clock.now()
    assert in_world(live, bitrix24=asked) == 120
    assert len(tables.deals()) == 120
    assert seen[-1] == (120, 120)
    since = tables.one("select since from closedloop.sweep where cursor is null and done_at is not null")
    assert abs(since - (began - OVERLAP)) < timedelta(seconds=10)


def test_deal_that_changes_while_it_is_swept_is_not_lost(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """It has been passed by already: the next sweep has it."""
    won(bitrix24, 120)

    async def live(world: World) -> None:
        def change(_done: int, _total: int | None) -> None:
            bitrix24.clock.set(time.time())
            bitrix24.change_deal(1, opportunity=Decimal(777))

        await sweeper_of(world).sweep(change)
        await sweeper_of(world).sweep()

    in_world(live, bitrix24=asked)

    assert tables.one("select value from closedloop.conversion where deal_id = '1'") == 777


def test_interrupted_sweep_goes_on_and_another_follows(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """What changed since the interrupted one began is not in it."""
    won(bitrix24, 120)

    async def broken(world: World) -> None:
        def down(_done: int, _total: int | None) -> None:
            bitrix24.refuse("*", 403, "INVALID_CREDENTIALS")

        with pytest.raises(CrmRefusedError):
            await sweeper_of(world).sweep(down)

    in_world(broken, bitrix24=asked)
    bitrix24.allow("*")
    before = len(tables.deals())
    bitrix24.clock.set(time.time())
    bitrix24.change_deal(1, opportunity=Decimal(777))
    tables.conn.execute("update closedloop.sweep set touched_at = now() - interval '1 hour'")

    in_world(lambda world: sweeper_of(world).sweep_if_due(), bitrix24=asked)

    assert 0 < before < 120
    assert len(tables.deals()) == 120
    assert tables.one("select value from closedloop.conversion where deal_id = '1'") == 777


def test_sweep_that_failed_here_goes_on_here_at_once(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """Nobody else is at it: to wait until it looks dead would lose half a minute after each fault."""
    won(bitrix24, 120)

    async def live(world: World) -> bool:
        sweeper = sweeper_of(world)
        bitrix24.faults.order(lambda work: work(), "batch")
        bitrix24.faults.answer(403, "batch", body=b'{"error": "INVALID_CREDENTIALS"}')
        with pytest.raises(CrmRefusedError):
            await sweeper.sweep_if_due()
        return await sweeper.sweep_if_due()

    assert in_world(live, bitrix24=asked)
    assert len(tables.deals()) == 120


def test_sweep_that_another_process_is_at_is_left_alone(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """Two workers would read everything twice."""
    won(bitrix24, 3)
    tables.conn.execute(
        "insert into closedloop.sweep (site, crm, cursor, began_at, seen, touched_at, since)"
        " values ('default', 'bitrix24', '{}', now(), 0, now(), now())"
    )

    in_world(lambda world: sweeper_of(world).sweep_if_due(), bitrix24=asked)

    assert tables.deals() == []
    assert bitrix24.calls == []


def test_deletion_that_nobody_told_is_found(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24
) -> None:
    """A deal that is gone is in no list of changes."""
    won(bitrix24, 3)

    async def live(world: World) -> int:
        sweeper = sweeper_of(world)
        await sweeper.sweep()
        bitrix24.delete_deal(2)
        return await sweeper.look_for_deletions(clock.now())

    assert in_world(live, bitrix24=asked) == 3
    cancelled = "select deal_id from closedloop.conversion where cancelled_at is not null"
    assert tables.one(cancelled) == "2"


def test_portal_that_is_away_ends_the_sweep_and_not_what_was_read(
    in_world: InWorld, tables: Tables, asked: Portal, bitrix24: Bitrix24, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor stands where the last page was kept."""
    won(bitrix24, 120)
    monkeypatch.setattr("closedloop.stages.crm.TRIES", 1)

    async def live(world: World) -> None:
        with pytest.raises(CrmAwayError):
            await sweeper_of(world).sweep(lambda _done, _total: bitrix24.go_down())

    in_world(live, bitrix24=asked)

    assert len(tables.deals()) == 50
    assert tables.one("select cursor is not null from closedloop.sweep")
