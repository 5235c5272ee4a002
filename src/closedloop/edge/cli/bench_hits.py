"""Measures the collector: hits by wrk, the same upsert by pgbench, and the delay at half of that load."""

import statistics
from collections.abc import Sequence

import msgspec

from closedloop.edge.cli.bench_load import HIT, PgbenchRun, WrkRun, run_hits, run_pgbench
from closedloop.edge.cli.bench_progress import Steps
from closedloop.edge.cli.demo_server import OwnServer
from closedloop.errors import OperatorError

CLIENTS = 128


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of the collector, round by round; `half` are runs at half of the highest rate."""

    http: Sequence[WrkRun]
    sql: Sequence[PgbenchRun]
    half: Sequence[WrkRun]


def measure_hits(server: OwnServer, steps: Steps, load: tuple[int, int, int]) -> Hits:
    """Return the figures; `load` is the number of sessions, seconds and rounds. Raises OperatorError."""
    sessions, seconds, rounds = load
    http: list[WrkRun] = []
    sql: list[PgbenchRun] = []
    for number in range(rounds):
        with steps.step(f"hits, {CLIENTS} connections"):
            http.append(accepted(run_hits(server, f"h{number}", sessions, (CLIENTS, seconds), pause_ms=0)))
        with steps.step(f"pgbench {HIT}, {CLIENTS} clients"):
            sql.append(run_pgbench(server, HIT, sessions, 0, (CLIENTS, seconds)))
    rate = statistics.median(run.rate for run in http)
    pause_ms = round(CLIENTS / (rate / 2) * 1000)
    half: list[WrkRun] = []
    for number in range(rounds):
        with steps.step("hits at half of that load"):
            half.append(
                accepted(run_hits(server, f"q{number}", sessions, (CLIENTS, seconds), pause_ms=pause_ms))
            )
    return Hits(http=http, sql=sql, half=half)


def accepted(run: WrkRun) -> WrkRun:
    """Return a run that was taken. Raises OperatorError for one with other answers."""
    if run.refused or not run.accepted:
        raise OperatorError(f"{run.refused} of {run.requests} hits were refused; the server's log says why")
    return run
