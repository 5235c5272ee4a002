"""The measurements of `closedloop bench`, one after the other on one server; see bench.py."""

import statistics
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import Connection

from closedloop.edge.cli import bench_data as data
from closedloop.edge.cli.bench_hits import Hits, measure_hits
from closedloop.edge.cli.bench_load import (
    CONVERSION,
    INSERT,
    PgbenchRun,
    WrkRun,
    find_wrk,
    fsync_us,
    run_pgbench,
    run_wrk,
)
from closedloop.edge.cli.bench_process import Machine, Memory, cpu_of, highest_memory, machine, memory_of
from closedloop.edge.cli.bench_progress import Steps
from closedloop.edge.cli.demo_server import OwnServer
from closedloop.errors import OperatorError
from closedloop.stages import clock
from closedloop.store.database import translated

CONNECTIONS = (1, 32, 128)
TRICKLE_S = 0.05
LOOK_S = 0.02
REST_S = 2.0
LATE_S = 30.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured; `big_sessions` 0 leaves the large table out."""

    sessions: int = 1_000_000
    big_sessions: int = 0
    seconds: int = 8
    rounds: int = 3
    starts: int = 3
    waiting: int = 100_000
    search_s: float = 20.0
    late: int = 5


class HttpRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of wrk: what it saw, what the ledger holds, and what it cost."""

    sessions: int
    connections: int
    wrk: WrkRun
    recorded: int
    server_us: float  # processor time for one conversion
    postgres_us: float

    @property
    def missing(self) -> int:
        """Acknowledged conversions that the ledger lacks; those in flight at the end may be more there."""
        return max(0, self.wrk.accepted - self.recorded)


class SqlRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of pgbench and what it cost."""

    script: str
    clients: int
    pgbench: PgbenchRun
    postgres_us: float


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What the search for late sessions costs: shares of one core, with and without waiting conversions."""

    waiting: int
    share: float
    share_idle: float
    server_share: float
    matched_s: Sequence[float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured in one run; `--json` prints it."""

    at: datetime
    plan: Plan
    machine: Machine
    fsync_us: Sequence[float]  # before and after
    start_s: Sequence[float]
    idle: Memory
    loaded: Memory
    http: Sequence[HttpRun]
    sql: Sequence[SqlRun]
    big: Sequence[HttpRun]
    big_sql: Sequence[SqlRun]  # one small row beside it: whether the machine itself became slower
    search: Search
    hits: Hits

    @property
    def missing(self) -> int:
        """Acknowledged conversions that are not in the ledger, of all runs."""
        return sum(run.missing for run in (*self.http, *self.big))


class Bench:
    """Measures one server; the order is that of `measure`."""

    def __init__(self, server: OwnServer, plan: Plan, steps: Steps) -> None:
        self.server = server
        self.plan = plan
        self.steps = steps
        self.wrk: Path = find_wrk()
        self.http: list[HttpRun] = []
        self.big: list[HttpRun] = []
        self.sql: list[SqlRun] = []
        self.big_sql: list[SqlRun] = []
        self.loaded: list[Memory] = []

    def measure(self) -> Report:
        """Return the report. Raises OperatorError when a program is missing or fails."""
        with self.connected() as conn:
            data.set_up(conn)
            self.fill(conn, range(1, self.plan.sessions + 1))
        start_s = self.restarts()
        idle = self.idle()
        fsync = [self.fsync()]
        # First, while the ledger is empty: what else looks over it in the background would be in the figure.
        search = self.search()
        for number in range(1, self.plan.rounds + 1):
            for connections in CONNECTIONS:
                self.measure_round(number, connections)
        hits = measure_hits(
            self.server, self.steps, (self.plan.sessions, self.plan.seconds, self.plan.rounds)
        )
        if self.plan.big_sessions:
            self.measure_big()
        with self.connected() as conn:
            facts = data.database_facts(conn)
        return Report(
            at=clock.now(),
            plan=self.plan,
            machine=machine(facts),
            fsync_us=[*fsync, self.fsync()],
            start_s=start_s,
            idle=idle,
            loaded=max(self.loaded, key=lambda one: one.rss),
            http=self.http,
            sql=self.sql,
            big=self.big,
            big_sql=self.big_sql,
            search=search,
            hits=hits,
        )

    @contextmanager
    def connected(self) -> Generator[Connection[Any]]:
        """Give a connection to the server's database. Raises an error of ours for every one of the driver."""
        with translated(), psycopg.connect(self.server.postmaster.conninfo, autocommit=True) as conn:
            yield conn

    def fill(self, conn: Connection[Any], numbers: range) -> None:
        """Insert sessions."""
        with self.steps.counted(f"{numbers.stop - 1:,} sessions", len(numbers)) as advance:
            data.add_sessions(conn, numbers, clock.now(), advance)

    def restarts(self) -> list[float]:
        """Return how long starts over the filled folder took until the first ready answer, in seconds."""
        took: list[float] = []
        for _ in range(self.plan.starts):
            with self.steps.step("warm start"):
                self.server.stop()
                self.server.start()
                took.append(self.server.started_in)
        return took

    def idle(self) -> Memory:
        """Return the memory of a server that has just started and does nothing."""
        with self.steps.step("memory at rest"):
            time.sleep(REST_S)
            return memory_of(self.server)

    def fsync(self) -> float:
        """Return the disk's fdatasync in microseconds."""
        with self.steps.step("the disk's fdatasync"):
            return fsync_us(self.server)

    def measure_round(self, number: int, connections: int) -> None:
        """Measure HTTP and both scripts of pgbench at one number of connections, in turn."""
        self.http.append(self.over_http(f"r{number}c{connections}", self.plan.sessions, connections))
        self.sql.append(self.by_pgbench(CONVERSION, connections))
        self.sql.append(self.by_pgbench(INSERT, connections))

    def over_http(self, run: str, sessions: int, connections: int) -> HttpRun:
        """Run wrk once, and count in the ledger what it was acknowledged."""
        with self.steps.step(f"HTTP, {connections} connections"), highest_memory(self.server) as memory:
            before = cpu_of(self.server)
            seen = run_wrk(self.server, self.wrk, run, sessions, (connections, self.plan.seconds))
            spent = cpu_of(self.server).since(before)
        self.loaded += memory
        if not seen.accepted:
            raise OperatorError("no webhook of the benchmark was accepted; the server's log says why")
        with self.connected() as conn:
            recorded = data.count_recorded(conn, run)
        return HttpRun(
            sessions=sessions,
            connections=connections,
            wrk=seen,
            recorded=recorded,
            server_us=spent.server / seen.accepted * 1e6,
            postgres_us=spent.postgres / seen.accepted * 1e6,
        )

    def by_pgbench(self, script: str, clients: int) -> SqlRun:
        """Run pgbench once."""
        with self.connected() as conn:
            body = data.body_size(conn)
        with self.steps.step(f"pgbench {script}, {clients} clients"):
            before = cpu_of(self.server)
            load = (clients, self.plan.seconds)
            seen = run_pgbench(self.server, script, self.plan.sessions, body, load)
            spent = cpu_of(self.server).since(before)
        return SqlRun(
            script=script,
            clients=clients,
            pgbench=seen,
            postgres_us=spent.postgres / max(1, seen.transactions) * 1e6,
        )

    def search(self) -> Search:
        """Return what the search for late sessions costs, against a control without waiting conversions."""
        with self.connected() as conn:
            with self.steps.step("checkpoint"):
                data.settle(conn)
            control = self.share_of_core(conn, "control: nobody waits")
            with self.steps.step(f"{self.plan.waiting:,} unmatched conversions"):
                data.add_waiting(conn, self.plan.waiting, clock.now())
            share = self.share_of_core(conn, "search for late sessions")
            matched = [self.time_to_match(conn, number) for number in range(1, self.plan.late + 1)]
            with self.steps.step("tidying up"):
                data.remove_waiting(conn)
        return Search(
            waiting=self.plan.waiting,
            share=share[0] - control[0],
            share_idle=control[0],
            server_share=max(share[1] - control[1], 0.0),
            matched_s=matched,
        )

    def share_of_core(self, conn: Connection[Any], name: str) -> tuple[float, float]:
        """Return the share of a core that server and PostgreSQL take, and the server's part of it."""
        over = threading.Event()
        with self.steps.step(name):
            writer = threading.Thread(target=write_until, args=(conn, over))
            writer.start()
            try:
                started, before = clock.elapsed(), cpu_of(self.server)
                time.sleep(self.plan.search_s)
                took, spent = clock.elapsed() - started, cpu_of(self.server).since(before)
            finally:
                over.set()
                writer.join()
        return spent.both / took, spent.server / took

    def time_to_match(self, conn: Connection[Any], number: int) -> float:
        """Return after how many seconds a session that came late was matched. Raises OperatorError."""
        with self.steps.step("a late session"):
            data.insert_late(conn, number, clock.now())
            started = clock.elapsed()
            while not data.is_matched(conn, number):
                if clock.elapsed() - started > LATE_S:
                    raise OperatorError(f"a late session was not matched within {LATE_S:.0f} s")
                time.sleep(LOOK_S)
            return clock.elapsed() - started

    def measure_big(self) -> None:
        """Grow the table and measure HTTP again."""
        with self.connected() as conn:
            self.fill(conn, range(self.plan.sessions + 1, self.plan.big_sessions + 1))
        for number in range(1, self.plan.rounds + 1):
            for connections in (CONNECTIONS[0], CONNECTIONS[-1]):
                run = f"b{number}c{connections}"
                self.big.append(self.over_http(run, self.plan.big_sessions, connections))
                self.big_sql.append(self.by_pgbench(INSERT, connections))


def write_until(conn: Connection[Any], over: threading.Event) -> None:
    """Write twenty rows in a second, so that the search cannot say that nothing has happened."""
    while not over.wait(TRICKLE_S):
        data.trickle(conn)


def median(values: Sequence[float]) -> float:
    """Return the median; 0 of nothing."""
    return statistics.median(values) if values else 0.0
