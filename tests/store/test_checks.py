"""What doctor asks is answered as the database really is."""

from datetime import UTC, datetime

import psycopg
from psycopg import sql

from closedloop.store.checks import read_api_rights, read_open_sessions, read_rights, read_server
from closedloop.store.migrate import migrate
from fix_adopt import PREDECESSOR, make_database
from fix_postgres import Cluster


def test_server_tells_its_version_and_room(any_postgres: Cluster) -> None:
    """Advice for the wrong version helps nobody."""
    with psycopg.connect(make_database(any_postgres)) as conn:
        server = read_server(conn)

    assert server.version // 10000 == any_postgres.version
    assert not server.read_only
    assert 0 < server.connections <= server.max_connections


def test_rights_that_are_missing_are_seen(postgres: Cluster) -> None:
    """A role of one's own is good practice, and easily one grant short."""
    url = make_database(postgres)
    migrate(url, datetime(2026, 1, 1, tzinfo=UTC))

    with psycopg.connect(url) as conn:
        conn.execute("set role anon")
        rights = read_rights(conn)

    assert [rights.select_sessions, rights.update_sessions, rights.use_schema] == [False] * 3
    assert rights.role == "anon"


def test_api_rights_are_listed_by_name(postgres: Cluster) -> None:
    """Somebody granted all on all schemas, once."""
    url = make_database(postgres)
    migrate(url, datetime(2026, 1, 1, tzinfo=UTC))
    with psycopg.connect(url, autocommit=True) as conn:
        before = read_api_rights(conn)
        conn.execute("grant usage on schema closedloop to anon")
        conn.execute("grant select on closedloop.webhook to anon")
        after = read_api_rights(conn)

    assert before == []
    assert after == ["anon: closedloop.webhook", "anon: schema closedloop"]


def test_sessions_that_anybody_may_overwrite_are_seen(postgres: Cluster) -> None:
    """An upsert with the page's key needs rights with which every session can be read and changed."""
    url = make_database(postgres, PREDECESSOR, "grant select, update on public.user_analytics to anon")
    with psycopg.connect(url, autocommit=True) as conn:
        open_now = read_open_sessions(conn)
        conn.execute(sql.SQL("alter table public.user_analytics enable row level security"))
        closed = read_open_sessions(conn)

    assert open_now == ["anon may select", "anon may update"]
    assert closed == []
