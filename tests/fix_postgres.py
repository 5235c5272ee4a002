"""Real PostgreSQL servers of several versions and databases in them; knows no table of the product."""

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

import psycopg
import pytest
from psycopg import sql

from fix_tools import (
    ToolError,
    environment_of,
    find_postgres,
    free_port,
    hand_over,
    kill_family,
    reachable,
    start,
    unprivileged,
    wait_until,
)

VERSIONS = (15, 16, 18)
NEWEST = 18

StopMode = Literal["smart", "fast", "immediate"]
_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_STOP_WAIT_S = 60.0


class Cluster:
    """One PostgreSQL server of the tests: 127.0.0.1 on a port of its own, and a socket in `folder`.

    Superuser `postgres`, no password. `programs` is the folder of postgres and initdb.
    """

    def __init__(self, version: int, programs: Path, folder: Path, settings: Mapping[str, str]) -> None:
        self.version = version
        self.folder = folder
        self.port = free_port()
        self.settings = settings
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._templates: set[str] = set()

    def make(self) -> None:
        """Create the data folder; once, before the first start."""
        hand_over(self.folder)
        initdb = self._programs / "initdb"
        options = ("--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8")
        made = subprocess.run(
            unprivileged(str(initdb), *options, str(self._data)),
            env=environment_of(initdb),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise ToolError(f"initdb {self.version}: {made.stderr[-1000:]}")

    def start(self) -> None:
        """Start the server and return when it takes connections; it keeps its port for life."""
        assert self._process is None, "it is running"
        address = {"listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder, "port": self.port}
        options = [f"--{name}={value}" for name, value in {**address, **self.settings}.items()]
        postgres = self._programs / "postgres"
        self._process = start(postgres, "-D", str(self._data), *options, log=self.folder / "log")
        wait_until(self._is_ready, what=f"PostgreSQL {self.version} takes connections")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: "smart" waits for clients, "fast" rolls them back, "immediate" only drops all.

        After "immediate" the next start recovers. Nothing happens when it is not running.
        """
        if self._process is None:
            return
        self._process.send_signal(_SIGNALS[mode])
        self._process.wait(_STOP_WAIT_S)
        self._process = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """End every process of the server at once with SIGKILL; nothing happens when it is not running."""
        if self._process is None:
            return
        kill_family(self._process)
        self._process = None

    @property
    def pid(self) -> int | None:
        """The server's main process; None when it is stopped."""
        return None if self._process is None else self._process.pid

    def log(self) -> str:
        """Return what the server wrote since it was made."""
        return (self.folder / "log").read_text()

    def url(self, database: str = "postgres", *, by_socket: bool = False) -> str:
        """Return the URL of a database, over TCP unless asked for the socket; it need not exist."""
        if by_socket:
            return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: sql.SQL | sql.Composed) -> None:
        """Run statements one by one as the superuser in the database `postgres`, outside of transactions."""
        with psycopg.connect(self.url(by_socket=True), autocommit=True) as conn:
            # Else a server that was made read-only could not be made writable again.
            conn.execute("set default_transaction_read_only = off")
            for statement in statements:
                conn.execute(statement)

    def create_database(self, *, template: str = "template1") -> str:
        """Create a database as a copy of `template` and return its name, a new one every time."""
        name = f"t_{secrets.token_hex(6)}"
        create = sql.SQL("create database {} template {}")
        self.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end the connections still open to it; one that is not there is no error."""
        self.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def template(self, name: str, build: Callable[[str], None]) -> str:
        """Return `name`, a database to copy from: made the first time, then filled by `build(url)`.

        `build` must close its connections: a database with open ones cannot be copied.
        """
        if name not in self._templates:
            self.drop_database(name)
            self.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            build(self.url(name))
            self._templates.add(name)
        return name

    def set_read_only(self, *, to: bool) -> None:
        """Refuse, or no longer refuse, writes with 25006 in every transaction of new and open connections."""
        alter = sql.SQL("alter system set default_transaction_read_only = {}").format(sql.Literal(to))
        self.execute(alter, sql.SQL("select pg_reload_conf()"))

    def fill_disk(self) -> None:
        """Take all the space that a cluster of limited size has left."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(b"\0" * 65536):
                pass

    def free_disk(self) -> None:
        """Give back what `fill_disk` took."""
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            self._process = None
            raise ToolError(f"PostgreSQL {self.version} did not start: {self.log()[-1000:]}")
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The file of a killed server stays, hence its number; the eighth line is what pg_ctl waits for.
        return lines[:1] == [str(self._process.pid)] and [line.strip() for line in lines[7:]] == ["ready"]


class MakeCluster(Protocol):
    """What `own_cluster` gives: a running cluster of the test's own, as `own_cluster(size_mb=128)`."""

    def __call__(
        self,
        version: int = NEWEST,
        *,
        durable: bool = True,
        size_mb: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Cluster:
        """Return it, running. `size_mb` puts it on a small disk; without the right to mount: a skip."""
        ...


def new_cluster(scratch: Path, version: int, settings: Mapping[str, str]) -> Cluster:
    """Return a cluster with an empty folder, not yet made."""
    programs = reachable(find_postgres(version), scratch)
    folder = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=scratch))
    return Cluster(version, programs, folder, settings)


# Each worker of a small machine has up to three servers.
_SMALL = {"max_connections": "200", "shared_buffers": "32MB", "timezone": "UTC", "jit": "off"}
_FAST = {**_SMALL, "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@pytest.fixture(scope="session")
def clusters(scratch: Path) -> Iterator[Callable[[int], Cluster]]:
    """Give the worker's shared server of a version, started when first asked for; not durable."""
    started: dict[int, Cluster] = {}

    def get(version: int) -> Cluster:
        if version not in started:
            cluster = started[version] = new_cluster(scratch, version, _FAST)
            cluster.make()
            cluster.start()
        return started[version]

    yield get
    for cluster in started.values():
        cluster.stop("immediate")


@pytest.fixture(scope="session")
def postgres(clusters: Callable[[int], Cluster]) -> Cluster:
    """Give the worker's shared server of the newest version."""
    return clusters(NEWEST)


@pytest.fixture(params=VERSIONS)
def any_postgres(request: pytest.FixtureRequest, clusters: Callable[[int], Cluster]) -> Cluster:
    """Give the worker's shared server, once for each version that the product promises."""
    version: int = request.param
    return clusters(version)


@pytest.fixture
def database(postgres: Cluster, database_template: str) -> Iterator[str]:
    """Give the URL of a new database of this test, dropped after it; see fix_ledger for the template."""
    name = postgres.create_database(template=database_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def own_cluster(scratch: Path) -> Iterator[MakeCluster]:
    """Give servers of the test's own, to be stopped, killed, filled; ended whatever the test did."""
    with contextlib.ExitStack() as cleanup:

        def make(
            version: int = NEWEST,
            *,
            durable: bool = True,
            size_mb: int | None = None,
            settings: Mapping[str, str] | None = None,
        ) -> Cluster:
            cluster = new_cluster(scratch, version, {**(_SMALL if durable else _FAST), **(settings or {})})
            if size_mb is not None:
                cleanup.enter_context(small_disk(cluster.folder, size_mb))
            cleanup.callback(cluster.kill)
            cluster.make()
            cluster.start()
            return cluster

        yield make


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Generator[None]:
    """Mount a disk of `size_mb` on `folder`; skips the test, with the reason, where that is not allowed."""
    reason = "a disk of limited size takes a mount, and "
    if os.geteuid() != 0:
        pytest.skip(reason + "only root may mount")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(reason + mounted.stderr.strip())
    yield
    subprocess.run(["umount", "--lazy", folder], check=True)
