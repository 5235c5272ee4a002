"""Further web processes on the same port, for more than one core.

Each holds the other end of a pipe that nobody writes to: when it closes, the first process is gone, however
it ended, and they end too.
"""

import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

import structlog

from closedloop.config import child_environment
from closedloop.edge.cli.start import Start

log = structlog.get_logger()

RESTART_S = 1.0


class Children:
    """Starts `workers - 1` more web processes, starts a fallen one again, and stops them with us."""

    def __init__(self, start: Start, url: str) -> None:
        self.command = [
            *(sys.executable, "-m", "closedloop", "web", "--joins"),
            *("--host", start.host, "--port", str(start.port)),
            *(("--data-dir", str(start.data_dir)) if start.data_dir else ()),
            *(("--config", str(start.config)) if start.config else ()),
        ]
        self.environment = child_environment(url)
        self.count = start.workers - 1 if start.web else 0
        self.stopping = threading.Event()
        self.running: list[subprocess.Popen[bytes]] = []
        self.watchers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for number in range(self.count):
            watcher = threading.Thread(target=self.watch, name=f"child-{number}", daemon=True)
            watcher.start()
            self.watchers.append(watcher)
        return self

    def watch(self) -> None:
        """Keep one child running until `stop`."""
        while not self.stopping.is_set():
            with subprocess.Popen(self.command, env=self.environment, stdin=subprocess.PIPE) as child:  # noqa: S603 - our own program
                self.running.append(child)
                if self.stopping.is_set():  # `stop` may have looked before this one was there
                    child.terminate()
                code = child.wait()
                self.running.remove(child)
            if not self.stopping.wait(RESTART_S):
                log.error("web_process_fell", code=code)

    def stop(self) -> None:
        """Ask every child to finish what it accepted; they end by themselves."""
        self.stopping.set()
        for child in list(self.running):
            child.terminate()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for watcher in self.watchers:
            watcher.join()
