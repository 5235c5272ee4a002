"""A sale that came before its session finds it, once, whoever looks and however often."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import DatabaseAwayError
from closedloop.settings import Config, Site
from closedloop.stages.intake import RawWebhook
from closedloop.stages.matching import Matcher
from closedloop.stages.process import Process
from closedloop.store.statements import Shape
from fix_flow import Tables

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SITES = {name: Site(name=name) for name in ("default", "second")}
RAW = RawWebhook(
    source="hook", received_at=NOW, method="POST", query="", content_type="", user_agent="", body=b"{}"
)
ADD_SESSION = "insert into public.user_analytics (site, session_id) values (%s, %s)"
T = TypeVar("T")


def with_process(url: str, folder: Path, use: Callable[[Process], Awaitable[T]]) -> T:
    """Return what `use` returns, with the database connected and no loop looking by itself."""
    config = Config(sites=SITES, data_dir=folder, database_url=url, deployment_key=b"k" * 32)

    async def run() -> T:
        process = Process(config, url, web=False, worker=False)
        await process.start()
        try:
            return await use(process)
        finally:
            await process.stop()

    return asyncio.run(run())


async def take(process: Process, session_id: str, deal_id: str, site: str = "default") -> None:
    """Record one deal of a session."""
    told = ReportedConversion(session_id=session_id, deal_id=deal_id, digest=b"x" * 32)
    await process.intake.take(SITES[site], RAW, [told])


def another(process: Process) -> Matcher:
    """Return the matcher of one more worker on the same database."""
    return Matcher(process.pool, process.shape, process.keeper, list(SITES))


async def is_idle(matcher: Matcher) -> bool:
    """Return whether a look right after a look asks for no conversion: without its statements it fails."""
    await matcher.look_at_all()
    shape, matcher.shape = matcher.shape, Shape({})
    try:
        return await matcher.look_at_all() == 0
    except DatabaseAwayError:
        return False
    finally:
        matcher.shape = shape


def test_look_at_all_returns_how_many_were_matched(database: str, tables: Tables, tmp_path: Path) -> None:
    """The number is what people watch to see that late sessions come at all."""

    async def match(process: Process) -> tuple[int, int]:
        for session in ("s-1", "s-2", "nobody"):
            await take(process, session, session)
        await take(process, "s-1", "other", site="second")
        for site, session in (("default", "s-1"), ("default", "s-2"), ("second", "s-1")):
            tables.conn.execute(ADD_SESSION, [site, session])
        return await process.matcher.look_at_all(), await process.matcher.look_at_all()

    assert with_process(database, tmp_path, match) == (3, 0)
    assert tables.deals("unmatched") == ["nobody"]


def test_late_match_stands_in_the_goal_list_at_once(database: str, tables: Tables, tmp_path: Path) -> None:
    """The owner's own dashboard reads the list, not the ledger."""

    async def match(process: Process) -> int:
        await take(process, "s-1", "d-1")
        tables.add_session("s-1")
        return await process.matcher.look_at_all()

    assert with_process(database, tmp_path, match) == 1
    assert [goal["deal_id"] for goal in tables.goals("s-1")] == ["d-1"]
    kinds = "select array_agg(kind order by entry) from closedloop.journal"
    assert tables.one(kinds) == ["unmatched", "matched"]


def test_two_matchers_at_once_match_once(database: str, tables: Tables, tmp_path: Path) -> None:
    """Two machines run the worker; a sale that both find is still one sale."""
    deals = [f"d-{n:02}" for n in range(20)]

    async def match(process: Process) -> list[int]:
        await asyncio.gather(*(take(process, "s-1", deal) for deal in deals))
        tables.add_session("s-1")
        return list(await asyncio.gather(*(another(process).look_at_all() for _ in range(2))))

    assert sum(with_process(database, tmp_path, match)) == len(deals)
    assert sorted(goal["deal_id"] for goal in tables.goals("s-1")) == deals
    assert tables.one("select count(*) from closedloop.journal where kind = 'matched'") == len(deals)


def test_matcher_is_idle_while_nothing_is_written(database: str, tmp_path: Path) -> None:
    """A quiet shop's server must not search every second through the night."""

    async def look(process: Process) -> list[bool]:
        await take(process, "nobody", "d-1")
        # Other things than sessions move the log, too, so one look in a row may find it moved.
        return [await is_idle(process.matcher) for _ in range(5)]

    assert any(with_process(database, tmp_path, look))


def test_matcher_wakes_with_the_first_session(database: str, tables: Tables, tmp_path: Path) -> None:
    """An idle gate that stays shut would lose every sale of the night."""

    async def look(process: Process) -> int:
        await take(process, "s-1", "d-1")
        for _ in range(3):
            await process.matcher.look_at_all()
        tables.add_session("s-1")
        return await process.matcher.look_at_all()

    assert with_process(database, tmp_path, look) == 1


def test_session_of_another_site_is_no_match(database: str, tables: Tables, tmp_path: Path) -> None:
    """Two shops may name a session alike; the money belongs to one of them."""

    async def match(process: Process) -> int:
        await take(process, "s-1", "d-1", site="second")
        tables.add_session("s-1")
        return await process.matcher.look_at_all()

    assert with_process(database, tmp_path, match) == 0
    assert tables.goals("s-1") == []
