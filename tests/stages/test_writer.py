"""The writer answers only for what is committed, and one unit's trouble is never another's."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import msgspec
import pytest
from psycopg import AsyncConnection, sql

from closedloop.domain.conversion import Conversion, ReportedConversion, dedup_key
from closedloop.errors import (
    BusyError,
    ClosedloopError,
    DatabaseAwayError,
    DatabaseConflictError,
    DatabaseRefusedError,
)
from closedloop.stages import clock
from closedloop.stages.intake import UnitWriter
from closedloop.stages.recorder import ConversionRecorder
from closedloop.stages.unit import Unit
from closedloop.stages.writer import MAX_QUEUE, Writer, patiently
from closedloop.store.database import plain_conninfo
from closedloop.store.inbox import KeptWebhook
from closedloop.store.settle import Settled
from closedloop.store.statements import Shape
from fix_flow import Tables
from fix_tools import free_port

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
T = TypeVar("T")

REFUSE_BAD_DEAL = """
    create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'no' using errcode = 'check_violation'; end $$;
    create trigger refuse before insert on closedloop.conversion
       for each row when (new.deal_id = 'bad') execute function refuse()
"""
REFUSE_GOALS = """
    create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'no' using errcode = 'check_violation'; end $$;
    create trigger refuse before update on public.user_analytics for each row execute function refuse()
"""
BLOCKED = "select count(*) from pg_locks where not granted"


def conversion(deal_id: str, session_id: str = "s-1", event_id: str | None = None) -> Conversion:
    """Return one deal of one session, as the intake completes it."""
    told = ReportedConversion(session_id=session_id, deal_id=deal_id, event_id=event_id, digest=b"x" * 32)
    return Conversion(
        conversion_id=clock.new_id(),
        told=told,
        value=Decimal(100),
        currency="RUB",
        occurred_at=NOW,
        received_at=NOW,
        webhook_id=UUID(int=0),
    )


def unit(*told: Conversion, site: str = "default") -> Unit:
    """Return a webhook with these conversions."""
    webhook_id = clock.new_id()
    webhook = KeptWebhook(
        webhook_id=webhook_id,
        source="hook",
        received_at=NOW,
        method="POST",
        query=b"",
        content_type="application/json",
        user_agent="",
        body=b"sealed",
    )
    own = [msgspec.structs.replace(one, webhook_id=webhook_id) for one in told]
    return Unit(site=site, webhook=webhook, conversions=own)


def unit_writer(conninfo: str) -> UnitWriter:
    """Return a writer of webhooks that has not begun yet."""
    shape = Shape({})
    return Writer(conninfo, shape, ConversionRecorder(shape))


def with_writer(url: str, use: Callable[[UnitWriter], Awaitable[T]]) -> T:
    """Return what `use` returns; the writer is connected before and stopped after."""

    async def run() -> T:
        writer = unit_writer(plain_conninfo(url))
        running = asyncio.create_task(writer.run())
        try:
            await asyncio.wait_for(writer.connected.wait(), 30)
            return await use(writer)
        finally:
            writer.stop()
            await asyncio.wait_for(running, 30)

    return asyncio.run(run())


async def at_once(writer: UnitWriter, *units: Unit) -> list[list[Settled] | BaseException]:
    """Submit all before the writer runs, so that they go together; return the answers and errors."""
    return list(await asyncio.gather(*(writer.submit(one) for one in units), return_exceptions=True))


def kinds(answers: list[list[Settled] | BaseException]) -> list[str]:
    """Return what became of each unit's first conversion, or the name of its error."""
    return [
        type(answer).__name__ if isinstance(answer, BaseException) else answer[0].kind for answer in answers
    ]


async def until_blocked(conn: AsyncConnection[tuple[int]]) -> None:
    """Return when some transaction waits for another."""
    async with asyncio.timeout(10):
        while (await (await conn.execute(BLOCKED)).fetchone() or (0,))[0] == 0:  # noqa: ASYNC110 - locks tell nobody
            await asyncio.sleep(0.01)


def test_answered_unit_is_in_the_ledger(database: str, tables: Tables) -> None:
    """A 200 to the CRM is a promise: it never sends that deal again."""
    session = tables.add_session("s-1")
    one = unit(conversion("d-1"))

    [settled] = with_writer(database, lambda writer: writer.submit(one))

    assert (settled.kind, settled.recorded.session_row) == ("new", str(session))
    assert tables.deals("matched") == ["d-1"]
    assert [goal["deal_id"] for goal in tables.goals("s-1")] == ["d-1"]
    assert tables.one("select webhook_id from closedloop.webhook") == one.webhook.webhook_id


def test_full_queue_turns_away_the_next_at_once(database: str) -> None:
    """A flood must not fill the memory, and who is turned away can be kept in the spool."""
    units = [unit() for _ in range(MAX_QUEUE + 2)]

    answers = with_writer(database, lambda writer: at_once(writer, *units))

    assert [type(answer) for answer in answers[MAX_QUEUE:]] == [BusyError, BusyError]
    assert [answer for answer in answers[:MAX_QUEUE] if isinstance(answer, BaseException)] == []


def test_unit_is_turned_away_without_waiting_while_the_database_is_away() -> None:
    """A CRM waits a few seconds at most; the time is the spool's, not the database's."""
    writer = unit_writer(plain_conninfo(f"postgresql://postgres@127.0.0.1:{free_port()}/none"))

    with pytest.raises(DatabaseAwayError):
        writer.submit(unit(conversion("d-1"))).send(None)

    assert not writer.queue


@pytest.mark.parametrize("event_id", [None, "e-1"])
def test_same_unit_twice_in_one_batch_counts_once(
    database: str, tables: Tables, event_id: str | None
) -> None:
    """A unit that outlived its sender's patience waits in the queue while the spool submits it again."""
    tables.add_session("s-1")
    one = unit(conversion("d-1", event_id=event_id))

    first, second = with_writer(database, lambda writer: at_once(writer, one, one))

    assert tables.deals() == ["d-1"]
    assert len(tables.goals("s-1")) == 1
    assert [isinstance(answer, list) for answer in (first, second)] == [True, True]


def test_lost_answer_is_given_again_and_nothing_is_noted(database: str, tables: Tables) -> None:
    """The commit came through, the connection broke before the answer: our own ids are no repetition."""
    tables.add_session("s-1")
    one = unit(conversion("d-1", event_id="e-1"), conversion("d-2"))

    first = with_writer(database, lambda writer: writer.submit(one))
    again = with_writer(database, lambda writer: writer.submit(one))

    assert [(a.recorded.conversion_id, a.recorded.session_row) for a in again] == [
        (a.recorded.conversion_id, a.recorded.session_row) for a in first
    ]
    assert tables.one("select count(*) from closedloop.webhook") == 1
    assert tables.one("select array_agg(distinct kind) from closedloop.journal") == ["matched"]


def test_refused_unit_fails_alone(database: str, tables: Tables) -> None:
    """One deal that somebody's trigger forbids must not cost the others of its batch."""
    tables.conn.execute(REFUSE_BAD_DEAL.encode())
    units = [unit(conversion(deal)) for deal in ("d-1", "bad", "d-2")]

    answers = with_writer(database, lambda writer: at_once(writer, *units))

    assert kinds(answers) == ["new", "DatabaseRefusedError", "new"]
    assert tables.deals() == ["d-1", "d-2"]


def test_unit_is_recorded_whole_or_not_at_all(database: str, tables: Tables) -> None:
    """The answer to an array is one for all, and so is the next try of its sender."""
    tables.conn.execute(REFUSE_BAD_DEAL.encode())

    with pytest.raises(DatabaseRefusedError):
        with_writer(database, lambda writer: writer.submit(unit(conversion("d-1"), conversion("bad"))))

    assert tables.deals() == []
    assert tables.one("select count(*) from closedloop.webhook") == 0


def test_session_that_refuses_its_goal_does_not_refuse_the_conversion(database: str, tables: Tables) -> None:
    """The ledger is the truth; a trigger on people's own table may forbid the image only."""
    session = tables.add_session("s-1")
    tables.conn.execute(REFUSE_GOALS.encode())

    [settled] = with_writer(database, lambda writer: writer.submit(unit(conversion("d-1"))))

    assert (settled.recorded.session_row, settled.recorded.imaged) == (str(session), False)
    assert tables.deals("matched") == ["d-1"]


@pytest.mark.parametrize("broken", ["\ud800", "\0"])
def test_defect_in_one_unit_fails_it_alone(database: str, tables: Tables, broken: str) -> None:
    """Whatever slips through our own checks must not stop everybody's conversions."""
    units = [unit(conversion(deal)) for deal in ("d-1", broken, "d-2")]

    answers = with_writer(database, lambda writer: at_once(writer, *units))

    assert kinds(answers) == ["new", "DatabaseRefusedError", "new"]
    assert tables.deals() == ["d-1", "d-2"]


def test_one_batch_records_several_sites_apart(database: str, tables: Tables) -> None:
    """An agency's shops share the process; one shop's deal 7 is not the other's."""
    units = [unit(conversion("7"), site=site) for site in ("b", "a", "b2", "a")]

    answers = with_writer(database, lambda writer: at_once(writer, *units))

    assert kinds(answers) == ["new", "new", "new", "repeated"]
    stored = tables.one("select array_agg(site order by site) from closedloop.conversion")
    assert stored == ["a", "b", "b2"]


def test_deadlock_with_somebody_else_is_tried_again(database: str, tables: Tables) -> None:
    """Two processes on one database meet; neither sender may hear of it."""
    first, second = sorted((conversion("d-1"), conversion("d-2")), key=key_order)

    async def collide(writer: UnitWriter) -> list[Settled]:
        ledger = writer.shape.current().ledger
        async with await AsyncConnection.connect(database) as other:
            await other.execute("set deadlock_timeout = '1min'")  # ours is the one to be chosen
            await ledger.append_batch(other, "default", [second], [])
            waiting = asyncio.create_task(writer.submit(unit(first, second)))
            await until_blocked(other)
            await ledger.append_batch(other, "default", [first], [])
            await other.rollback()
            return await waiting

    settled = with_writer(database, collide)

    assert [one.kind for one in settled] == ["new", "new"]
    assert tables.deals() == ["d-1", "d-2"]


def key_order(one: Conversion) -> bytes:
    """Return what decides which of two conversions is locked first."""
    return dedup_key(one.told).key


def test_serialization_conflict_is_tried_again(database: str, tables: Tables) -> None:
    """A database whose owner made SERIALIZABLE the default answers 40001 whenever two meet."""
    name = sql.Identifier(tables.conn.info.dbname)
    strict = sql.SQL("alter database {} set default_transaction_isolation = 'serializable'").format(name)
    tables.conn.execute(strict)

    async def collide(writer: UnitWriter) -> list[Settled]:
        ledger = writer.shape.current().ledger
        async with await AsyncConnection.connect(database) as other:
            await ledger.append_batch(other, "default", [conversion("d-1")], [])
            waiting = asyncio.create_task(writer.submit(unit(conversion("d-1"))))
            await until_blocked(other)
            await other.commit()
            return await waiting

    [settled] = with_writer(database, collide)

    assert settled.kind == "repeated"
    assert tables.deals() == ["d-1"]


def test_stop_records_what_was_taken_and_takes_nothing_new(database: str, tables: Tables) -> None:
    """A deployment restarts the server under load: each sender has a true answer."""

    async def stop(writer: UnitWriter) -> tuple[list[list[Settled]], BaseException | None]:
        taken = [asyncio.create_task(writer.submit(unit(conversion(f"d-{n}")))) for n in range(5)]
        await asyncio.sleep(0)
        writer.stop()
        [late] = await asyncio.gather(writer.submit(unit(conversion("late"))), return_exceptions=True)
        return await asyncio.gather(*taken), late if isinstance(late, ClosedloopError) else None

    answers, late = with_writer(database, stop)

    assert [answer[0].kind for answer in answers] == ["new"] * 5
    assert isinstance(late, DatabaseAwayError)
    assert tables.deals() == [f"d-{n}" for n in range(5)]


def test_writer_comes_back_after_its_connection_was_cut(database: str, tables: Tables) -> None:
    """A restart of the database in the night must not need one of ours."""

    async def cut(writer: UnitWriter) -> list[Settled]:
        tables.conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        async with asyncio.timeout(20):
            while True:
                try:
                    return await writer.submit(unit(conversion("d-1")))
                except DatabaseAwayError:
                    await asyncio.sleep(0.05)

    [settled] = with_writer(database, cut)

    assert settled.kind in {"new", "repeated"}
    assert tables.deals() == ["d-1"]


def test_attempt_in_the_way_of_others_is_made_again_and_not_for_ever() -> None:
    """What is committed in the end is the caller's; who never gets through is told to come again at once."""
    tries: list[int] = []

    async def attempt() -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise DatabaseConflictError("serialization")
        return "done"

    assert asyncio.run(patiently(attempt, 3)) == "done"
    tries.clear()
    with pytest.raises(DatabaseAwayError) as refused:
        asyncio.run(patiently(attempt, 2))
    assert refused.value.retry_after == 1
    assert len(tries) == 2
