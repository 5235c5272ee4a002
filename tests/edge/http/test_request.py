"""Bodies are read up to their limit, and a request is kept as it came."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from closedloop.edge.http.request import raw_webhook, read_body
from closedloop.errors import CallerError, TooLargeError

LIMIT = 8


def receiving(*messages: dict[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return what ASGI calls `receive`, giving these messages; asked for more it fails the test."""
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return receive


def chunk(body: bytes, *, more: bool = False) -> dict[str, Any]:
    """Return a message with a part of the body."""
    return {"type": "http.request", "body": body, "more_body": more}


def test_body_of_many_chunks_up_to_the_limit_is_whole() -> None:
    """The limit itself is allowed."""
    receive = receiving(chunk(b"1234", more=True), chunk(b"", more=True), chunk(b"5678"))

    assert asyncio.run(read_body({}, receive, LIMIT)) == b"12345678"


def test_length_that_is_told_is_refused_before_anything_is_read() -> None:
    """A sender that announces too much costs us nothing."""
    with pytest.raises(TooLargeError):
        asyncio.run(read_body({b"content-length": b"9"}, receiving(), LIMIT))


def test_chunks_above_the_limit_are_refused_before_the_rest_is_read() -> None:
    """A body without a length, or with a wrong one, is counted as it comes."""
    receive = receiving(chunk(b"12345", more=True), chunk(b"6789", more=True))

    with pytest.raises(TooLargeError):
        asyncio.run(read_body({b"content-length": b"5"}, receive, LIMIT))


def test_body_that_breaks_off_is_the_callers_error() -> None:
    """Half a body is never taken for a whole one."""
    receive = receiving(chunk(b"1234", more=True), {"type": "http.disconnect"})

    with pytest.raises(CallerError):
        asyncio.run(read_body({}, receive, LIMIT))


def test_webhook_is_kept_as_it_came_save_for_what_the_database_cannot_hold() -> None:
    """The body stays byte for byte; a NUL in a header cannot be text of PostgreSQL."""
    headers = {b"content-type": b"text/plain", b"user-agent": b"a\0b\xe9"}

    kept = raw_webhook("hook", "POST", headers, b"a=%00", b"\0\xff")

    assert (kept.source, kept.method, kept.query, kept.body) == ("hook", "POST", "a=%00", b"\0\xff")
    assert (kept.content_type, kept.user_agent) == ("text/plain", "ab\xe9")
