"""What the tests of the ledger share: conversions as they are told, and the store over a database."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from closedloop.domain.conversion import Conversion, Identifier, ReportedConversion
from closedloop.store.conversions import Recorded
from closedloop.store.database import connect
from closedloop.store.images import FIRST, LAST, read_matched
from closedloop.store.inbox import KeptWebhook
from closedloop.store.migrate import migrate
from closedloop.store.sessions import SessionTable, read_session_table_now
from closedloop.store.settle import Settled
from closedloop.store.statements import Statements
from closedloop.store.waiting import match_late
from fix_postgres import Cluster

T = TypeVar("T")

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
SITE = "default"
WINDOW = timedelta(hours=24)
OWN_TABLE = SessionTable(
    id_type="bigint", session_id_type="text", data_type="jsonb", has_site=True, has_generated=True
)

# In order, as the process makes them: the newest has the greatest.
_numbers = itertools.count(1)


def new_id() -> UUID:
    """Return an id greater than all before it."""
    return UUID(int=next(_numbers))


def tell(
    *,
    at: datetime = NOW,
    conversion_id: UUID | None = None,
    identifiers: Sequence[tuple[str, str]] = (),
    **told: Any,  # noqa: ANN401 -- the fields of ReportedConversion
) -> Conversion:
    """Return one conversion, received `at`, as it comes: `tell(deal_id="7", value=Decimal(5))`."""
    fields: dict[str, Any] = {"digest": b"\0" * 32, "goal": "sale", **told}
    reported = ReportedConversion(**fields)
    return Conversion(
        conversion_id=conversion_id or new_id(),
        told=reported,
        value=Decimal(0) if reported.value is None else reported.value,
        currency=reported.currency or "RUB",
        occurred_at=reported.occurred_at or at,
        received_at=at,
        webhook_id=new_id(),
        identifiers=tuple(Identifier(kind, value) for kind, value in identifiers),
    )


class Books:
    """The store over one database: every call is a transaction of its own, run to its end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sql = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self.table = read_session_table_now(self.sql)
        self.statements = Statements(self.table, {SITE: WINDOW})
        self._runner = asyncio.Runner()
        self._conn = self._runner.run(connect(url))

    def close(self) -> None:
        """Close both connections."""
        self._runner.run(self._conn.close())
        self._runner.close()
        self.sql.close()

    def run(self, use: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Return what `use(conn)` returns, after its commit."""

        async def transaction() -> T:
            async with self._conn.transaction():
                return await use(self._conn)

        return self._runner.run(transaction())

    def start(self, use: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> Callable[[], T]:
        """Begin `use(conn)` in a thread; what is returned waits for it and gives its answer."""
        threads = ThreadPoolExecutor(1)
        future = threads.submit(self.run, use)
        threads.shutdown(wait=False)
        return future.result

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return all rows of a query, those of one column as plain values."""
        cursor = self.sql.execute(query.encode(), values)
        found = cursor.fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def add_session(
        self,
        session_id: str,
        *,
        site: str = SITE,
        at: datetime | None = NOW,
        document: str = "{}",
        **ids: str,
    ) -> str:
        """Insert a session and return its row's id as text; `ids` go into the document when it is empty."""
        if ids:
            document = json.dumps({"ids": ids})
        query = (
            'insert into public.user_analytics (site, session_id, "timestamp", analytics_data)'
            " values (%s, %s, %s, %s) returning id::text"
        )
        row: str = self.rows(query, site, session_id, at, document)[0]
        return row

    def document(self, session_row: str) -> str:
        """Return a session's document as PostgreSQL prints it."""
        text: str = self.rows(
            "select analytics_data::text from public.user_analytics where id::text = %s", session_row
        )[0]
        return text

    def goals(self, session_row: str) -> list[dict[str, Any]]:
        """Return a session's goal list with exact decimals; empty when there is none."""
        document = json.loads(self.document(session_row), parse_float=Decimal, parse_int=Decimal)
        goals: list[dict[str, Any]] = document.get("target_actions", {}).get("yandex_goals_triggered", [])
        return goals

    def journal(self, site: str = SITE) -> list[str]:
        """Return the kinds of all entries, oldest first."""
        return self.rows("select kind from closedloop.journal where site = %s order by entry", site)

    def append(
        self, *conversions: Conversion, site: str = SITE, webhooks: Sequence[KeptWebhook] = ()
    ) -> dict[UUID, Recorded]:
        """Record one batch."""
        ledger = self.statements.ledger
        return self.run(lambda conn: ledger.append_batch(conn, site, conversions, webhooks))

    def settle(self, conversion: Conversion, site: str = SITE) -> Settled:
        """Settle one conversion and bring its goal list up to date, as the writer does after its commit."""
        settled = self.run(lambda conn: self.statements.settler.settle(conn, site, [conversion]))
        answer = settled[conversion.conversion_id]
        if not answer.recorded.imaged:
            self.follow(answer.recorded.conversion_id, site)
        return answer

    def tell(self, conversion: Conversion, site: str = SITE) -> str:
        """Take one conversion the whole way of the writer, batch and settle, and return its kind."""
        if conversion.conversion_id in self.append(conversion, site=site):
            return "new"
        return self.settle(conversion, site).kind

    def follow(self, conversion_id: UUID, site: str = SITE) -> bool:
        """Bring one conversion's goal up to date; True when the list changed."""

        async def put(conn: AsyncConnection[Any]) -> bool:
            wanted = await read_matched(conn, site, conversion_id)
            return wanted is not None and await self.statements.images.put_image(conn, site, wanted)

        return self.run(put)

    def match(self, site: str = SITE, at: datetime = NOW) -> list[tuple[UUID, str]]:
        """Match what waits with the sessions that came, as the matching stage does; return ids and rules."""
        waiting = self.statements.waiting

        async def matched(conn: AsyncConnection[Any]) -> list[tuple[UUID, str]]:
            done: list[tuple[UUID, str]] = []
            candidates = await waiting.find_answered(conn, site)
            for found in await waiting.find_sessions(conn, site, candidates):
                if await match_late(conn, site, found, at):
                    await self.statements.images.put_image(conn, site, found)
                    done.append((found.conversion_id, found.rule))
            return done

        return self.run(matched)

    def restore(self, site: str = SITE) -> int:
        """Put back all goals that are missing and return how many."""
        images = self.statements.images

        async def restored(conn: AsyncConnection[Any]) -> int:
            missing = await images.find_missing(conn, site, FIRST, LAST)
            return sum([await images.put_image(conn, site, wanted) for wanted in missing])

        return self.run(restored)


def migrate_now(url: str) -> None:
    """Fill an empty database with our schema and nothing else."""
    migrate(url, NOW)


def build_migrated(url: str) -> None:
    """Fill an empty database with our schema."""
    migrate(url, NOW)
    with psycopg.connect(url) as conn:
        # An adopted table may have sessions without a moment.
        conn.execute('alter table public.user_analytics alter "timestamp" drop not null')


def books_of(cluster: Cluster) -> Iterator[Books]:
    """Yield the store over a new migrated database of a cluster, dropped after it."""
    name = cluster.create_database(template=cluster.template("ledger", build_migrated))
    opened = Books(cluster.url(name))
    yield opened
    opened.close()
    cluster.drop_database(name)


@pytest.fixture
def database_template(request: pytest.FixtureRequest, postgres: Cluster) -> str:
    """Say what `database` is a copy of: an empty one, or ours where the test is marked `migrated`."""
    if request.node.get_closest_marker("migrated") is None:
        return "template1"
    return postgres.template("migrated", migrate_now)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the log from drawing tracebacks with all locals: seconds, in which the writer answers nobody."""
    with capture_logs():
        yield


@pytest.fixture
def books(postgres: Cluster) -> Iterator[Books]:
    """Give the store over a migrated database of the newest PostgreSQL."""
    yield from books_of(postgres)


@pytest.fixture
def any_books(any_postgres: Cluster) -> Iterator[Books]:
    """Give the store over a migrated database, once for each PostgreSQL that the product promises."""
    yield from books_of(any_postgres)
