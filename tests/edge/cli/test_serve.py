"""`closedloop serve` starts with one command, says what it needs in one sentence, ends when asked."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from fix_server import MakeServer
from fix_tools import free_port, is_alive, wait_until

STOP_S = 30


class Run:
    """One `closedloop` with any arguments, in a folder of its own."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.folder = folder
        with (folder / "printed").open("wb") as printed, (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "closedloop", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=log,
                env={"PATH": os.pathsep.join(os.get_exec_path()), "LANG": "C.UTF-8", **environment},
                cwd=folder,
            )

    def printed(self) -> str:
        """Return its standard output."""
        return (self.folder / "printed").read_text()

    def log(self) -> str:
        """Return its standard error."""
        return (self.folder / "log").read_text()

    def greeted(self) -> str:
        """Return its standard output once the greeting is there."""
        wait_until(
            lambda: "Try it:" in self.printed() or self.process.poll() is not None, what="the greeting"
        )
        return self.printed()

    def ask_to_end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(STOP_S)


Start = Callable[..., Run]


@pytest.fixture
def run(database: str, tmp_path: Path) -> Iterator[Start]:
    """Start commands on the test's database; each is ended whatever the test did."""
    with contextlib.ExitStack() as cleanup:

        def start(*arguments: str, **environment: str) -> Run:
            one = Run(tmp_path, arguments, {"DATABASE_URL": database, **environment})
            cleanup.callback(one.process.wait)
            cleanup.callback(one.process.kill)
            return one

        yield start


def address_in(greeting: str) -> str:
    """Return the address that the greeting shows."""
    [line] = [line for line in greeting.splitlines() if line.startswith("Address")]
    return line.split()[1]


def family_of(pid: int | None) -> list[psutil.Process]:
    """Return the further web processes that this one started."""
    assert pid is not None
    children = psutil.Process(pid).children()
    return [one for one in children if "--joins" in one.cmdline() and is_alive(one)]


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_port_in_use_is_one_sentence(run: Start) -> None:
    """The commonest mistake of a first start: a second one must not share the port unnoticed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        ended = run("serve", "--port", str(port))

        assert ended.process.wait(STOP_S) == 1
    [line] = ended.log().splitlines()
    assert line.startswith(f"closedloop: port {port} on 127.0.0.1 cannot be used: ")
    assert line.endswith("; choose another with --port")
    assert ended.printed() == ""


def test_port_zero_takes_a_free_one_and_says_which(run: Start) -> None:
    """Scripts start several at once; each must be told where its own is."""
    running = run("serve", "--port", "0")
    address = address_in(running.greeted())

    wait_until(lambda: answers(address), what="an answer on the port that was shown")

    assert not address.endswith(":0")


def answers(address: str) -> bool:
    """Return whether somebody answers there."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
    return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_cleanly(run: Start, how: signal.Signals) -> None:
    """A service manager takes any other code for a failure and starts it again."""
    running = run("serve", "--port", "0")
    address = address_in(running.greeted())
    assert answers(address)

    assert running.ask_to_end(how) == 0
    assert json.loads(running.log().splitlines()[-1])["event"] == "stopped"
    assert is_free(int(address.rpartition(":")[2]))


def test_asked_to_end_during_the_first_start_it_leaves_no_server(scratch: Path) -> None:
    """A deployment that is taken back at once must not leave a PostgreSQL that nobody looks after."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    folder.chmod(0o755)
    data = folder / "data"
    starting = Run(folder, ("serve", "--port", str(free_port()), "--data-dir", str(data)), {})
    wait_until((data / "postgres").exists, what="the beginning of the new database")

    assert starting.ask_to_end() == 0
    assert servers_in(data) == []


def servers_in(data: Path) -> list[int]:
    """Return the processes that work in a data folder."""
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(data):
                found.append(process.pid)
    return found


def test_every_line_of_the_log_is_json_without_a_terminal(server: MakeServer) -> None:
    """One line that is not stops the collector of logs, mostly on the day when they are needed."""
    one = server(arguments=("--workers", "2"))
    one.post({"session_id": "nobody", "deal_id": "d-1"})
    one.post(b"{")
    one.terminate()

    lines = [json.loads(line) for line in one.log().splitlines()]

    assert [line for line in lines if not {"event", "level", "timestamp"} <= line.keys()] == []
    assert "stopped" in {line["event"] for line in lines}


def test_mistake_in_the_configuration_ends_the_start(run: Start, tmp_path: Path) -> None:
    """All mistakes at once, one line each: people mend them in one go."""
    (tmp_path / "closedloop.toml").write_text('[sites.default]\ncurrency = "RUR"\ntimezone = "Moscow"\n')

    ended = run("serve", "--port", "0")

    assert ended.process.wait(STOP_S) == 1
    assert len(ended.log().splitlines()) == 2
    assert all(line.startswith("closedloop: ") for line in ended.log().splitlines())


def test_web_and_worker_are_halves(run: Start, tmp_path: Path) -> None:
    """On two machines each does its part; the worker needs no port."""
    worker = run("worker")

    wait_until(lambda: "worker_started" in worker.log(), what="the start of the worker")

    assert worker.printed() == ""
    assert worker.ask_to_end() == 0
    assert "stopped" in (tmp_path / "log").read_text()


def test_killed_first_process_takes_the_others_along(server: MakeServer) -> None:
    """Whoever is left on the port would share it with the next start, with an old version or an old key."""
    one = server(arguments=("--workers", "2"))
    wait_until(lambda: len(family_of(one.pid)) == 1, what="the second process")
    [other] = family_of(one.pid)

    one.kill()

    wait_until(lambda: not is_alive(other), what="the end of the second process", wait_s=20)
    assert is_free(one.port)


def test_workers_end_with_the_first(server: MakeServer) -> None:
    """A restart must find the port free and the memory empty."""
    one = server(arguments=("--workers", "3"))
    wait_until(lambda: len(family_of(one.pid)) == 2, what="the further processes")
    others = family_of(one.pid)

    assert one.terminate() == 0
    assert not any(map(is_alive, others))
    assert is_free(one.port)


def test_start_beside_a_running_one_is_refused(server: MakeServer, run: Start) -> None:
    """The port may be shared between our own processes, but never by two starts."""
    one = server(arguments=("--workers", "2"))

    second = run("serve", "--port", str(one.port))

    assert second.process.wait(STOP_S) == 1
    assert f"port {one.port}" in second.log()


def test_address_that_is_no_database_is_one_sentence(run: Start) -> None:
    """A password pasted with its @ is common, and must not be shown in a trace."""
    ended = run("serve", "--port", str(free_port()), DATABASE_URL="postgresql://u:sec@ret@h:port/db")

    assert ended.process.wait(STOP_S) == 1
    [line] = ended.log().splitlines()
    assert line.startswith("closedloop: DATABASE_URL is not an address of PostgreSQL")
    assert "sec" not in line
