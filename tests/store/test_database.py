"""Every address that Supabase hands out is understood, and every error of the database means one thing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from closedloop.errors import (
    ClosedloopError,
    DatabaseAwayError,
    DatabaseConflictError,
    DatabaseRefusedError,
    OperatorError,
)
from closedloop.store.database import (
    borrowed,
    connect,
    is_direct,
    make_pool,
    plain_conninfo,
    raise_ours,
    safe_sentence,
    translated,
)
from fix_pgbouncer import PoolerUrl
from fix_postgres import Cluster
from fix_tools import free_port

STATES = sorted(code for code in vars(errors)["_sqlcodes"] if errors.lookup(code).sqlstate == code)
SHARED = "pooler.supabase.com"


async def pooled(
    url: str, use: Callable[[AsyncConnectionPool[AsyncConnection[Any]]], Awaitable[None]]
) -> None:
    """Run `use` with an open pool as the process has one."""
    async with make_pool(plain_conninfo(url)) as pool:
        await use(pool)


@pytest.mark.parametrize(
    ("authority", "query"),
    [
        ("postgres:p@db.abc.supabase.co:5432", ""),
        (f"postgres.abc:p@aws-0-eu-central-1.{SHARED}:5432", ""),
        (f"postgres.abc:p@aws-1-eu-central-1.{SHARED}:6543", ""),
        (f"postgres.abc:p@aws-1-eu-central-1.{SHARED}:6543", "?pgbouncer=true"),
        (f"postgres.abc:p@aws-1-eu-central-1.{SHARED}:6543", "?pgbouncer=true&connection_limit=1"),
        (
            f"postgres.abc:p@aws-1-eu-central-1.{SHARED}:6543",
            "?sslmode=require&pgbouncer=true&pool_timeout=0",
        ),
        ("postgres:p@db.abc.supabase.co:6543", "?schema=public&pgbouncer=true"),
        ("postgres.tenant:p@db.example:6543", "?pgbouncer=true"),
    ],
)
def test_every_address_of_supabase_is_understood(authority: str, query: str) -> None:
    """People paste what the dashboard shows under Connect, Prisma's own keys included."""
    settings = conninfo_to_dict(plain_conninfo(f"postgresql://{authority}/postgres{query}"))

    place = f"{settings['user']}:{settings['password']}@{settings['host']}:{settings['port']}"
    assert (place, settings["dbname"]) == (authority, "postgres")
    assert settings.get("sslmode") == (None if "db.example" in authority else "require")
    assert settings["application_name"] == "closedloop"
    assert int(settings["connect_timeout"] or 0) < 10


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://h/d?pgbouncer=true", {}),
        ("postgresql://h/d?pgbouncer=true&sslmode=verify-full", {"sslmode": "verify-full"}),
        ("postgresql://h/d?sslmode=disable&pgbouncer=true", {"sslmode": "disable"}),
        ("postgresql://h/d?target_session_attrs=any&pgbouncer=1&sslmode=allow", {"sslmode": "allow"}),
        ("host=h dbname=d connect_timeout=7", {"connect_timeout": "7"}),
        ("postgresql://h/d?application_name=mine", {"application_name": "mine"}),
    ],
)
def test_what_the_owner_set_is_kept(url: str, kept: dict[str, str]) -> None:
    """Only what is missing is filled in; a key of Prisma's is taken out, wherever it stands."""
    settings = conninfo_to_dict(plain_conninfo(url))

    assert kept.items() <= {key: str(value) for key, value in settings.items()}.items()
    assert (settings["host"], settings["dbname"]) == ("h", "d")
    assert "pgbouncer" not in settings


@given(st.text("abcXYZ019-._~", min_size=1), st.text("pq@:/?#[]% &='\\ю", min_size=1))
def test_any_escaped_password_arrives(user: str, password: str) -> None:
    """Generated passwords are full of the signs that an address is made of."""
    escaped = f"postgresql://{user}:{quote(password, safe='')}@db.example/x"
    for address in (escaped, f"{escaped}?pgbouncer=true", make_conninfo(user=user, password=password)):
        settings = conninfo_to_dict(plain_conninfo(address))

        assert (settings["user"], settings["password"]) == (user, password)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter%zz2@db.example/x",
        "postgresql://u:hunter2@db.example/x?no_such_key=1",
        "postgresql://u:hun/ter2@db.example/x",
        "mysql://u:hunter2@db.example/x",
        "db.example hunter2",
    ],
)
def test_address_that_cannot_be_read_is_told_without_its_password(url: str) -> None:
    """A generated password is often pasted unescaped, and the start ends in a log that others read."""
    with pytest.raises(OperatorError, match="DATABASE_URL") as caught:
        plain_conninfo(url)

    assert "hun" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_connection_to_the_server_itself_is_direct(database: str) -> None:
    """Statements prepared under a name are worth a third of the time of a commit."""

    async def look() -> tuple[bool, int | None]:
        async with await connect(plain_conninfo(database)) as conn:
            return await is_direct(conn), conn.prepare_threshold

    assert asyncio.run(look()) == (True, 2)


def test_connection_through_a_pooler_is_not_direct(
    postgres: Cluster, pgbouncer: PoolerUrl, database: str
) -> None:
    """A statement prepared by one client would be missing on the server process of the next."""
    url = pgbouncer(database.rpartition("/")[2])

    async def look() -> tuple[bool, int | None]:
        async with await connect(plain_conninfo(url)) as conn:
            return await is_direct(conn), conn.prepare_threshold

    assert postgres.pid is not None
    assert asyncio.run(look()) == (False, None)


def test_connections_commit_each_statement(database: str) -> None:
    """A forgotten transaction would hold its locks for as long as the process lives."""

    async def look(pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        async with borrowed(pool) as conn, await connect(plain_conninfo(database)) as own:
            assert (conn.autocommit, conn.prepare_threshold, own.autocommit) == (True, None, True)

    asyncio.run(pooled(database, look))


async def connect_to(url: str) -> None:
    """Connect and leave."""
    conn = await connect(plain_conninfo(url))
    await conn.close()


def test_nobody_on_the_port_is_away() -> None:
    """A database that is being restarted refuses connections for some seconds."""
    with pytest.raises(DatabaseAwayError):
        asyncio.run(connect_to(f"postgresql://postgres@127.0.0.1:{free_port()}/x"))


def test_database_that_does_not_exist_is_away(postgres: Cluster) -> None:
    """A restore creates it again; until then the spool keeps everything."""
    with pytest.raises(DatabaseAwayError, match="does not exist"):
        asyncio.run(connect_to(postgres.url("nowhere")))


def test_pool_without_a_free_connection_is_away(database: str) -> None:
    """The smallest Supabase project has few; what gets none comes again."""

    async def exhaust(pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        await pool.resize(0, 1)
        pool.timeout = 0.1
        async with borrowed(pool), borrowed(pool):
            pass

    with pytest.raises(DatabaseAwayError):
        asyncio.run(pooled(database, exhaust))


def meant(error: Exception) -> type[ClosedloopError]:
    """Return the class of ours that an error of the driver means."""
    with pytest.raises(ClosedloopError) as caught:
        raise_ours(error)
    assert caught.value.__cause__ is error
    return type(caught.value)


class OfServerError(psycopg.DatabaseError):
    """The driver's error with some SQLSTATE, as if the server had said so."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("said by the server")
        self.sqlstate = sqlstate


@pytest.mark.parametrize("state", ["08006", "53100", "53300", "57P01", "57P03", "58030", "42P01", "42501"])
@pytest.mark.parametrize("other", ["28P01", "3D000", "3F000", "25006", "55P03"])
def test_what_passes_by_itself_is_away(state: str, other: str) -> None:
    """Restart, failover, a full disk, revoked grants, a paused project: the same request succeeds later."""
    assert meant(OfServerError(state)) is meant(OfServerError(other)) is DatabaseAwayError


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_two_in_each_others_way_are_a_conflict(state: str) -> None:
    """Nothing was done, so the same may be done again at once."""
    assert meant(OfServerError(state)) is DatabaseConflictError
    with pytest.raises(DatabaseConflictError) as caught:
        raise_ours(OfServerError(state))
    assert caught.value.retry_after == 1


@pytest.mark.parametrize("state", ["22P02", "22003", "23505", "23514", "P0001", "54000", "XX000", "21000"])
def test_what_one_row_is_refused_for_is_refused(state: str) -> None:
    """Sent again it would be refused again, and must hold up nobody behind it."""
    assert meant(OfServerError(state)) is DatabaseRefusedError


@pytest.mark.parametrize("state", STATES)
def test_every_state_that_postgresql_knows_means_one_thing(state: str) -> None:
    """No error may fall through to a class that nobody handles."""
    away = state[:2] in {"08", "53", "57", "58", "42", "28", "3D", "3F"} or state in {"25006", "55P03"}
    expected = DatabaseConflictError if state in {"40001", "40P01"} else DatabaseRefusedError

    assert meant(errors.lookup(state)("x")) is (DatabaseAwayError if away else expected)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), DatabaseAwayError),
        (psycopg.InterfaceError("the connection is closed"), DatabaseAwayError),
        (PoolTimeout("no connection"), DatabaseAwayError),
        (psycopg.DataError("text cannot contain NUL"), DatabaseRefusedError),
        (psycopg.ProgrammingError("no such placeholder"), DatabaseRefusedError),
    ],
)
def test_error_without_an_answer_goes_by_its_class(error: Exception, kind: type[ClosedloopError]) -> None:
    """A lost connection passes; a value that the driver cannot send would never go."""
    assert meant(error) is kind


def test_what_is_not_the_drivers_passes_untranslated() -> None:
    """A defect of ours must not look like an outage."""
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError


@given(st.text("abcXYZ019@:/?#=&%!$", min_size=8), st.sampled_from(["postgres", "postgres.abc", ""]))
def test_safe_sentence_never_shows_a_password(password: str, user: str) -> None:
    """It goes into logs, into /readyz and into answers; half a password is one that can be guessed."""
    url = f"postgresql://{user}:{password}@db.example:5432/postgres"
    spelled = [f'invalid "{url}"', f"host=h password={password} user=x", f"password = {password}"]
    spelled += [f"password='{password}' host=h", f"password='x {password}' host=h"]

    for text in spelled:
        assert password[-6:] not in safe_sentence(psycopg.OperationalError(text))


def test_safe_sentence_is_the_first_line_without_details(database: str) -> None:
    """DETAIL repeats the row, and the row is somebody's."""
    with psycopg.connect(database) as conn:
        conn.execute("create table t (phone text unique)")
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("insert into t values ('+79001234567'), ('+79001234567')")

    assert "79001234567" in str(caught.value)
    assert safe_sentence(caught.value) == 'duplicate key value violates unique constraint "t_phone_key"'


@pytest.mark.parametrize("text", ["", "\n", "x" * 5000])
def test_safe_sentence_is_never_empty_nor_endless(text: str) -> None:
    """A person reads it."""
    assert 0 < len(safe_sentence(psycopg.OperationalError(text))) <= 200
