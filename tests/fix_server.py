"""The real `closedloop serve`, started as its user starts it, in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import psutil
import pytest

from fix_postgres import Cluster
from fix_tools import ToolError, free_port, is_alive, kill_family, wait_until

HOOK = "/functions/v1/crm-conversion-hook"
KEY = "test-key-0123456789abcdef"

_STOP_WAIT_S = 60.0
_ANSWER_WAIT_S = 30.0

Json = Mapping[str, object] | Sequence[object]


class Reply(NamedTuple):
    """One answer as it came; `headers` are read without regard to case."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 -- whatever the server said
        """Return the parsed body."""
        return json.loads(self.body)


class Server:
    """One `closedloop serve` on 127.0.0.1; keeps its port, key and data folder over every restart.

    `database_url` is None when it brings its own PostgreSQL. `folder` is the working directory; in it are
    `data`, what was printed, the log, and `closedloop.toml` if there is one.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str | None,
        environment: Mapping[str, str],
        arguments: Sequence[str],
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.database_url = database_url
        self.key = environment.get("CLOSEDLOOP_WEBHOOK_KEY", KEY)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        address = ("--port", str(self.port), "--data-dir", str(self.data_dir))
        self._command = [sys.executable, "-m", "closedloop", "serve", *address, *arguments]
        self._environment = {
            "PATH": os.pathsep.join(os.get_exec_path()),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "CLOSEDLOOP_WEBHOOK_KEY": self.key,
            **({} if database_url is None else {"DATABASE_URL": database_url}),
            **environment,
        }
        self._client = httpx.Client(base_url=self.url, timeout=_ANSWER_WAIT_S, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None
        self._orphans: list[psutil.Process] = []

    def post(
        self,
        body: bytes | str | Json = b"",
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
        path: str = HOOK,
    ) -> Reply:
        """POST to the hook, by default with the server's key in `X-Webhook-Key`; `key=None` sends none.

        Bytes and text go as they are and without a content type of their own, all else as JSON.
        """
        if isinstance(body, bytes | str):
            labels = dict(headers or {})
        else:
            body = json.dumps(body, ensure_ascii=False)
            labels = {"Content-Type": "application/json", **(headers or {})}
        return self.request("POST", path, query=query, headers=labels, key=key, content=body)

    def get(
        self,
        path: str = HOOK,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
    ) -> Reply:
        """GET the hook, or another path; the key as in `post`."""
        return self.request("GET", path, query=query, headers=headers, key=key)

    def request(
        self,
        method: str,
        path: str = HOOK,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
        content: bytes | str = b"",
    ) -> Reply:
        """Send any request; the key as in `post`."""
        presented = {} if key is None else {"X-Webhook-Key": key or self.key}
        target = f"{path}?{query}" if query else path
        sent = content or None  # none at all, so that a GET has no body
        answer = self._client.request(method, target, headers={**presented, **(headers or {})}, content=sent)
        return Reply(answer.status_code, answer.headers, answer.content)

    @property
    def pid(self) -> int | None:
        """The process that was started; None when it is stopped."""
        return None if self._process is None else self._process.pid

    def log(self) -> str:
        """Return what it wrote on standard error since it was made: lines of JSON."""
        return (self.folder / "log").read_text()

    def printed(self) -> str:
        """Return what it printed on standard output since it was made."""
        return (self.folder / "printed").read_text()

    def start(self, *, ready: bool = True) -> None:
        """Start it and return when it can serve, or, without `ready`, as soon as it answers."""
        assert self._process is None, "it is running"
        with (self.folder / "log").open("ab") as log, (self.folder / "printed").open("ab") as printed:
            greeted = printed.tell()
            self._process = subprocess.Popen(
                # It is told to end when the tests' own process is gone.
                ["setpriv", "--pdeathsig", "TERM", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=log,
                env=self._environment,
                cwd=self.folder,
                start_new_session=True,
            )
        path = "/readyz" if ready else "/healthz"
        wait_until(lambda: self._answers(path, greeted), what=f"closedloop answers 200 on {path}")

    def terminate(self) -> int:
        """Ask it to end with SIGTERM, as a service manager does, wait, and return its exit code."""
        assert self._process is not None, "it is not running"
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(_STOP_WAIT_S)
        self._process = None
        return code

    def kill(self) -> None:
        """End exactly this process at once with SIGKILL: no other that it started."""
        assert self._process is not None, "it is not running"
        with contextlib.suppress(psutil.NoSuchProcess):
            self._orphans += psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop it as `terminate` does, unless it is stopped already, and start it again."""
        if self._process is not None:
            self.terminate()
        self.start()

    def close(self) -> None:
        """End it and whatever it left behind; what the tests call last."""
        self._client.close()
        if self._process is not None and self.database_url is None and self._process.poll() is None:
            self.terminate()
        elif self._process is not None:
            kill_family(self._process)
            self._process = None
        for orphan in filter(is_alive, [*self._orphans, *self._left_postgres()]):
            orphan.kill()

    def _left_postgres(self) -> list[psutil.Process]:
        """Return the embedded PostgreSQL that a killed server left running: its postmaster first."""
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError, IndexError):
            number = int((self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            postmaster = psutil.Process(number)
            if str(self.data_dir) in " ".join(postmaster.cmdline()):
                return [postmaster, *postmaster.children(recursive=True)]
        return []

    def _answers(self, path: str, greeted: int) -> bool:
        """Return whether this start answers: one that a killed server left on the port greets nobody."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            self._process = None
            raise ToolError(f"closedloop ended with {code}: {self.log()[-2000:]}")
        if (self.folder / "printed").stat().st_size == greeted:
            return False
        try:
            return self.get(path).status == 200
        except httpx.TransportError:
            return False


class MakeServer(Protocol):
    """What `server` gives: running servers, as `server()` or `server(embedded=True)`."""

    def __call__(
        self,
        *,
        database_url: str | None = None,
        embedded: bool = False,
        config: str | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        ready: bool = True,
    ) -> Server:
        """Return one, running, on the test's `database` unless told otherwise.

        `config` is the text of a closedloop.toml. Without `ready` it need only answer, as it does while
        its database is away. Called again it gives another server, on the same database.
        """
        ...


@pytest.fixture
def server(database: str, scratch: Path) -> Iterator[MakeServer]:
    """Give `closedloop serve` as often as it is asked for; each is ended whatever the test did."""
    with contextlib.ExitStack() as cleanup:

        def make(
            *,
            database_url: str | None = None,
            embedded: bool = False,
            config: str | None = None,
            environment: Mapping[str, str] | None = None,
            arguments: Sequence[str] = (),
            ready: bool = True,
        ) -> Server:
            folder = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
            if config is not None:
                (folder / "closedloop.toml").write_text(config)
                arguments = ("--config", str(folder / "closedloop.toml"), *arguments)
            url = None if embedded else database_url or database
            made = Server(folder, url, environment or {}, arguments)
            cleanup.callback(made.close)
            made.start(ready=ready)
            return made

        yield make


@pytest.fixture(scope="module")
def hook(postgres: Cluster, scratch: Path) -> Iterator[Server]:
    """Give one server for all tests of a file, on a database of its own."""
    name = postgres.create_database()
    made = Server(Path(tempfile.mkdtemp(prefix="server-", dir=scratch)), postgres.url(name), {}, ())
    made.start()
    yield made
    made.close()
    postgres.drop_database(name)
