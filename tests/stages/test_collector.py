"""Hits go together in one commit, and each gets the answer that is its own."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
import pytest

from closedloop.domain.visit import Visit
from closedloop.errors import DatabaseAwayError
from closedloop.stages.collector import AGAIN, HitRecorder, HitWriter
from closedloop.stages.writer import Writer
from closedloop.store.database import plain_conninfo
from closedloop.store.statements import Shape
from fix_tools import free_port

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

T = TypeVar("T")
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


def visit(session_id: str, visitor: str = "visitor-0001", view: str = "v1") -> Visit:
    """Return what one hit tells."""
    return Visit(
        site="default",
        session_id=session_id,
        visitor=visitor,
        began_at=NOW,
        received_at=NOW,
        pages={view: {"url": view, "at": "x"}},
    )


def with_writer(url: str, use: Callable[[HitWriter], Awaitable[T]]) -> T:
    """Return what `use` returns, with a connected writer."""

    async def run() -> T:
        shape = Shape({})
        writer: HitWriter = Writer(plain_conninfo(url), shape, HitRecorder(shape))
        writing = asyncio.create_task(writer.run())
        await asyncio.wait_for(writer.connected.wait(), 10)
        try:
            return await use(writer)
        finally:
            writer.stop()
            await writing

    return asyncio.run(run())


async def at_once(writer: HitWriter, *visits: Visit) -> list[Any]:
    """Submit all at the same moment and return the answers in order."""
    return await asyncio.gather(*(writer.submit(one) for one in visits), return_exceptions=True)


def views(url: str, session_id: str) -> list[str]:
    """Return the views of a session, sorted."""
    query = (
        "select jsonb_object_keys(analytics_data #> '{visit,pages}')"
        " from public.user_analytics where session_id = %s"
    )
    with psycopg.connect(url) as conn:
        return sorted(row[0] for row in conn.execute(query, [session_id]).fetchall())


def test_hits_of_one_session_go_together(database: str) -> None:
    """Two hundred at once leave one row with all of their views."""
    told = [visit("session-0001", view=f"v{number:03}") for number in range(200)]

    answers = with_writer(database, lambda writer: at_once(writer, *told))

    assert set(answers) == {"made", "merged"} or set(answers) == {"made"}
    assert views(database, "session-0001") == [f"v{number:03}" for number in range(200)]


def test_two_visitors_of_one_session_are_judged_apart(database: str) -> None:
    """In the same batch the first one has it, and the stranger is told so."""
    told = [visit("session-0001"), visit("session-0001", "visitor-0002", "v2"), visit("session-0002")]

    answers = with_writer(database, lambda writer: at_once(writer, *told))

    assert sorted(answers) == ["foreign", "made", "made"]
    assert len(views(database, "session-0001")) == 1


def test_row_that_is_held_is_told_after_a_moment(database: str) -> None:
    """The tracker comes again; a page is never kept waiting."""
    with_writer(database, lambda writer: writer.submit(visit("session-0001")))

    with psycopg.connect(database) as holder:
        holder.execute("select 1 from public.user_analytics for update")
        told = [visit("session-0001", view="v2"), visit("session-0002")]
        answers = with_writer(database, lambda writer: at_once(writer, *told))

    assert answers == [AGAIN, "made"]


def test_refused_hit_fails_alone(database: str) -> None:
    """A trigger of the owner's for one session must not cost the others their visits."""
    trigger = """
        create function refuse() returns trigger language plpgsql as $$
        begin if new.session_id = 'session-bad' then raise exception 'no'; end if; return new; end $$;
        create trigger refuse before insert on public.user_analytics for each row execute function refuse()
    """
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(trigger)

    told = [visit("session-0001"), visit("session-bad"), visit("session-0002")]
    answers = with_writer(database, lambda writer: at_once(writer, *told))

    assert (answers[0], answers[2]) == ("made", "made")
    assert isinstance(answers[1], Exception)


def test_without_a_database_a_hit_is_turned_away_at_once() -> None:
    """The tracker keeps it; waiting would only hold up the page's connection."""
    shape = Shape({})
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/none"
    writer: HitWriter = Writer(plain_conninfo(url), shape, HitRecorder(shape))

    with pytest.raises(DatabaseAwayError):
        asyncio.run(writer.submit(visit("session-0001")))
