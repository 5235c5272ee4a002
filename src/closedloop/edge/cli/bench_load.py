"""Starts the programs that make load, wrk and pgbench, and reads what they print."""

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import msgspec
import psutil
import psycopg

import closedloop
from closedloop.edge.cli.demo_server import OwnServer, bare_environment
from closedloop.errors import OperatorError
from closedloop.store.sessions import fill, read_session_table_now

UNPACKED = Path(closedloop.__file__).parents[2] / ".tools" / "root"
CONVERSION = "conversion.sql"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
INSERT = "insert.sql"
HIT = "hit.sql"


class WrkRun(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk prints, by the last lines of its scripts; `refused` are answers of 400 and above."""

    requests: int
    refused: int
    broken: int
    duration_us: int
    p50_us: int
    p99_us: int

    @property
    def accepted(self) -> int:
        """How many requests were answered 200."""
        return self.requests - self.refused

    @property
    def rate(self) -> float:
        """Answers of 200 in a second."""
        return self.accepted / (self.duration_us / 1e6)


class PgbenchRun(msgspec.Struct, frozen=True, kw_only=True):
    """What pgbench prints; without the time that connecting took."""

    transactions: int
    rate: float
    latency_ms: float


def find_wrk(*paths: str | None) -> Path:
    """Return wrk's file: from these search paths, else that of the machine or what scripts/tools unpacked.

    Raises OperatorError.
    """
    places = paths or (None, str(UNPACKED / "usr" / "bin"))
    found = next(filter(None, (shutil.which("wrk", path=place) for place in places)), None)
    if found is None:
        raise OperatorError(
            "the load over HTTP is made by wrk, which is not here; on Debian: apt-get install wrk"
        )
    return Path(found)


def run_wrk(server: OwnServer, wrk: Path, run: str, sessions: int, load: tuple[int, int]) -> WrkRun:
    """Return what `load`, connections and seconds, brought; `run` is in every deal's id."""
    labels = [
        f"X-Webhook-Key: {server.key}",
        "Content-Type: application/json",
        "User-Agent: closedloop-bench",
    ]
    arguments = [run, str(sessions), str(sum(run.encode()))]
    return by_wrk(wrk, "conversion.lua", server.address, load, (labels, arguments))


def run_hits(server: OwnServer, run: str, sessions: int, load: tuple[int, int], *, pause_ms: int) -> WrkRun:
    """Return what `load` brought at /collect, each connection pausing before every hit."""
    labels = ["Content-Type: text/plain;charset=UTF-8", f"User-Agent: {BROWSER}"]
    arguments = [run, str(sessions), str(sum(run.encode())), str(pause_ms)]
    return by_wrk(find_wrk(), "hit.lua", server.address, load, (labels, arguments))


def by_wrk(
    wrk: Path, name: str, address: str, load: tuple[int, int], told: tuple[list[str], list[str]]
) -> WrkRun:
    """Run wrk with a script of this package; `told` are headers and the script's arguments."""
    (connections, seconds), (labels, arguments) = load, told
    script = resources.files("closedloop.edge.cli") / "bench" / name
    with resources.as_file(script) as file:
        printed = output_of(
            [
                *(str(wrk), "--threads", "1", "--connections", str(connections)),
                *("--duration", f"{seconds}s", "--timeout", "10s", "--script", str(file)),
                *(part for label in labels for part in ("--header", label)),
                *(address, "--", *arguments),
            ],
            environment=bare_environment() | libraries(wrk),
        )
    return msgspec.json.decode(printed.strip().splitlines()[-1], type=WrkRun)


def run_pgbench(server: OwnServer, name: str, sessions: int, body: int, load: tuple[int, int]) -> PgbenchRun:
    """Return what `load`, clients and seconds, brought with a script of this package.

    `body` is the size of a webhook's sealed body in bytes.
    """
    clients, seconds = load
    postmaster = server.postmaster
    script = server.folder / name
    text = (resources.files("closedloop.edge.cli") / "bench" / name).read_text()
    with psycopg.connect(postmaster.conninfo, autocommit=True) as conn:
        script.write_bytes(fill(text, read_session_table_now(conn), body="a7" * body))
    told = ""
    # A busy machine may need a second for the connections alone: then the time was too short.
    for length in (seconds, seconds * 10):
        told = output_of(
            [
                *(str(program(server, "pgbench")), "--no-vacuum", "--protocol", "prepared"),
                *("--client", str(clients), "--jobs", "1", "--time", str(length)),
                *("--file", str(script), "--define", f"sessions={sessions}", postmaster.conninfo),
            ],
            environment=bare_environment(),
        )
        if not re.search(r"actually processed: 0\b", told):
            break
    return read_pgbench(told)


def read_pgbench(told: str) -> PgbenchRun:
    """Return the figures in pgbench's report. Raises OperatorError when a transaction failed."""
    transactions = re.search(r"actually processed: (\d+)", told)
    latency = re.search(r"latency average = ([\d.]+) ms", told)
    rate = re.search(r"tps = ([\d.]+)", told)
    failed = re.search(r"failed transactions: (\d+)", told)
    if not (transactions and latency and rate) or (failed and int(failed[1])):
        raise OperatorError(f"pgbench did not do its work: {told}")
    return PgbenchRun(transactions=int(transactions[1]), rate=float(rate[1]), latency_ms=float(latency[1]))


def program(server: OwnServer, name: str) -> Path:
    """Return a program that stands beside the running PostgreSQL, of the same version."""
    return Path(psutil.Process(server.postmaster.pid).exe()).with_name(name)


def fsync_us(server: OwnServer) -> float:
    """Return how long one fdatasync of 8 kB takes on the disk of the server, in microseconds.

    pg_test_fsync tries every method, a second each; it is ended when it has told of this one.
    """
    command = [str(program(server, "pg_test_fsync")), "--secs-per-test", "1"]
    with subprocess.Popen(  # noqa: S603 - of the wheel
        [*command, "--filename", str(server.folder / "fsync")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=bare_environment(),
    ) as process:
        try:
            for line in process.stdout or ():
                found = re.search(r"^\s+fdatasync\s.*?(\d+) usecs/op", line)
                if found:
                    return float(found[1])
        finally:
            process.terminate()
    raise OperatorError("pg_test_fsync says nothing about fdatasync")


def output_of(command: list[str], *, environment: dict[str, str]) -> str:
    """Return what a command prints. Raises OperatorError with it when the command fails."""
    done = subprocess.run(  # noqa: S603 - wrk and pgbench
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OperatorError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def libraries(program: Path) -> dict[str, str]:
    """Return where an unpacked program finds its libraries; nothing for one of the system."""
    if not program.is_relative_to(UNPACKED):
        return {}
    return {"LD_LIBRARY_PATH": ":".join(map(str, (UNPACKED / "usr" / "lib").glob("*-linux-gnu")))}
