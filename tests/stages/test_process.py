"""A process starts whatever the database does, says whether it can serve, and leaves nothing undone."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import DatabaseAwayError
from closedloop.settings import Config, Site
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from fix_flow import Tables
from fix_tools import free_port

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SITE = Site()
RAW = RawWebhook(
    source="hook", received_at=NOW, method="POST", query="", content_type="", user_agent="", body=b"{}"
)


def process_on(url: str, folder: Path, *, web: bool = True, worker: bool = True) -> Process:
    """Return a process with all of its loops."""
    config = Config(sites={"default": SITE}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)
    return Process(config, url, web=web, worker=worker)


def nowhere() -> str:
    """Return the address of a database that is not there."""
    return f"postgresql://postgres@127.0.0.1:{free_port()}/none"


async def take(process: Process, deal_id: str) -> None:
    """Record one deal."""
    told = ReportedConversion(session_id="s-1", deal_id=deal_id, digest=b"x" * 32)
    await process.intake.take(SITE, RAW, [told])


async def others() -> set[str]:
    """Return the names of the tasks that run beside the caller."""
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def test_process_starts_without_its_database(tmp_path: Path) -> None:
    """After a power cut the machines come up in any order; webhooks are kept from the first second."""

    async def run() -> tuple[DatabaseAwayError | None, tuple[int, int]]:
        process = process_on(nowhere(), tmp_path)
        await process.start()
        with pytest.raises(DatabaseAwayError):
            await take(process, "d-1")
        found = process.readiness(), process.spool.count()
        await process.stop()
        return found

    reason, kept = asyncio.run(run())

    assert isinstance(reason, DatabaseAwayError)
    assert "127.0.0.1" in str(reason)
    assert kept == (1, 0)


def test_process_is_ready_once_it_is_connected(database: str, tmp_path: Path) -> None:
    """A load balancer sends webhooks to whoever says so."""

    async def run() -> tuple[object, object]:
        process = process_on(database, tmp_path)
        before = process.readiness()
        await process.start()
        after = process.readiness()
        await process.stop()
        return before, after

    before, after = asyncio.run(run())

    assert isinstance(before, DatabaseAwayError)
    assert after is None


def test_stop_records_what_was_accepted_and_leaves_no_task(
    database: str, tables: Tables, tmp_path: Path
) -> None:
    """A deployment in the middle of the day must cost neither a sale nor a warning in the log."""

    async def run() -> tuple[list[BaseException | None], set[str]]:
        process = process_on(database, tmp_path)
        await process.start()
        taking = asyncio.gather(*(take(process, f"d-{n}") for n in range(5)), return_exceptions=True)
        await asyncio.sleep(0)
        await process.stop()
        return await taking, await others()

    answers, left = asyncio.run(run())

    assert answers == [None] * 5
    assert left == set()
    assert tables.deals() == [f"d-{n}" for n in range(5)]


def test_stop_is_quick_while_the_database_is_away(tmp_path: Path) -> None:
    """A service manager kills what does not end, and a kill is never clean."""

    async def run() -> set[str]:
        process = process_on(nowhere(), tmp_path)
        await process.start()
        async with asyncio.timeout(5):
            await process.stop()
        return await others()

    assert asyncio.run(run()) == set()


def test_next_process_drains_what_the_last_one_kept(database: str, tables: Tables, tmp_path: Path) -> None:
    """The spool outlives the process that filled it."""

    async def fill() -> None:
        process = process_on(nowhere(), tmp_path, web=False, worker=False)
        with pytest.raises(DatabaseAwayError):
            await take(process, "d-1")
        await process.stop()

    async def drain() -> None:
        process = process_on(database, tmp_path, worker=False)
        await process.start()
        async with asyncio.timeout(10):
            while process.spool.count() != (0, 0):  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)
        await process.stop()

    asyncio.run(fill())
    asyncio.run(drain())

    assert tables.deals() == ["d-1"]


@pytest.mark.parametrize(
    ("web", "worker", "loops"),
    [
        (True, False, {"drain"}),
        (False, True, {"matching", "images", "inbox-default"}),
        (True, True, {"drain", "matching", "images", "inbox-default"}),
    ],
)
def test_each_half_runs_its_own_loops(
    database: str, tmp_path: Path, *, web: bool, worker: bool, loops: set[str]
) -> None:
    """Ten web machines need one matcher, not ten."""

    async def run() -> set[str]:
        process = process_on(database, tmp_path, web=web, worker=worker)
        await process.start()
        names = {loop.get_name() for loop in process.loops}
        await process.stop()
        return names

    assert asyncio.run(run()) == loops
