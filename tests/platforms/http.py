"""What the fake platforms share: real HTTP on loopback, a log of calls, and going down and up on one port."""

import contextlib
import http.server
import json
import socket
import socketserver
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from fix_tools import free_port
from platforms.faults import Answer, Faults
from platforms.forms import Json, parse_form

# A dropped call has no status.
DROPPED = 0


@dataclass(frozen=True)
class Request:
    """One request; names of headers are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    sender: str

    @property
    def path(self) -> str:
        """The address without its query."""
        return urlsplit(self.target).path

    @cached_property
    def query(self) -> dict[str, Json]:
        """The parameters in the address."""
        return parse_form(urlsplit(self.target).query)

    @cached_property
    def json(self) -> Json:
        """The body; raises ValueError when it is not JSON."""
        return cast("Json", json.loads(self.body))

    @cached_property
    def params(self) -> dict[str, Json]:
        """All parameters: those in the address, and those in a body that is a form or a map in JSON."""
        if "json" not in self.headers.get("content-type", ""):
            return {**self.query, **parse_form(self.body.decode(errors="replace"))}
        try:
            told = self.json
        except ValueError:
            return self.query
        return {**self.query, **told} if isinstance(told, Mapping) else self.query


@dataclass(frozen=True)
class Call:
    """One call that was made: when (of `time.monotonic`), and how it was answered, DROPPED if it was not."""

    request: Request
    status: int
    at: float

    @property
    def method(self) -> str:
        """GET, POST and so on."""
        return self.request.method

    @property
    def path(self) -> str:
        """The address without its query."""
        return self.request.path

    @property
    def params(self) -> dict[str, Json]:
        """All parameters."""
        return self.request.params


class Platform(ABC):
    """One server on 127.0.0.1 that runs from its making until `close`; keeps its port while it is down.

    `calls` has every call that was made, `refused` counts those that a limit or a right refused, by the
    error's name, and `faults` takes orders for what shall go wrong.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.refused: Counter[str] = Counter()
        self.faults = Faults()
        self.lock = threading.RLock()
        self.broken: list[BaseException] = []
        self.connections: set[socket.socket] = set()
        self.server: Listener | None = None
        self.port = 0
        self.come_up()

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Do what one request asks for."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    def come_up(self) -> None:
        """Take connections, on the same port as before."""
        while self.server is None:
            port = self.port or free_port()
            with contextlib.suppress(OSError) if self.port == 0 else contextlib.nullcontext():
                self.server = Listener(self, port)
                self.port = port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def go_down(self) -> None:
        """Refuse connections and cut those that are open."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End; raises what went wrong in the fake itself, which no client could tell from an answer."""
        self.faults.close()
        self.go_down()
        if self.broken:
            raise BaseExceptionGroup(f"{type(self).__name__} is broken", self.broken)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def handle(self, request: Request) -> Answer | None:
        """Return the answer to a request, None to drop it, after what was ordered for it."""
        at = time.monotonic()
        trouble = self.faults.meet(request.target, request.body)
        answer = self.work(request) if trouble is None else trouble(lambda: self.work(request))
        self.calls.append(Call(request, DROPPED if answer is None else answer.status, at))
        return answer

    def work(self, request: Request) -> Answer:
        """Answer while nothing else changes."""
        with self.lock:
            return self.answer(request)

    def calls_of(self, part: str) -> list[Call]:
        """Return the calls with a text in their path."""
        return [call for call in self.calls if part in call.path]


class Listener(http.server.ThreadingHTTPServer):
    """Listens for one platform."""

    allow_reuse_address = True

    def __init__(self, platform: Platform, port: int) -> None:
        self.platform = platform
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: tuple[str, int]
    ) -> None:
        """Let `go_down` know of the connection, before a thread of its own serves it."""
        if isinstance(request, socket.socket):
            self.platform.connections.add(request)
        super().process_request(request, client_address)

    def handle_error(
        self,
        request: socket.socket | tuple[bytes, socket.socket],  # noqa: ARG002 - the base class's
        client_address: object,  # noqa: ARG002 - the base class's
    ) -> None:
        """Keep what went wrong in the fake; that a client went away is its own affair."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.platform.broken.append(error)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers on one connection, which stays open between requests."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: socketserver.BaseServer

    @property
    def platform(self) -> Platform:
        """The platform that answers here."""
        return cast("Listener", self.server).platform

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def finish(self) -> None:
        """Forget the connection."""
        self.platform.connections.discard(self.connection)
        super().finish()

    def serve(self) -> None:
        """Answer one request of any method, or close the connection."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.platform.handle(
            Request(self.command, self.path, headers, body, str(self.client_address[0]))
        )
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        if answer.status != http.HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def do_GET(self) -> None:
        """Answer."""
        self.serve()

    def do_POST(self) -> None:
        """Answer."""
        self.serve()

    def do_PATCH(self) -> None:
        """Answer."""
        self.serve()

    def do_DELETE(self) -> None:
        """Answer."""
        self.serve()
