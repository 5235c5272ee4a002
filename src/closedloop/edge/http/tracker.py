"""GET /tilda-analytics.js: the tracker, compressed at the start (docs/protocols/trackers.md, 9)."""

import gzip
from collections.abc import Mapping
from hashlib import sha256
from importlib import resources
from typing import Any, cast

import brotli  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from closedloop.edge.http.answers import Headers
from closedloop.settings import Tracker

PATH = "/tilda-analytics.js"

SHARED: Headers = [
    (b"content-type", b"text/javascript; charset=utf-8"),
    # An owner who changes the installation waits an hour at most; meanwhile no page waits for us.
    (b"cache-control", b"public, max-age=3600, stale-while-revalidate=86400"),
    (b"vary", b"accept-encoding"),
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]


class Encoded(msgspec.Struct, frozen=True):
    """The script in one encoding."""

    headers: Headers
    body: bytes
    etag: bytes


def script(names: Tracker) -> bytes:
    """Return the minified tracker that calls itself and the collector by these names."""
    text = (resources.files("closedloop.edge.http") / "tracker.min.js").read_text()
    return text.replace("%SCRIPT%", names.script).replace("%COLLECT%", names.collect).strip().encode()


def encode(plain: bytes) -> Mapping[bytes, Encoded]:
    """Return the script in every encoding, the smallest first."""
    bodies: dict[bytes, bytes] = {
        b"br": cast("bytes", brotli.compress(plain, quality=11)),  # pyright: ignore[reportUnknownMemberType]
        b"gzip": gzip.compress(plain, compresslevel=9, mtime=0),
        b"identity": plain,
    }
    version = sha256(plain).hexdigest()[:16]
    encoded: dict[bytes, Encoded] = {}
    for name, body in bodies.items():
        etag = f'"{version}-{name.decode()}"'.encode()
        own = [] if name == b"identity" else [(b"content-encoding", name)]
        length = (b"content-length", str(len(body)).encode())
        encoded[name] = Encoded([*SHARED, *own, (b"etag", etag), length], body, etag)
    return encoded


class TrackerScript:
    """The endpoint, raw ASGI: the answer is one of three that are ready."""

    def __init__(self, names: Tracker) -> None:
        self.encoded = encode(script(names))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401, ARG002 - ASGI
        """Answer one request."""
        headers = dict(scope["headers"])
        if scope["method"] not in {"GET", "HEAD"}:
            start = {"type": "http.response.start", "status": 405, "headers": [(b"allow", b"GET, HEAD")]}
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        chosen = self.encoded[best_encoding(headers.get(b"accept-encoding", b""))]
        known = headers.get(b"if-none-match", b"")
        is_known = chosen.etag in [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]
        kept = [pair for pair in chosen.headers if not is_known or pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 304 if is_known else 200, "headers": kept})
        body = b"" if is_known or scope["method"] == "HEAD" else chosen.body
        await send({"type": "http.response.body", "body": body})


def best_encoding(accepted: bytes) -> bytes:
    """Return the smallest encoding that a browser takes: br, gzip or identity."""
    refused = {b"0", b"0.0", b"0.00", b"0.000"}
    taken: set[bytes] = set()
    for part in accepted.lower().split(b","):
        name, _, quality = part.partition(b";")
        if quality.strip().removeprefix(b"q=").strip() not in refused:
            taken.add(name.strip())
    return next((name for name in (b"br", b"gzip") if name in taken or b"*" in taken), b"identity")
