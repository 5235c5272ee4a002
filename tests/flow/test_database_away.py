"""The database stops, freezes, fills up, turns read-only or has no connection left, in mid-load."""

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from psycopg import sql

from fix_flow import OpenTables, accepted, deal, post_many
from fix_postgres import Cluster, MakeCluster, small_disk
from fix_server import MakeServer, Reply
from fix_tools import wait_until

DEALS = 300

Fault = Callable[[Cluster], Callable[[], None]]


def stop(cluster: Cluster) -> Callable[[], None]:
    """Shut down as an administrator does; return how to mend it."""
    cluster.stop("fast")
    return cluster.start


def turn_read_only(cluster: Cluster) -> Callable[[], None]:
    """Refuse writes with 25006, as a full Supabase project does."""
    cluster.set_read_only(to=True)
    return lambda: cluster.set_read_only(to=False)


def freeze(cluster: Cluster) -> Callable[[], None]:
    """Stop answering without closing a connection, as a machine without memory does."""
    postmaster = psutil.Process(cluster.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)

    def thaw() -> None:
        for process in family:
            process.send_signal(signal.SIGCONT)

    return thaw


def take_all_connections(cluster: Cluster) -> Callable[[], None]:
    """Drop the server's connections and leave it none to come back with."""
    cluster.execute(sql.SQL("alter role app connection limit 0"))
    cluster.execute(sql.SQL("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'"))
    return lambda: cluster.execute(sql.SQL("alter role app connection limit -1"))


@pytest.mark.parametrize("fault", [stop, turn_read_only, freeze, take_all_connections])
def test_everything_is_kept_and_recorded_when_the_database_returns(
    own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables, fault: Fault
) -> None:
    """CRMs rarely ask twice: what came while the database was away has to be there afterwards, once."""
    cluster = own_cluster()
    cluster.execute(sql.SQL("create role app login superuser"))
    running = server(database_url=cluster.url().replace("postgres@", "app@"))
    open_tables(cluster.url()).add_session("shopper")
    first = [deal("shopper", f"a{one}") for one in range(DEALS)]
    second = [deal("shopper", f"b{one}") for one in range(20)]
    mended: list[Callable[[], None]] = []

    breaking = threading.Timer(0.05, lambda: mended.append(fault(cluster)))
    breaking.start()
    replies = post_many(running, first)
    breaking.join()
    replies += post_many(running, second)
    mended[0]()
    wait_until(lambda: running.get("/readyz").status == 200, what="the server is ready again")
    tables = open_tables(cluster.url())
    wait_until(lambda: len(tables.deals()) == len(first + second), what="the spool is drained")

    assert set(accepted(first + second, replies)) <= set(tables.deals("matched"))
    assert sorted(goal["deal_id"] for goal in tables.goals("shopper")) == tables.deals()


def test_refusals_are_quick_and_say_when_to_return(own_cluster: MakeCluster, server: MakeServer) -> None:
    """A sender that waits for its own timeout would tell its user nothing for half a minute."""
    cluster = own_cluster()
    running = server(database_url=cluster.url())
    cluster.stop("immediate")

    started = time.monotonic()
    replies = post_many(running, [deal("shopper", str(one)) for one in range(64)], at_once=64)
    took = time.monotonic() - started

    assert took < 5
    assert {reply.status for reply in replies if isinstance(reply, Reply)} == {503}
    assert all(int(reply.headers["retry-after"]) > 0 for reply in replies if isinstance(reply, Reply))
    assert running.get("/readyz").status == 503
    assert running.get("/healthz").status == 200


def test_server_starts_without_its_database(
    own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables
) -> None:
    """A machine that boots starts both at once; the first webhook of the day must not be the price."""
    cluster = own_cluster()
    cluster.stop("fast")
    running = server(database_url=cluster.url(), ready=False)

    reply = running.post(deal("shopper", "1"))
    cluster.start()
    wait_until(lambda: running.get("/readyz").status == 200, what="the server is ready")
    tables = open_tables(cluster.url())

    assert reply.status == 503
    wait_until(lambda: tables.deals("unmatched") == ["1"], what="the spool is drained")


def test_full_disk_is_survived(own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables) -> None:
    """A full disk is the most ordinary end of a small server; it must cost time, not sales."""
    cluster = own_cluster(size_mb=200, settings={"max_wal_size": "32MB", "min_wal_size": "32MB"})
    running = server(database_url=cluster.url())
    open_tables(cluster.url()).add_session("shopper")
    bodies = [deal("shopper", str(one), goal_name="x" * 200) for one in range(3000)]

    cluster.fill_disk()
    replies = post_many(running, bodies)
    cluster.free_disk()
    cluster.restart("immediate")
    tables = open_tables(cluster.url())
    wait_until(lambda: len(tables.deals()) == len(bodies), what="the spool is drained")

    statuses = {reply.status for reply in replies if isinstance(reply, Reply)}
    assert 503 in statuses
    assert statuses <= {200, 503}
    assert set(accepted(bodies, replies)) <= set(tables.deals("matched"))


def test_full_spool_says_that_nothing_was_kept(
    own_cluster: MakeCluster, server: MakeServer, scratch: Path
) -> None:
    """The one answer that must never lie: without disk and database the sender has to keep it."""
    cluster = own_cluster()
    folder = Path(tempfile.mkdtemp(prefix="tiny-", dir=scratch))
    with small_disk(folder, size_mb=2):
        running = server(database_url=cluster.url(), arguments=("--data-dir", str(folder)))
        cluster.stop("immediate")
        with (folder / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(b"\0" * 4096):
                pass

        reply = running.post(deal("shopper", "1", title="x" * 8000))

    assert reply.status == 503
    assert "not kept" in reply.json()["error"]


def test_repeated_outages_count_each_deal_once(
    own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables
) -> None:
    """A sender that was told 503 repeats; the spool and the repetition are the same sale."""
    cluster = own_cluster()
    running = server(database_url=cluster.url())
    tables = open_tables(cluster.url())
    tables.add_session("shopper")
    body = {"session_id": "shopper", "goal_value": 7}

    for _ in range(2):
        cluster.stop("immediate")
        assert running.post(body).status == 503
        cluster.start()
        wait_until(lambda: running.get("/readyz").status == 200, what="the server is ready again")
        assert running.post(body).status == 200
    tables = open_tables(cluster.url())

    assert len(tables.goals("shopper")) == 1
