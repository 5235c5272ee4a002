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
