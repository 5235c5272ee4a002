"""The goal lists that people's dashboards read stay equal to the ledger, whoever holds or wipes them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import DatabaseAwayError
from closedloop.settings import Config, Site
from closedloop.stages.images import FOLLOW_S, ImageKeeper
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from closedloop.store.database import borrowed
from closedloop.store.images import FIRST, LAST
from closedloop.store.settle import Settled
from closedloop.store.statements import Shape
from fix_flow import Tables

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SITE = Site()
RAW = RawWebhook(
    source="hook", received_at=NOW, method="POST", query="", content_type="", user_agent="", body=b"{}"
)
WIPE = "update public.user_analytics set analytics_data = analytics_data - 'target_actions'"
HOLD = "select from public.user_analytics where session_id = 's-1' for update"
REFUSE = """
    create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'no' using errcode = 'check_violation'; end $$;
    create trigger refuse before update on public.user_analytics
       for each row when (new.session_id = 'bad') execute function refuse()
"""
T = TypeVar("T")


def with_process(url: str, folder: Path, use: Callable[[Process], Awaitable[T]]) -> T:
    """Return what `use` returns, with the database connected and no loop looking by itself."""
    config = Config(sites={"default": SITE}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)

    async def run() -> T:
        process = Process(config, url, web=False, worker=False)
        await process.start()
        try:
            return await use(process)
        finally:
            await process.stop()

    return asyncio.run(run())


async def record(process: Process, deal_id: str, session_id: str = "s-1") -> Settled:
    """Record one deal of a session, without waiting for whoever holds the session."""
    told = ReportedConversion(session_id=session_id, deal_id=deal_id, digest=b"x" * 32)
    [settled] = await process.writer.submit(process.intake.unit(SITE, RAW, [told]))
    return settled


def listed(tables: Tables, session_id: str = "s-1") -> list[str]:
    """Return the deals in a session's goal list, in order."""
    return [goal["deal_id"] for goal in tables.goals(session_id)]


def another(process: Process) -> ImageKeeper:
    """Return the keeper of one more worker on the same database."""
    return ImageKeeper(process.pool, process.shape, ["default"])


async def is_idle(keeper: ImageKeeper) -> bool:
    """Return whether a round right after a round looks at nothing: without its statements it fails."""
    await keeper.restore("default")
    shape, keeper.shape = keeper.shape, Shape({})
    try:
        return await keeper.restore("default") == 0
    except DatabaseAwayError:
        return False
    finally:
        keeper.shape = shape


def test_held_session_is_given_up_in_time_and_done_by_the_round(
    database: str, tables: Tables, tmp_path: Path
) -> None:
    """Somebody's long transaction must not keep the CRM waiting past its patience, nor lose the goal."""
    tables.add_session("s-1")

    async def hold(process: Process) -> tuple[bool, float, list[str], int]:
        with tables.conn.transaction():
            tables.conn.execute(HOLD)
            settled = await record(process, "d-1")
            begun = time.monotonic()
            await process.keeper.follow("default", settled.recorded.conversion_id)
            spent, before = time.monotonic() - begun, listed(tables)
        return settled.recorded.imaged, spent, before, await process.keeper.restore("default")

    imaged, spent, before, restored = with_process(database, tmp_path, hold)

    assert (imaged, before, restored) == (False, [], 1)
    assert spent < FOLLOW_S + 1
    assert listed(tables) == ["d-1"]


def test_followed_session_has_its_goal_once(database: str, tables: Tables, tmp_path: Path) -> None:
    """A retry after a lost answer follows again; the list must not grow by it."""
    tables.add_session("s-1")

    async def follow(process: Process) -> None:
        settled = await record(process, "d-1")
        tables.conn.execute(WIPE)
        for _ in range(2):
            await process.keeper.follow("default", settled.recorded.conversion_id)

    with_process(database, tmp_path, follow)

    assert listed(tables) == ["d-1"]


def test_wiped_goals_are_put_back_once_by_two_keepers(database: str, tables: Tables, tmp_path: Path) -> None:
    """Two machines run the worker, and a script that wiped the list wakes both."""
    for session in ("s-1", "s-2"):
        tables.add_session(session)

    async def wipe(process: Process) -> None:
        for number in range(6):
            await record(process, f"d-{number}", f"s-{number % 2 + 1}")
        tables.conn.execute(WIPE)
        await asyncio.gather(*(another(process).restore("default") for _ in range(2)))

    with_process(database, tmp_path, wipe)

    assert sorted(listed(tables, "s-1")) == ["d-0", "d-2", "d-4"]
    assert sorted(listed(tables, "s-2")) == ["d-1", "d-3", "d-5"]


def test_restore_leaves_what_others_wrote(database: str, tables: Tables, tmp_path: Path) -> None:
    """Goals of the browser stand in the same list and are not ours to touch."""
    tables.add_session("s-1")
    own = '{"target_actions": {"yandex_goals_triggered": [{"goal": "form", "params": {}}]}, "x": 1}'

    async def wipe(process: Process) -> int:
        await record(process, "d-1")
        tables.conn.execute("update public.user_analytics set analytics_data = %s", [own])
        return await process.keeper.restore("default")

    assert with_process(database, tmp_path, wipe) == 1
    assert [goal["goal"] for goal in tables.goals("s-1")] == ["form", "crm_conversion"]
    assert tables.one("select analytics_data -> 'x' from public.user_analytics") == 1


def test_row_that_refuses_is_said_once_and_left(database: str, tables: Tables, tmp_path: Path) -> None:
    """A line in the log every twenty seconds for ever would hide all others."""
    for session in ("s-1", "bad"):
        tables.add_session(session)

    async def refuse(process: Process) -> list[int]:
        await record(process, "d-1")
        await record(process, "d-2", "bad")
        tables.conn.execute(WIPE)
        tables.conn.execute(REFUSE.encode())
        first = await process.keeper.restore("default")
        tables.add_session("s-3")  # so that the next round looks
        return [first, await process.keeper.restore("default")]

    with capture_logs() as logs:
        restored = with_process(database, tmp_path, refuse)

    assert (restored, listed(tables), listed(tables, "bad")) == ([1, 0], ["d-1"], [])
    assert [line["event"] for line in logs].count("image_refused") == 1


def test_rows_that_refuse_do_not_keep_others_waiting(database: str, tables: Tables, tmp_path: Path) -> None:
    """One search brings 500 at most; as many that refuse must not stand before everybody's goals for ever."""
    for session in ("bad", "s-1"):
        tables.add_session(session)

    async def refuse(process: Process) -> int:
        await record(process, "d-1")
        await asyncio.gather(*(record(process, f"b-{number}", "bad") for number in range(500)))
        tables.conn.execute(WIPE)
        tables.conn.execute(REFUSE.encode())
        await process.keeper.restore("default")
        tables.add_session("s-3")  # so that the next round looks
        return await process.keeper.restore("default")

    with capture_logs():
        with_process(database, tmp_path, refuse)

    assert listed(tables) == ["d-1"]


def test_keeper_is_idle_while_nothing_is_written(database: str, tables: Tables, tmp_path: Path) -> None:
    """A quiet shop's server must not read its whole ledger three times a minute."""
    tables.add_session("s-1")

    async def look(process: Process) -> list[bool]:
        await record(process, "d-1")
        # Other things than sessions move the log, too, so one round in a row may find it moved.
        return [await is_idle(process.keeper) for _ in range(5)]

    assert any(with_process(database, tmp_path, look))


def test_keeper_wakes_when_a_list_is_wiped(database: str, tables: Tables, tmp_path: Path) -> None:
    """The contract promises the goals back within a minute, also after a quiet night."""
    tables.add_session("s-1")

    async def wipe(process: Process) -> int:
        await record(process, "d-1")
        for _ in range(3):
            await process.keeper.restore("default")
        tables.conn.execute(WIPE)
        return await process.keeper.restore("default")

    assert with_process(database, tmp_path, wipe) == 1


def test_chunks_walk_back_over_the_whole_ledger(database: str, tmp_path: Path) -> None:
    """A stretch that no chunk covers would never be mended."""

    async def walk(process: Process) -> tuple[list[object], list[object]]:
        ids = [(await record(process, f"d-{number}")).recorded.conversion_id for number in range(5)]
        ends = [LAST]
        async with borrowed(process.pool) as conn:
            while ends[-1] != FIRST:
                ends.append(await process.shape.current().images.chunk_end(conn, "default", ends[-1], 2))
        return [*ends[1:]], [ids[3], ids[1], FIRST]

    ends, expected = with_process(database, tmp_path, walk)

    assert ends == expected


def test_round_goes_on_where_the_budget_ended(database: str, tables: Tables, tmp_path: Path) -> None:
    """A large ledger takes many rounds; each must add to the last, and the newest come first in all."""
    tables.add_session("s-1")

    async def walk(process: Process) -> tuple[int, bool]:
        ids = [(await record(process, f"d-{number}")).recorded.conversion_id for number in range(4)]
        tables.conn.execute(WIPE)
        async with borrowed(process.pool) as conn:
            older = await process.keeper.restore_chunk(conn, "default", ids[2])
        process.keeper.reached["default"] = ids[2]
        await process.keeper.restore("default")
        return older, process.keeper.reached["default"] == LAST

    assert with_process(database, tmp_path, walk) == (2, True)
    assert listed(tables) == ["d-0", "d-1", "d-2", "d-3"]
