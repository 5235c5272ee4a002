"""Adoption beside whoever else uses the database: open transactions, poolers, timeouts, interruptions."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from closedloop.errors import OperatorError
from closedloop.store.adopt import Adoption, read_holders, try_to_add_site
from fix_adopt import (
    ODD,
    PREDECESSOR,
    PREDECESSOR_ROWS,
    Script,
    make_database,
    run_command,
    start_adopt,
    state_of,
)
from fix_ledger import Books, tell
from fix_pgbouncer import PoolerUrl
from fix_postgres import Cluster
from fix_tools import wait_until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PREFIX = "user_analytics_closedloop_"

WAITING = """
select from pg_stat_progress_create_index where datname = current_database() and current_locker_pid <> 0
"""
OURS = """
select c.relname, i.indisvalid
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
 where i.indrelid = 'public.user_analytics'::regclass and c.relname like 'user_analytics_closedloop_%'
 order by c.relname
"""


def rows(url: str, query: str, *values: object) -> list[tuple[object, ...]]:
    """Return all rows of a query."""
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(query.encode(), values or None).fetchall()


def adopt(url: str) -> Sequence[str]:
    """Adopt without a question and return what was told of the progress."""
    told: list[str] = []
    with Adoption(url) as adoption:
        adoption.carry_out(NOW, lambda progress: told.append(progress.note), time.sleep)
    return told


class Holder:
    """Somebody's transaction that has written a row and stays open, as that of a forgotten console does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.conn = psycopg.connect(url)
        self.conn.execute("insert into public.user_analytics (session_id) values ('holder')")
        self.pid = self.conn.info.backend_pid
        self.ending = threading.Thread(target=self.end)

    def end_when_waited_for(self, *, after_s: float = 0.5) -> None:
        """Commit, in a thread, so long after a build has begun to wait for this."""

        def end() -> None:
            wait_until(lambda: bool(rows(self.url, WAITING)), what="the build waits for the holder")
            time.sleep(after_s)
            self.end()

        self.ending = threading.Thread(target=end)
        self.ending.start()

    def end(self) -> None:
        """Commit; what waited goes on."""
        self.conn.commit()
        self.conn.close()


HoldTable = Callable[[str], Holder]


@pytest.fixture
def hold() -> Iterator[HoldTable]:
    """Give transactions that hold the table of a database."""
    holders: list[Holder] = []

    def begin(url: str) -> Holder:
        holders.append(Holder(url))
        return holders[-1]

    yield begin
    for holder in holders:
        if holder.ending.ident is not None:
            holder.ending.join()
        holder.conn.close()


@pytest.fixture
def small(postgres: Cluster) -> str:
    """Give a small table that has the column already, so that only the indexes are left to be built."""
    url = make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=50))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("alter table public.user_analytics add column site text not null default 'default'")
    return url


def test_build_goes_on_when_an_open_transaction_ends(small: str, tmp_path: Path, hold: HoldTable) -> None:
    """On a quiet table our own look at the progress could be what the build waits for, for ever."""
    holder = hold(small)
    started = start_adopt(small, tmp_path)

    holder.end_when_waited_for()
    printed, mistakes = started.communicate(timeout=30)

    assert (started.returncode, mistakes) == (0, ""), printed
    assert [valid for _, valid in rows(small, OURS)] == [True, True, True]


def test_waiting_build_says_for_whom(small: str, hold: HoldTable) -> None:
    """Whoever sees the bar stand still has to know which console to close."""
    holder = hold(small)

    holder.end_when_waited_for()
    told = adopt(small)

    assert f"waiting for the transaction of process {holder.pid}, which began earlier" in told


def test_interrupted_run_is_completed_by_the_next(small: str, tmp_path: Path, hold: HoldTable) -> None:
    """Ctrl-C must end at once, not wait for what the build waits for; what it leaves is mended."""
    holder = hold(small)
    started = start_adopt(small, tmp_path)
    wait_until(lambda: bool(rows(small, WAITING)), what="the build waits for the holder")

    started.send_signal(signal.SIGINT)
    started.communicate(timeout=10)
    holder.end()
    again = run_command(small, tmp_path, "adopt", "--yes")

    assert started.returncode == 1
    assert again.returncode == 0, again.stdout + again.stderr
    assert rows(small, OURS) == [(PREFIX + name, True) for name in ("session", "yclid", "ym_uid")]


def test_failed_build_leaves_no_broken_index(postgres: Cluster) -> None:
    """A broken index costs every insert time and answers nobody; the sentence says how to find the row."""
    noise = "(select string_agg(md5(g::text), '') from generate_series(1, 200) g)"
    add = f"insert into public.user_analytics (session_id) values ({noise})"  # noqa: S608 - plain numbers
    url = make_database(postgres, PREDECESSOR, add)

    with pytest.raises(OperatorError, match="identifier of thousands of characters") as caught:
        adopt(url)

    assert rows(url, OURS) == []
    assert len(rows(url, str(caught.value).partition("find it with: ")[2].partition(";")[0])) == 1


def test_holder_of_the_table_is_named(small: str, hold: HoldTable) -> None:
    """Nobody wants to read "lock timeout" and guess whose."""
    holder = hold(small)

    with psycopg.connect(small, autocommit=True) as conn:
        added = try_to_add_site(conn, 50)
        holders = read_holders(conn)

    assert added is False
    assert [one.partition(",")[0] for one in holders] == [
        f"process {holder.pid} of postgres (idle in transaction"
    ]


def test_pooler_in_transaction_mode_is_enough(
    postgres: Cluster, pgbouncer: PoolerUrl, tmp_path: Path
) -> None:
    """Supabase's shared pooler is often the only address that a small server reaches."""
    url = make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=2000))
    before = state_of(url)

    adopted = run_command(pgbouncer(url.rpartition("/")[2]), tmp_path, "adopt", "--yes")

    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert "through a pooler" in adopted.stdout
    assert state_of(url) == before
    assert "Nothing to do" in run_command(url, tmp_path, "adopt", "--yes").stdout


def limit_statements(url: str) -> None:
    """Give new connections to a database a statement_timeout of a second, as hosted ones have one."""
    name = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"alter database {name} set statement_timeout = '1s'".encode())


def test_statement_timeout_is_lifted_on_a_direct_connection(small: str, hold: HoldTable) -> None:
    """Two minutes, the hosted default, are not enough for an index over a big table."""
    limit_statements(small)
    holder = hold(small)
    began = time.monotonic()

    holder.end_when_waited_for(after_s=1.5)
    adopt(small)

    assert time.monotonic() - began > 1.5
    assert [valid for _, valid in rows(small, OURS)] == [True, True, True]


def test_statement_timeout_behind_a_pooler_is_told(
    small: str, pgbouncer: PoolerUrl, tmp_path: Path, hold: HoldTable
) -> None:
    """There no setting is ours, so the owner has to come by another address."""
    limit_statements(small)
    holder = hold(small)

    refused = run_command(pgbouncer(small.rpartition("/")[2]), tmp_path, "adopt", "--yes")
    holder.end()
    again = run_command(small, tmp_path, "adopt", "--yes")

    assert refused.returncode == 1
    assert "statement_timeout is 1 s" in refused.stderr
    assert "session mode" in refused.stderr
    assert again.returncode == 0, again.stdout + again.stderr


def test_script_of_the_page_keeps_its_rights(postgres: Cluster) -> None:
    """It writes as `anon` with rights on single columns, through policies, and knows no column of ours."""
    url = make_database(
        postgres,
        PREDECESSOR,
        "alter table public.user_analytics enable row level security",
        "grant insert (session_id, timestamp, analytics_data) on public.user_analytics to anon",
        "create policy add on public.user_analytics for insert to anon with check (length(session_id) < 40)",
    )

    adopt(url)

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("set role anon")
        conn.execute("insert into public.user_analytics (session_id, analytics_data) values ('s', '{}')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("insert into public.user_analytics (session_id, site) values ('s', 'other')")
    assert rows(url, "select site, session_id from public.user_analytics") == [("default", "s")]


@pytest.mark.parametrize("broken", ["\\ud83d", "\\u0000", "\\ude00 after"])
def test_script_still_adds_what_only_json_holds(postgres: Cluster, broken: str) -> None:
    """A title cut in the middle of an emoji went into a column of type json before, so it must afterwards."""
    url = make_database(postgres, ODD)
    adopt(url)

    added = rows(
        url,
        "insert into public.user_analytics (id, session_id, analytics_data) values (9, 's-9', %s)"
        " returning id",
        f'{{"title": "{broken}", "ids": {{"ym_uid": "1741000000000000001"}}}}',
    )

    assert added == [(9,)]


def test_every_version_takes_a_goal_after_adoption(any_postgres: Cluster) -> None:
    """The printed form of an index and the progress of a build differ between versions."""
    url = make_database(any_postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=500))
    adopt(url)
    books = Books(url)

    kind = books.tell(tell(deal_id="1", ym_uid="1741000000000000001"))
    found = books.rows(
        "select id::text from public.user_analytics where analytics_data #>> '{ids,ym_uid}' = %s",
        "1741000000000000001",
    )
    books.close()

    assert kind == "new"
    assert len(found) == 1
    with Adoption(url) as again:
        assert again.plan.is_done


def test_table_of_our_own_from_a_backup_needs_only_its_record(any_postgres: Cluster, tmp_path: Path) -> None:
    """Whoever restores only the schema public has our columns and indexes, and builds none a second time."""
    url = make_database(any_postgres)
    run_command(url, tmp_path, "migrate")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("drop schema closedloop cascade")

    with Adoption(url) as adoption:
        plan = adoption.plan

    assert (plan.add_site, plan.indexes, plan.warnings) == (False, [], [])
    assert plan.record is not None
    assert plan.record.has_generated


def test_owner_alone_may_have_it_adopted(postgres: Cluster, tmp_path: Path) -> None:
    """On Supabase tables of the dashboard's early days belong to another role than `postgres`."""
    name = "closedloop_stranger"
    make_role = f"do $$ begin create role {name} login; exception when duplicate_object then end $$"
    url = make_database(postgres, PREDECESSOR, make_role)

    refused = run_command(url.replace("postgres@", f"{name}@"), tmp_path, "adopt", "--yes")

    assert refused.returncode == 1
    assert "the table belongs to postgres" in refused.stdout
    assert rows(url, "select from pg_namespace where nspname = 'closedloop'") == []


def test_rows_added_and_changed_meanwhile_are_all_there(postgres: Cluster) -> None:
    """Each of them is a visitor; the script never waits for more than a moment."""
    url = make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=20_000))
    script = Script(url)
    script.start()

    adopt(url)
    script.stop()

    changed = "select count(*) from public.user_analytics where session_id like 'script-%' and user_id = 'x'"
    assert rows(url, changed) == [(script.written,)]
    assert script.slowest_s < 1.5
