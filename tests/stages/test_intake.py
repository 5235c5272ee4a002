"""Every accepted webhook is in the ledger or in the spool, in order, and nobody reads a phone in it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from psycopg import sql

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import BusyError, DatabaseAwayError, DatabaseRefusedError
from closedloop.settings import Config, Site
from closedloop.stages.intake import Intake, RawWebhook
from closedloop.stages.process import Process
from closedloop.stages.unit import Unit
from closedloop.stages.writer import MAX_QUEUE
from closedloop.store.settle import Settled
from fix_flow import Tables
from fix_tools import free_port

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SITE = Site()
PHONE, EMAIL = "+79161234567", "anna@shop.example"
TABLES = ("conversion", "waiting", "event", "webhook", "journal", "identity")
WAITS = "select array_agg(kind order by kind) from closedloop.waiting where kind <> 'session_id'"
RAW = RawWebhook(
    source="hook",
    received_at=NOW,
    method="POST",
    query=f"phone={PHONE}",
    content_type="application/json",
    user_agent="Make/production",
    body=json.dumps({"phone": PHONE, "email": EMAIL}).encode(),
)
REFUSE_BAD_DEAL = """
    create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'no' using errcode = 'check_violation'; end $$;
    create trigger refuse before insert on closedloop.conversion
       for each row when (new.deal_id = 'bad') execute function refuse()
"""
T = TypeVar("T")


def told(deal_id: str, phone: str | None = None, email: str | None = None) -> ReportedConversion:
    """Return one deal as a sender reports it."""
    return ReportedConversion(session_id="s-1", deal_id=deal_id, digest=b"x" * 32, phone=phone, email=email)


def unit_of(intake: Intake, deal_id: str) -> Unit:
    """Return the unit that `take` would submit."""
    return intake.unit(SITE, RAW, [told(deal_id)])


def process_on(url: str, folder: Path) -> Process:
    """Return a process whose loops stand still: the test decides when the spool is drained."""
    config = Config(sites={"default": SITE}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)
    return Process(config, url, web=False, worker=False)


def with_intake(url: str, folder: Path, use: Callable[[Intake], Awaitable[T]]) -> T:
    """Return what `use` returns, with the database connected."""

    async def run() -> T:
        process = process_on(url, folder)
        await process.start()
        try:
            return await use(process.intake)
        finally:
            await process.stop()

    return asyncio.run(run())


def while_away(folder: Path, use: Callable[[Intake], Awaitable[T]]) -> T:
    """Return what `use` returns, with no database in reach."""

    async def run() -> T:
        process = process_on(f"postgresql://postgres@127.0.0.1:{free_port()}/none", folder)
        try:
            return await use(process.intake)
        finally:
            await process.stop()

    return asyncio.run(run())


async def take(intake: Intake, *deals: str) -> list[list[Settled] | BaseException]:
    """Take one webhook for each deal, all at once; return the answers and errors."""
    taking = (intake.take(SITE, RAW, [told(deal)]) for deal in deals)
    return list(await asyncio.gather(*taking, return_exceptions=True))


def spooled(intake: Intake) -> list[str | None]:
    """Return the deals that wait in the spool, oldest first."""
    kept = [Unit.from_bytes(intake.sealer.open(one.intake)) for one in intake.spool.oldest(10_000)]
    return [one.told.deal_id for unit in kept for one in unit.conversions]


def names(answers: Sequence[object]) -> set[str]:
    """Return the types of what came."""
    return {type(answer).__name__ for answer in answers}


def test_webhook_beyond_the_full_queue_is_in_the_spool(database: str, tmp_path: Path) -> None:
    """Its sender hears 503 and may never come again; we already have it."""

    async def flood(intake: Intake) -> tuple[object, list[str | None]]:
        ahead = (intake.writer.submit(intake.unit(SITE, RAW, [])) for _ in range(MAX_QUEUE))
        taking = intake.take(SITE, RAW, [told("d-1")])
        answers = await asyncio.gather(*ahead, taking, return_exceptions=True)
        return answers[-1], spooled(intake)

    answer, kept = with_intake(database, tmp_path, flood)

    assert isinstance(answer, BusyError)
    assert kept == ["d-1"]


def test_spool_keeps_the_order_of_arrival(tmp_path: Path) -> None:
    """Of two values of one deal the later one counts, also after an outage."""
    deals = [f"d-{n:02}" for n in range(40)]

    async def fill(intake: Intake) -> tuple[Sequence[object], list[str | None]]:
        return await take(intake, *deals), spooled(intake)

    answers, kept = while_away(tmp_path, fill)

    assert names(answers) == {"DatabaseAwayError"}
    assert kept == deals


def test_spool_that_takes_nothing_is_told_to_the_sender(tmp_path: Path) -> None:
    """With the disk full and the database away an answer other than an error would be a lost sale."""

    async def fill(intake: Intake) -> Sequence[object]:
        intake.spool.db.execute("drop table spooled")
        return await take(intake, "d-1", "d-2")

    assert names(while_away(tmp_path, fill)) == {"OSError"}


def test_sender_that_left_does_not_hang_the_others_at_a_full_disk(tmp_path: Path) -> None:
    """One connection that was cut must not leave everybody else without an answer."""

    async def fill(intake: Intake) -> Sequence[object]:
        intake.spool.db.execute("drop table spooled")
        tasks = [asyncio.create_task(intake.take(SITE, RAW, [told(deal)])) for deal in ("d-1", "d-2")]
        await asyncio.sleep(0)
        tasks[0].cancel()
        done, _ = await asyncio.wait(tasks, timeout=3)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return [] if len(done) < 2 else answers[1:]

    assert names(while_away(tmp_path, fill)) == {"OSError"}


def test_drain_empties_the_spool_in_order(database: str, tables: Tables, tmp_path: Path) -> None:
    """What came during the outage is in the ledger as if there had been none."""
    tables.add_session("s-1")
    deals = [f"d-{n}" for n in range(5)]
    while_away(tmp_path, lambda intake: take(intake, *deals))

    moved, left = with_intake(database, tmp_path, drain_and_look)

    assert (moved, left) == (5, (0, 0))
    assert [goal["deal_id"] for goal in tables.goals("s-1")] == deals


async def drain_and_look(intake: Intake) -> tuple[int, tuple[int, int]]:
    """Drain once; return how many moved, and how many wait and are parked."""
    return await intake.drain_chunk(), intake.spool.count()


def test_drain_changes_nothing_for_what_is_recorded_already(
    database: str, tables: Tables, tmp_path: Path
) -> None:
    """A commit that came after our patience, or a kill before the spool was cleared: one sale, not two."""
    tables.add_session("s-1")

    async def lose_answer(intake: Intake) -> tuple[int, tuple[int, int]]:
        unit = unit_of(intake, "d-1")
        await intake.writer.submit(unit)
        await intake.keep(unit)
        return await drain_and_look(intake)

    assert with_intake(database, tmp_path, lose_answer) == (1, (0, 0))
    assert len(tables.goals("s-1")) == 1
    assert tables.one("select array_agg(kind) from closedloop.journal") == ["matched"]


def test_unit_that_is_in_the_spool_twice_counts_once(database: str, tables: Tables, tmp_path: Path) -> None:
    """Nothing forbids it, so nothing may depend on it."""
    tables.add_session("s-1")

    async def keep_twice(intake: Intake) -> tuple[int, tuple[int, int]]:
        unit = unit_of(intake, "d-1")
        await asyncio.gather(intake.keep(unit), intake.keep(unit))
        return await drain_and_look(intake)

    assert with_intake(database, tmp_path, keep_twice) == (2, (0, 0))
    assert len(tables.goals("s-1")) == 1


def test_refused_unit_is_parked_while_others_go_on(database: str, tables: Tables, tmp_path: Path) -> None:
    """One deal that can never be recorded would hold up all that came after it."""
    tables.conn.execute(REFUSE_BAD_DEAL.encode())
    while_away(tmp_path, lambda intake: take(intake, "d-1", "bad", "d-2"))

    moved, left = with_intake(database, tmp_path, drain_and_look)

    assert (moved, left) == (2, (0, 1))
    assert tables.deals() == ["d-1", "d-2"]


def test_damaged_entry_does_not_hold_up_the_spool(database: str, tables: Tables, tmp_path: Path) -> None:
    """An entry of another version, or a bad sector: all that came after it still has to arrive."""

    async def keep_both(intake: Intake) -> int:
        intake.spool.keep([intake.sealer.seal(b"no unit")])
        await intake.keep(unit_of(intake, "d-1"))
        try:
            return await intake.drain_chunk()
        except Exception:  # noqa: BLE001 - what `drain` would log, and then meet again for ever
            return -1

    assert with_intake(database, tmp_path, keep_both) == 1
    assert tables.deals() == ["d-1"]


def test_nothing_is_drained_while_the_database_is_away(tmp_path: Path) -> None:
    """The spool is emptied by commits only."""

    async def fill(intake: Intake) -> tuple[int, tuple[int, int]]:
        await take(intake, "d-1")
        return await drain_and_look(intake)

    assert while_away(tmp_path, fill) == (0, (1, 0))


def test_refused_webhook_is_not_spooled(database: str, tables: Tables, tmp_path: Path) -> None:
    """Its sender is told so at once; a second try would end the same."""
    tables.conn.execute(REFUSE_BAD_DEAL.encode())

    async def fill(intake: Intake) -> tuple[Sequence[object], tuple[int, int]]:
        return await take(intake, "bad"), intake.spool.count()

    answers, left = with_intake(database, tmp_path, fill)

    assert [type(answer) for answer in answers] == [DatabaseRefusedError]
    assert left == (0, 0)


def test_goal_that_a_held_session_missed_follows_before_the_answer(
    database: str, tables: Tables, tmp_path: Path
) -> None:
    """The contract's 200 says that the goal is appended, so who is only a moment late is waited for."""
    session = tables.add_session("s-1")

    async def hold(intake: Intake) -> Sequence[object]:
        with tables.conn.transaction():
            tables.conn.execute("select from public.user_analytics where id = %s for update", [session])
            taking = asyncio.create_task(take(intake, "d-1"))
            await asyncio.sleep(0.3)
            assert not taking.done()
        return await taking

    assert names(with_intake(database, tmp_path, hold)) == {"list"}
    assert [goal["deal_id"] for goal in tables.goals("s-1")] == ["d-1"]


def test_phone_and_email_leave_as_hashes_only(database: str, tables: Tables, tmp_path: Path) -> None:
    """Whoever reads the database, a backup or a replica of it must not find a customer."""
    one = told("d-1", phone=PHONE, email=EMAIL)

    with_intake(database, tmp_path, lambda intake: intake.take(SITE, RAW, [one]))

    everything = [
        sql.SQL("select t::text from closedloop.{} t").format(sql.Identifier(name)) for name in TABLES
    ]
    stored = str([tables.conn.execute(query).fetchall() for query in everything])
    bytes_stored = tables.one("select query || body from closedloop.webhook")
    assert tables.one(WAITS) == ["email", "phone"]
    assert [text for text in ("9161234567", "anna", "shop.example") if text in stored] == []
    assert b"9161234567" not in bytes_stored


def test_phone_and_email_are_sealed_in_the_spool(tmp_path: Path) -> None:
    """The data folder is copied to other machines more often than people think."""
    one = told("d-1", phone=PHONE, email=EMAIL)

    async def fill(intake: Intake) -> None:
        with pytest.raises(DatabaseAwayError):
            await intake.take(SITE, RAW, [one])

    while_away(tmp_path, fill)

    kept = b"".join(path.read_bytes() for path in tmp_path.glob("spool*"))
    assert len(kept) > 0
    assert [text for text in (b"9161234567", b"anna", b"d-1") if text in kept] == []
