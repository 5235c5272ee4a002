"""A real PgBouncer in transaction mode before the shared PostgreSQL, as hosted databases put one there."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fix_postgres import Cluster
from fix_tools import ToolError, find_pgbouncer, free_port, hand_over, reachable, start, wait_until

PoolerUrl = Callable[[str], str]

# Small enough that a test which keeps server connections to itself is found out.
_POOL_SIZE = 8

_SETTINGS = """
[databases]
* = host={host} port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
server_lifetime = 60
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture(scope="session")
def pgbouncer(postgres: Cluster, scratch: Path) -> Iterator[PoolerUrl]:
    """Give the URL, through the pooler, of a database of `postgres`: `pgbouncer("t_1")`."""
    folder = scratch / "pgbouncer"
    folder.mkdir()
    hand_over(folder)
    port = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(host=postgres.folder, server_port=postgres.port, port=port, pool_size=_POOL_SIZE)
    )
    log = folder / "log"
    process = start(reachable(find_pgbouncer(), scratch), str(settings), log=log)

    def answers() -> bool:
        if process.poll() is not None:
            raise ToolError(f"PgBouncer did not start: {log.read_text()[-1000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, what="PgBouncer takes connections")
    yield lambda database: f"postgresql://postgres@127.0.0.1:{port}/{database}"
    process.send_signal(signal.SIGTERM)
    process.wait()
