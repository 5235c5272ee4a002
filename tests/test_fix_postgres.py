"""The servers that other tests stand on do what they promise."""

from collections.abc import Callable

import psycopg
import pytest

from fix_pgbouncer import PoolerUrl
from fix_postgres import VERSIONS, Cluster, MakeCluster, StopMode


def value_of(url: str, query: str) -> object:
    """Return the one value of a query's one row."""
    with psycopg.connect(url) as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_any_postgres_is_the_version_it_names(any_postgres: Cluster) -> None:
    """A test that passes on 15 only by running on 18 would let users of 15 down."""
    number = value_of(any_postgres.url(), "show server_version_num")

    assert int(str(number)) // 10_000 == any_postgres.version


def test_any_postgres_is_reached_by_its_socket(any_postgres: Cluster) -> None:
    """The embedded server of the product is reached by socket too."""
    address = value_of(any_postgres.url(by_socket=True), "select inet_server_addr()")

    assert address is None


def test_each_version_has_its_own_server(clusters: Callable[[int], Cluster]) -> None:
    """Two versions behind one port would be one version tested twice."""
    ports = {clusters(version).port for version in VERSIONS}

    assert len(ports) == len(VERSIONS)


def test_database_is_empty_and_takes_writes(database: str) -> None:
    """A test begins with nothing of the one before it."""
    with psycopg.connect(database) as conn:
        conn.execute("create table kept (n int)")

    assert value_of(database, "select count(*) from kept") == 0


@pytest.mark.parametrize("text", ["Ω", "ж", "😀"])
def test_database_keeps_any_text(database: str, text: str) -> None:
    """Names of deals are in every script."""
    with psycopg.connect(database) as conn:
        row = conn.execute("select %s::text, length(%s)", (text, text)).fetchone()

    assert row == (text, 1)


def test_template_is_built_once_and_copied(postgres: Cluster) -> None:
    """Migrations are applied once for a worker, not once for a test."""
    built: list[str] = []

    def build(url: str) -> None:
        built.append(url)
        with psycopg.connect(url) as conn:
            conn.execute("create table brought as select 7 as n")

    names = [postgres.create_database(template=postgres.template("built", build)) for _ in range(2)]

    assert [value_of(postgres.url(name), "select n from brought") for name in names] == [7, 7]
    assert len(built) == 1


def test_dropping_a_database_ends_its_connections(postgres: Cluster) -> None:
    """A test that leaves a connection open must not make the next one fail."""
    name = postgres.create_database()
    with psycopg.connect(postgres.url(name)) as left_open:
        postgres.drop_database(name)

        with pytest.raises(psycopg.OperationalError):
            left_open.execute("select 1")


def test_pgbouncer_pools_by_transaction(pgbouncer: PoolerUrl, postgres: Cluster) -> None:
    """Session state is lost there, which is what the product must live with."""
    name = postgres.create_database()
    connections = [psycopg.connect(pgbouncer(name), autocommit=True) for _ in range(20)]
    backends = {conn.execute("select pg_backend_pid()").fetchone() for conn in connections}
    for conn in connections:
        conn.close()
    postgres.drop_database(name)

    assert len(backends) == 1


def test_kill_loses_nothing_that_was_committed(own_cluster: MakeCluster) -> None:
    """Tests of crashes are only as good as the crash."""
    cluster = own_cluster()
    with psycopg.connect(cluster.url(), autocommit=True) as conn:
        conn.execute("create table kept as select 1 as n")
        cluster.kill()
    cluster.start()

    assert value_of(cluster.url(), "select n from kept") == 1
    assert "automatic recovery in progress" in cluster.log()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_stop_refuses_and_restart_takes_the_same_url(own_cluster: MakeCluster, mode: StopMode) -> None:
    """A database that comes back is found where it was."""
    cluster = own_cluster(durable=False)
    cluster.stop(mode)

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(cluster.url())
    cluster.restart(mode)

    assert value_of(cluster.url(), "select 1") == 1


def test_read_only_refuses_writes_until_it_is_lifted(own_cluster: MakeCluster) -> None:
    """A hosted project that is full answers every write with 25006."""
    cluster = own_cluster(durable=False)
    cluster.set_read_only(to=True)

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), psycopg.connect(cluster.url()) as conn:
        conn.execute("create table refused (n int)")
    cluster.set_read_only(to=False)

    with psycopg.connect(cluster.url()) as conn:
        conn.execute("create table taken (n int)")


def test_full_disk_refuses_writes_until_there_is_room(own_cluster: MakeCluster) -> None:
    """Disks fill up, and what was answered before stays."""
    cluster = own_cluster(durable=False, size_mb=160)
    with psycopg.connect(cluster.url(), autocommit=True) as conn:
        conn.execute("create table filled (t text)")
        cluster.fill_disk()

        with pytest.raises(psycopg.OperationalError, match="No space left"):
            conn.execute("insert into filled select repeat('x', 1000) from generate_series(1, 100000)")
    cluster.free_disk()

    with psycopg.connect(cluster.url()) as conn:
        conn.execute("insert into filled values ('y')")
