"""A server of the command's own, for `demo` and `bench`: another process, ended whatever happens."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import msgspec
import psutil
from psycopg.conninfo import make_conninfo

import closedloop
from closedloop.errors import OperatorError
from closedloop.stages import clock

# PostgreSQL gives itself 10 s to start, and a cold disk deserves more than that.
START_S = 30.0
STOP_S = 30.0
LOOK_S = 0.01
PROGRAMS = {"postgres", "initdb", "pg_ctl"}
LOG = "server.log"
GREETING = "server.out"
FLAGS = {"wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND}


class Answer(msgspec.Struct, frozen=True):
    """What an HTTP request was answered."""

    status: int
    body: str


class Postmaster(msgspec.Struct, frozen=True, kw_only=True):
    """Where the embedded PostgreSQL of a folder is, as its own file says."""

    pid: int
    conninfo: str


class OwnServer:
    """One `closedloop serve` with its embedded PostgreSQL in `folder`; see `own_server`.

    Nothing of the caller's environment or working folder reaches it: no DATABASE_URL, no key, no
    closedloop.toml. `started_in` is the time from the start of the process to the first ready answer.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self.started_in = 0.0

    @property
    def pid(self) -> int:
        """The process of the server itself."""
        return 0 if self.process is None else self.process.pid

    @property
    def key(self) -> str:
        """The webhook key that the server made for itself."""
        return (self.folder / "webhook.key").read_text().strip()

    @property
    def postmaster(self) -> Postmaster:
        """The running PostgreSQL. Raises OperatorError when there is none."""
        found = read_postmaster(self.folder)
        if found is None:
            raise OperatorError(f"the embedded PostgreSQL in {self.folder} is not running")
        return found

    def start(self) -> None:
        """Start it and wait until it is ready. Raises OperatorError with the end of its log."""
        before = clock.elapsed()
        command = [sys.executable, "-m", "closedloop", "serve"]
        with private(self.folder / GREETING, "wb") as output, private(self.folder / LOG, "ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - ourselves
                [*dying_with_us(), *command, "--port", str(self.port), "--data-dir", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=bare_environment(),
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        until = before + START_S
        while not self.is_ready():
            if self.process.poll() is not None or clock.elapsed() > until:
                told = (self.folder / LOG).read_text(errors="replace").strip().splitlines()
                raise OperatorError("\n".join(["the server did not start; its log ends with:", *told[-5:]]))
            time.sleep(LOOK_S)
        self.started_in = clock.elapsed() - before

    def is_ready(self) -> bool:
        """Return whether the server has said its address and answers there that it is ready."""
        if not self.address:
            lines = (self.folder / GREETING).read_text().splitlines(keepends=True)
            said = [line for line in lines if line.startswith("Address") and line.endswith("\n")]
            self.address = said[0].split()[1] if said else ""
        if not self.address:
            return False
        with contextlib.suppress(OSError, HTTPException):
            return self.request("GET", "/readyz").status == 200  # noqa: PLR2004 - HTTP
        return False

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Return the answer to one request over a connection of its own; `x_key` is the header `x-key`."""
        connection = self.connection()
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())

    def connection(self) -> HTTPConnection:
        """Return a new connection to the server, not opened yet."""
        place = urlsplit(self.address)
        return HTTPConnection(place.hostname or "", place.port, timeout=10)

    def wait(self) -> None:
        """Return when the server has ended by itself."""
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        """End the server and its PostgreSQL, gently if they can be; a second Ctrl-C does not stop this."""
        if self.process is None:
            return
        with only_once():
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            end_postgres(self.folder)
            self.process = None
            self.address = ""


@contextlib.contextmanager
def own_server(folder: Path, *, port: int = 0) -> Generator[OwnServer]:
    """Give a server that is ready, and end it and its PostgreSQL afterwards, whatever happened."""
    server = OwnServer(folder, port=port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def temporary_folder(name: str) -> Generator[Path]:
    """Give a folder with a short path, since a socket's path has at most 107 bytes, and remove it."""
    with tempfile.TemporaryDirectory(prefix=f"closedloop-{name}-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def ended_by_signals() -> Generator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that it tidies up after itself."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def only_once() -> Generator[None]:
    """Ignore what would interrupt the tidying."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_postmaster(folder: Path) -> Postmaster | None:
    """Return what postmaster.pid of a data folder says, or None when PostgreSQL does not run there.

    Its lines are: process, folder, start, port, folder of the socket, and more.
    """
    try:
        lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
        pid, port, place = int(lines[0]), lines[3], lines[4]
    except (OSError, ValueError, IndexError):
        return None
    return Postmaster(
        pid=pid, conninfo=make_conninfo(host=place, port=port, user="postgres", dbname="postgres")
    )


def end_postgres(folder: Path) -> None:
    """End every process of PostgreSQL that a server left in its folder.

    Asked more than once, since a PostgreSQL that is just starting starts more of them.
    """
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGQUIT):  # its fast shutdown, then its immediate one
        left = postgres_in(folder)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(left, STOP_S)


def postgres_in(folder: Path) -> list[psutil.Process]:
    """Return the programs of PostgreSQL that were started with this data folder, initdb and pg_ctl too."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] in PROGRAMS and str(folder / "postgres") in (process.info["cmdline"] or ())
    ]


def private(path: Path, mode: str) -> IO[bytes]:
    """Return `path` opened so that only we can read it: a server says its key once."""
    return os.fdopen(os.open(path, FLAGS[mode], 0o600), mode)


def bare_environment() -> dict[str, str]:
    """Return the environment of a server and of its programs: what they cannot do without, nothing else."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONPATH": str(Path(closedloop.__file__).parents[1]),
        "PYTHONSAFEPATH": "1",
    }


@functools.cache
def dying_with_us() -> tuple[str, ...]:
    """Return what to put before a command so that it ends even when we are killed; nothing if unknown."""
    prefix = (shutil.which("setpriv") or "", "--pdeathsig", "TERM", "--")
    with contextlib.suppress(OSError):
        tried = subprocess.run([*prefix, "true"], check=False, capture_output=True)  # noqa: S603 - fixed
        return prefix if tried.returncode == 0 else ()
    return ()
