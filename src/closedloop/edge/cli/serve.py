"""`closedloop serve`: everything in one command; `web` and `worker` are its two halves."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading

import msgspec
import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from closedloop.config import read_config
from closedloop.edge.cli.children import Children
from closedloop.edge.cli.greeting import Greeting
from closedloop.edge.cli.start import Start
from closedloop.edge.http.app import make_app
from closedloop.errors import OperatorError
from closedloop.stages import clock
from closedloop.stages.process import Process
from closedloop.store.database import plain_conninfo
from closedloop.store.embedded import Embedded
from closedloop.store.migrate import prepare
from closedloop.telemetry import set_up_logs

BACKLOG = 1024
SIGNALS = (signal.SIGTERM, signal.SIGINT)
LISTENS_WITHIN_S = 10.0

log = structlog.get_logger()


def run(start: Start) -> None:
    """Run until SIGTERM or SIGINT. The embedded PostgreSQL starts first and stops last.

    A signal during the start is obeyed when the start is done, which takes seconds: half a start would
    leave a server behind. A second signal ends at once. Raises OperatorError for everything that a person
    has to mend before the start.
    """
    stop_early = threading.Event()

    def remember(number: int, _frame: object) -> None:
        stop_early.set()
        signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, remember)
    set_up_logs(pretty=sys.stderr.isatty())
    config = read_config(config=start.config, data_dir=start.data_dir)
    port = start.port if start.joins or not start.web else free_port(start.host, start.port)
    with contextlib.ExitStack() as stack:
        url = config.database_url
        if url is None:
            url = stack.enter_context(Embedded(config.data_dir)).url
        fresh = prepare(plain_conninfo(url), clock.now())
        start = msgspec.structs.replace(start, port=port)
        children = stack.enter_context(Children(start, url))
        greeting = Greeting(config, start.host, port, example=fresh and config.database_url is None)
        greeting.make_example(plain_conninfo(url), clock.now())
        uvloop.run(serve(url, start, greeting, children, stop_early))


async def serve(
    url: str, start: Start, greeting: Greeting, children: Children, stop_early: threading.Event
) -> None:
    """Run one process until a signal, then record what was accepted and leave."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    if stop_early.is_set():
        stopped.set()
    if start.joins:
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    process = Process(greeting.config, url, web=start.web, worker=start.worker)
    await process.start()
    try:
        if start.web:
            await serve_http(process, start, greeting, stopped)
        else:
            log.info("worker_started")
            await stopped.wait()
    finally:
        children.stop()
        await process.stop()
        log.info("stopped")


async def serve_http(process: Process, start: Start, greeting: Greeting, stopped: asyncio.Event) -> None:
    """Answer HTTP until `stopped`, then finish the requests that are in flight."""
    server = Server(
        make_app(process),
        address=start.host,
        port=start.port,
        interface=Interfaces.ASGI,
        backlog=BACKLOG,
        log_enabled=False,
    )
    gc.freeze()  # what was imported and built stays for good: not to be looked through again and again
    serving = asyncio.create_task(server.serve())
    if not start.joins and await listens(start.host, start.port):
        greeting.show()
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.interrupt_signal = True
    server.main_loop_interrupt.set()
    await serving


async def listens(host: str, port: int) -> bool:
    """Return whether somebody accepts connections there, as soon as somebody does."""
    deadline = clock.elapsed() + LISTENS_WITHIN_S
    while clock.elapsed() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
        await asyncio.sleep(0.01)
    return False


def free_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0. Raises OperatorError when somebody listens there already.

    The server shares its port between processes, so a second start would go unnoticed otherwise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OperatorError(
                f"port {port} on {host} cannot be used: {error.strerror}; choose another with --port"
            ) from error
        return int(probe.getsockname()[1])
