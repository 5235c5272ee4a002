"""`closedloop bench`: what a conversion costs over HTTP, beside the same work as plain SQL."""

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec
from rich.console import Console

from closedloop.edge.cli.bench_load import find_wrk
from closedloop.edge.cli.bench_progress import Steps
from closedloop.edge.cli.bench_run import CONNECTIONS, Bench, Plan, Report
from closedloop.edge.cli.bench_table import markdown, write_into
from closedloop.edge.cli.demo_server import ended_by_signals, own_server, temporary_folder
from closedloop.errors import ClosedloopError

QUICK = Plan(sessions=3000, seconds=1, rounds=1, starts=1, waiting=1000, search_s=2.0, late=1)
SCRIPTS = 3  # wrk and two of pgbench
OTHER_STEPS = 9


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench` is asked for."""

    plan: Plan
    write: Path | None = None
    as_json: bool = False


def chosen_plan(*, sessions: int, seconds: int, quick: bool, big: bool) -> Plan:
    """Return how much to measure; `quick` wins over the numbers, `big` adds ten times the sessions."""
    plan = QUICK if quick else Plan(sessions=sessions, seconds=seconds)
    return msgspec.structs.replace(plan, big_sessions=plan.sessions * 10 if big else 0)


def run(wanted: Wanted) -> int:
    """Measure and print; the exit code is 1 when an acknowledged conversion is not in the ledger.

    A goal that is missed is shown and is no failure: it says something about the machine, too.
    Raises OperatorError when a program is missing or fails.
    """
    find_wrk()
    try:
        report = measure(wanted.plan)
    except KeyboardInterrupt:
        sys.stderr.write("\nclosedloop: interrupted; the server of the benchmark is ended\n")
        return 1
    text = markdown(report)
    if wanted.write is not None:
        write_into(wanted.write, text)
    if wanted.as_json:
        text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
    sys.stdout.write(text)
    return 1 if report.missing else 0


def measure(plan: Plan) -> Report:
    """Return the report of a server of its own, in a temporary folder that is removed."""
    console = Console(stderr=True)
    steps = Steps(console, count_steps(plan))
    with (
        ended_by_signals(),
        temporary_folder("bench") as folder,
        own_server(folder) as server,
        steps.progress,
        said_with_log(folder),
    ):
        return Bench(server, plan, steps).measure()


@contextlib.contextmanager
def said_with_log(folder: Path) -> Generator[None]:
    """Add the end of the server's log to an error: the folder is gone when a person reads it."""
    try:
        yield
    except ClosedloopError as error:
        lines = (folder / "server.log").read_text(errors="replace").splitlines()[-3:]
        error.args = ("\n".join([str(error), *lines]),)
        raise


def count_steps(plan: Plan) -> int:
    """Return how many steps the progress bar has."""
    loads = plan.rounds * (len(CONNECTIONS) * SCRIPTS + (4 if plan.big_sessions else 0))
    return loads + plan.rounds * 3 + plan.starts + plan.late + OTHER_STEPS
