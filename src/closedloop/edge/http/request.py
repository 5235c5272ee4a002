"""What a raw endpoint reads of a request: its body up to a limit, and the webhook as the inbox keeps it."""

from collections.abc import Mapping
from typing import Any

from closedloop.errors import CallerError, TooLargeError
from closedloop.stages import clock
from closedloop.stages.intake import RawWebhook


async def read_body(headers: Mapping[bytes, bytes], receive: Any, max_bytes: int) -> bytes:  # noqa: ANN401 - ASGI
    """Return the whole body. Raises TooLargeError as soon as it is known, CallerError when it breaks off."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # Mostly nobody is left to read this; whoever sent broken chunks is, and would get Granian's 500.
            raise CallerError("body", "ended before it was whole: send it again")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return b"".join(chunks)


def too_large(max_bytes: int) -> TooLargeError:
    """Return the error of a body above the limit."""
    return TooLargeError("body", f"is larger than {max_bytes // 1024} KiB")


def raw_webhook(
    source: str, method: str, headers: Mapping[bytes, bytes], query: bytes, body: bytes
) -> RawWebhook:
    """Return the request as the inbox keeps it; `query` without the key."""
    return RawWebhook(
        source=source,
        received_at=clock.now(),
        method=method,
        query=storable(query),
        content_type=storable(headers.get(b"content-type", b"")),
        user_agent=storable(headers.get(b"user-agent", b"")),
        body=body,
    )


def storable(raw: bytes) -> str:
    """Return bytes of a header as text that PostgreSQL takes."""
    return raw.decode("latin-1").replace("\0", "")
