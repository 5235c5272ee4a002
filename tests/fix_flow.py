"""What the flow tests share: sessions in the table, many requests at once, and what ended up stored."""

import contextlib
import json
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import scalar_row

from fix_server import HOOK, Reply, Server
from fix_tools import wait_until


class Tables:
    """Reads and writes the tables of one database as people's own scripts do: straight."""

    def __init__(self, url: str) -> None:
        self.conn = psycopg.connect(url, autocommit=True, prepare_threshold=None)

    def add_session(self, session_id: str, ym_uid: str | None = None, **ids: str) -> int:
        """Insert one session as a tracker does and return its id."""
        document = {"ids": {"session_id": session_id, "ym_uid": ym_uid, **ids}, "traffic": ["yandex", "cpc"]}
        row = self.conn.execute(
            "insert into public.user_analytics (session_id, analytics_data) values (%s, %s) returning id",
            [session_id, json.dumps(document)],
        ).fetchone()
        assert row is not None
        return int(row[0])

    def goals(self, session_id: str) -> list[dict[str, Any]]:
        """Return the goal list of a session, empty when it has none."""
        row = self.conn.execute(
            "select analytics_data #> '{target_actions,yandex_goals_triggered}'"
            " from public.user_analytics where session_id = %s",
            [session_id],
        ).fetchone()
        return list(row[0] or []) if row is not None else []

    def document(self, session_id: str) -> dict[str, Any]:
        """Return the document of a session, empty while there is none."""
        found = self.one("select analytics_data from public.user_analytics where session_id = %s", session_id)
        return dict(found or {})

    def deals(self, state: str | None = None) -> list[str]:
        """Return the deal of every conversion in the ledger, sorted, one entry for each conversion."""
        with self.conn.cursor(row_factory=scalar_row) as cursor:
            cursor.execute(
                "select deal_id from closedloop.conversion"
                " where %(state)s::text is null or state = %(state)s order by deal_id",
                {"state": state},
            )
            return [str(deal) for deal in cursor.fetchall()]

    def one(self, query: str, *values: object) -> Any:  # noqa: ANN401 -- whatever the column is
        """Return the first column of the first row."""
        row = self.conn.execute(query.encode(), values).fetchone()
        return None if row is None else row[0]


def deal(session_id: str, deal_id: str, **more: object) -> dict[str, object]:
    """Return the body of a webhook for one deal."""
    return {"session_id": session_id, "deal_id": deal_id, "goal_value": 100, **more}


def post_many(
    server: Server, bodies: Sequence[dict[str, object]], *, at_once: int = 32
) -> list[Reply | httpx.TransportError]:
    """POST all bodies, `at_once` of them at any time, and return what became of each, in order."""
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    with (
        httpx.Client(base_url=server.url, limits=limits, timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(at_once) as threads,
    ):

        def send(body: dict[str, object]) -> Reply | httpx.TransportError:
            try:
                answer = client.post(HOOK, json=body, headers={"X-Webhook-Key": server.key})
            except httpx.TransportError as error:
                return error
            return Reply(answer.status_code, answer.headers, answer.content)

        return list(threads.map(send, bodies))


def accepted(
    bodies: Sequence[dict[str, object]], replies: Sequence[Reply | httpx.TransportError]
) -> list[str]:
    """Return the deals whose webhooks were answered with 200."""
    return [
        str(body["deal_id"])
        for body, reply in zip(bodies, replies, strict=True)
        if isinstance(reply, Reply) and reply.status == 200
    ]


@contextlib.contextmanager
def when(holds: Callable[[], bool], act: Callable[[], object], *, what: str) -> Generator[None]:
    """Run the block, and `act` beside it as soon as `holds()` is true; leaves when both are done."""

    def watch() -> None:
        wait_until(holds, what=what)
        act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    watcher.join()


OpenTables = Callable[[str], Tables]


@pytest.fixture
def open_tables() -> Iterator[OpenTables]:
    """Give the tables of any database, by its URL."""
    opened: list[Tables] = []

    def get(url: str) -> Tables:
        opened.append(Tables(url))
        return opened[-1]

    yield get
    for one in opened:
        one.conn.close()


@pytest.fixture
def tables(database: str, open_tables: OpenTables) -> Tables:
    """Give the tables of the test's database."""
    return open_tables(database)


@pytest.fixture(scope="module")
def shared(hook: Server) -> Iterator[Tables]:
    """Give the tables of the server that all tests of a file share."""
    assert hook.database_url is not None
    opened = Tables(hook.database_url)
    yield opened
    opened.conn.close()
