"""How the fakes call a webhook: bytes as given, so that order and case of headers are the CRM's."""

import socket
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.parse import quote, urlsplit

NOT_ANSWERED = 0


class Reply(NamedTuple):
    """How a receiver answered; NOT_ANSWERED is no connection, a dropped one, or none in time."""

    status: int
    took_s: float


def post(url: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, wait_s: float) -> Reply:
    """Post to `url`'s host, asking for `target`; waits that long at every step."""
    place = urlsplit(url)
    started = time.monotonic()
    head = "".join(f"{name}: {value}\r\n" for name, value in [("Host", place.netloc), *headers])
    try:
        with socket.create_connection((place.hostname, place.port or 80), timeout=wait_s) as connection:
            connection.sendall(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
            response = HTTPResponse(connection, method="POST")
            response.begin()
            response.read()
            status = response.status
    except (OSError, HTTPException):
        status = NOT_ANSWERED
    return Reply(status, time.monotonic() - started)


def target_of(url: str) -> str:
    """Return what is asked of the host: path and query, nothing in it escaped twice."""
    place = urlsplit(url)
    query = f"?{place.query}" if place.query else ""
    return quote((place.path or "/") + query, safe="!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~")
