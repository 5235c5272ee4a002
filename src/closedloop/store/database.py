"""How the database is reached: addresses, poolers, connections, and what its errors mean to us."""

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from closedloop.errors import DatabaseAwayError, DatabaseConflictError, DatabaseRefusedError, OperatorError

# A process keeps one connection for the writer and at most this many others: the smallest Supabase
# project has 60 in all and holds part of them itself (docs/protocols/supabase.md, 1.3).
POOL_SIZE = 4
CONNECT_S = 3

PRISMA = {"pgbouncer", "connection_limit", "pool_timeout", "schema", "statement_cache_size", "socket_timeout"}

# Classes and codes of SQLSTATE after which the same request may succeed later, with nothing changed in it:
# connection, insufficient resources (disk, memory, connections), operator intervention, system error,
# syntax or access rule (the schema or the grants are being changed), invalid authorization,
# read-only transaction (a full Supabase project, a standby).
AWAY_CLASSES = {"08", "53", "57", "58", "42", "28", "3D", "3F"}
AWAY_CODES = {"25006", "55P03"}
PASSWORD = re.compile(r"password\s*=\s*(?:'(?:[^'\\]|\\.)*'|\S+)|://\S*@", re.IGNORECASE)
CONFLICT_CODES = {"40001", "40P01"}


def plain_conninfo(url: str) -> str:
    """Return a conninfo that libpq takes: without Prisma's keys, with TLS on Supabase's hosts.

    Raises OperatorError when it is no address of PostgreSQL; never shows the password in it.
    """
    settings = read_address(without_prisma(url))
    host = str(settings.get("host") or "")
    if host.endswith((".supabase.co", ".supabase.com")):
        settings.setdefault("sslmode", "require")
    settings.setdefault("connect_timeout", CONNECT_S)
    settings.setdefault("application_name", "closedloop")
    settings.setdefault("keepalives_idle", 10)
    settings.setdefault("tcp_user_timeout", 10_000)
    return make_conninfo("", **settings)


def without_prisma(url: str) -> str:
    """Return an address without the keys that Supabase's page adds for Prisma, which libpq refuses."""
    if not url.startswith(("postgresql://", "postgres://")):
        return url
    base, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] not in PRISMA]
    return f"{base}?{'&'.join(kept)}" if kept else base


def read_address(url: str) -> dict[str, Any]:
    """Return the settings in an address. Raises OperatorError, without the text that libpq shows."""
    problem = ""
    try:
        settings = conninfo_to_dict(url)
        if str(settings.get("port") or "0").replace(",", "").isdigit():
            return settings
        problem = "its port is not a number; "
    except psycopg.ProgrammingError as error:
        unknown = re.search(r'query parameter: "(\w+)"', str(error))
        problem = f"it has the unknown parameter {unknown[1]}; " if unknown else ""
    raise OperatorError(
        f"DATABASE_URL is not an address of PostgreSQL: {problem}write "
        "postgresql://user:password@host:port/database, and each of @ : / ? # [ ] % in the password "
        "as %40 and so on"
    )


async def connect(conninfo: str) -> AsyncConnection[Any]:
    """Return a new connection in autocommit mode that is safe behind a transaction-mode pooler.

    Statements are prepared under a name only when nothing stands between us and the server.
    Raises DatabaseAwayError.
    """
    with translated():
        conn = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
        if await is_direct(conn):
            conn.prepare_threshold = 2
        return conn


async def is_direct(conn: AsyncConnection[Any]) -> bool:
    """Return whether the process that greeted us is the one that works for us.

    A pooler greets with an invented process number, so equal numbers mean that there is none, or one that
    keeps us with the same server process.
    """
    cursor = await conn.execute("select pg_backend_pid()")
    row = await cursor.fetchone()
    return row is not None and row[0] == conn.info.backend_pid


def make_pool(conninfo: str) -> AsyncConnectionPool[AsyncConnection[Any]]:
    """Return a closed pool for everything but the writer's batches."""
    return AsyncConnectionPool(
        conninfo,
        min_size=0,
        max_size=POOL_SIZE,
        timeout=CONNECT_S,
        max_idle=60,
        reconnect_timeout=CONNECT_S,
        kwargs={"autocommit": True, "prepare_threshold": None},
        check=AsyncConnectionPool.check_connection,
        open=False,
    )


@asynccontextmanager
async def borrowed(
    pool: AsyncConnectionPool[AsyncConnection[Any]],
) -> AsyncGenerator[AsyncConnection[Any]]:
    """Lend a connection of the pool; every error of the driver leaves as one of ours."""
    with translated():
        async with pool.connection() as conn:
            yield conn


@contextmanager
def translated() -> Generator[None]:
    """Turn errors of the driver into ours: away, conflict or refused."""
    try:
        yield
    except (psycopg.Error, PoolTimeout, PoolClosed) as error:
        raise_ours(error)


def raise_ours(error: Exception) -> NoReturn:
    """Raise the error of ours that `error` of the driver means."""
    state = getattr(error, "sqlstate", None)
    sentence = safe_sentence(error)
    constraint = getattr(getattr(error, "diag", None), "constraint_name", None)
    if state in CONFLICT_CODES or constraint == "event_pkey":
        raise DatabaseConflictError(sentence, retry_after=1) from error
    if state is None:
        # Without an answer of the server: the connection is lost, or a value was never sent.
        away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout | PoolClosed)
    else:
        away = state[:2] in AWAY_CLASSES or state in AWAY_CODES
    raise (DatabaseAwayError if away else DatabaseRefusedError)(sentence) from error


def safe_sentence(error: Exception) -> str:
    """Return the first line of a database error, without the values that DETAIL would carry."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    text = primary or str(error).partition("\n")[0] or type(error).__name__
    return PASSWORD.sub("…", str(text))[:200]
