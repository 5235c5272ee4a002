"""One call over HTTP as plain values: what is asked of a CRM or a platform, and what comes back."""

from collections.abc import Mapping, Sequence

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call; `path` is below the configured address, without a slash in front."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: Mapping[str, object] | None = None  # JSON


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    body: bytes


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it goes over the wire; headers may hold a token: never logged, never kept."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class HttpReply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, header names in lower case. Status 0: none came; `sent` tells whether the body had left."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""
    sent: bool = True
