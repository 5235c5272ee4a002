"""The embedded PostgreSQL is there while anybody uses it, mends itself, and opens nothing to others."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fix_tools import is_alive, wait_until

# In a process of its own, as every user of the server is: prints the address, leaves at the end of input.
HOLD = """
import sys
from pathlib import Path
from closedloop.store.embedded import Embedded
with Embedded(Path(sys.argv[1])) as embedded:
    print(embedded.url, flush=True)
    sys.stdin.read()
"""


class Holder:
    """One process that uses the embedded server of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "postgres"
        program = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-c", HOLD, str(data_dir)]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    @property
    def sockets(self) -> Path:
        """The folder of the server's socket."""
        return Path(str(conninfo_to_dict(self.url)["host"]))

    @property
    def postmaster(self) -> int:
        """The number of the server's main process; 0 while there is none."""
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            return int((self.folder / "postmaster.pid").read_text().splitlines()[0])
        return 0

    def answers(self) -> bool:
        """Return whether the server takes connections."""
        try:
            with psycopg.connect(self.url, connect_timeout=2) as conn:
                return conn.execute("select 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def leave(self) -> int:
        """Let it leave, and return its exit code."""
        self.process.communicate()
        return self.process.returncode

    def close(self) -> None:
        """End it and the server, whatever the test did."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait()
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.postmaster)
            if str(self.folder) in " ".join(server.cmdline()):
                server.kill()


Hold = Callable[[Path], Holder]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Give users of embedded servers; each ends with the test."""
    with contextlib.ExitStack() as cleanup:

        def start(data_dir: Path) -> Holder:
            holder = Holder(data_dir)
            cleanup.callback(holder.close)
            return holder

        yield start


@pytest.fixture(scope="session")
def initialized(scratch: Path) -> Path:
    """Give a data folder whose server was started and stopped once; to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir=scratch))
    holder = Holder(folder)
    assert holder.answers()
    assert holder.leave() == 0
    return folder


@pytest.fixture
def data_dir(initialized: Path, scratch: Path) -> Path:
    """Give a data folder of the test's own, with a server that need not be made first."""
    return copied(initialized, Path(tempfile.mkdtemp(prefix="embedded-", dir=scratch)) / "data")


def copied(initialized: Path, folder: Path) -> Path:
    """Return a copy, its owners kept; the folders above it are made with the mode 755."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o755)
    subprocess.run(["cp", "-a", initialized, folder], check=True)
    return folder


def mode(path: Path) -> int:
    """Return a path's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_second_start_joins_and_the_first_may_leave(data_dir: Path, hold: Hold) -> None:
    """`closedloop doctor` beside a running `serve` must neither fail nor take its database away."""
    first = hold(data_dir)
    second = hold(data_dir)
    server = psutil.Process(first.postmaster)

    assert second.url == first.url
    assert first.leave() == 0
    assert second.answers()
    assert second.postmaster == server.pid
    assert second.leave() == 0
    assert not is_alive(server)


def test_killed_user_does_not_keep_the_server_for_ever(data_dir: Path, hold: Hold) -> None:
    """After a kill -9 and a clean run nothing may be left in memory."""
    killed = hold(data_dir)
    killed.process.kill()
    killed.process.wait()
    next_one = hold(data_dir)
    server = psutil.Process(next_one.postmaster)

    assert next_one.answers()
    assert next_one.leave() == 0
    assert not is_alive(server)


def test_killed_server_is_started_again(data_dir: Path, hold: Hold) -> None:
    """The kernel kills the largest process when memory is short; nobody sits there at night to start it."""
    holder = hold(data_dir)
    fallen = psutil.Process(holder.postmaster)
    family = [fallen, *fallen.children(recursive=True)]
    for process in family:
        process.kill()
    wait_until(lambda: not any(map(is_alive, family)), what="the end of PostgreSQL")

    wait_until(holder.answers, what="PostgreSQL is started again")

    assert holder.postmaster != fallen.pid
    assert holder.leave() == 0


@pytest.fixture(params=["python", "postgres"])
def stranger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Give the number of a living program of this name that is not the server of the data folder."""
    program = tmp_path / request.param
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "600"])
    yield process.pid
    process.kill()
    process.wait()


def test_stale_lock_with_a_living_number_does_not_confuse(data_dir: Path, hold: Hold, stranger: int) -> None:
    """After a reboot the number of the old server belongs to any program, another PostgreSQL among them."""
    folder = data_dir / "postgres"
    lines = [stranger, folder, 1700000000, 5432, folder, "", "  1  2", "ready   "]
    (folder / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))

    holder = hold(data_dir)

    assert holder.answers()
    assert holder.leave() == 0
    assert is_alive(psutil.Process(stranger))


def test_long_path_has_a_private_socket_that_goes_at_the_end(
    initialized: Path, scratch: Path, hold: Hold
) -> None:
    """The server asks its local clients for no password: the folder is the lock."""
    holder = hold(copied(initialized, Path(tempfile.mkdtemp(dir=scratch)) / ("d" * 100) / "data"))
    private = holder.sockets.parent

    assert holder.answers()
    assert private.name.startswith("closedloop-")
    assert mode(private) == 0o700
    assert holder.leave() == 0
    assert not private.exists()


def test_second_user_of_a_long_path_leaves_the_socket(initialized: Path, scratch: Path, hold: Hold) -> None:
    """Who joins must find the first one's socket, and leave it and nothing else behind."""
    data_dir = copied(initialized, Path(tempfile.mkdtemp(dir=scratch)) / ("d" * 100) / "data")
    first, second = hold(data_dir), hold(data_dir)

    assert second.url == first.url
    assert second.leave() == 0
    assert first.answers()
    assert first.leave() == 0
    assert not first.sockets.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root does the wheel change the folders above its own")
def test_folders_above_stay_closed_to_readers(initialized: Path, scratch: Path, hold: Hold) -> None:
    """Somebody's home folder must not become readable for all because a server runs below it."""
    parent = Path(tempfile.mkdtemp(dir=scratch)) / "home"
    data_dir = copied(initialized, parent / "data")
    parent.chmod(0o700)

    holder = hold(data_dir)

    assert holder.answers()
    assert mode(parent) == 0o711
    assert holder.leave() == 0


def test_data_stays_over_a_restart(data_dir: Path, hold: Hold) -> None:
    """The ledger is in there."""
    first = hold(data_dir)
    with psycopg.connect(first.url) as conn:
        conn.execute("create table kept as select 1 as one")
    first.leave()

    with psycopg.connect(hold(data_dir).url) as conn:
        assert conn.execute("select one from kept").fetchone() == (1,)


def test_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    """The person who reads it has to know where the server's own log is."""
    (tmp_path / "postgres").write_text("a file, not a folder")

    ended = subprocess.run(
        [sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "closedloop.errors.OperatorError: the embedded PostgreSQL in" in ended.stderr
