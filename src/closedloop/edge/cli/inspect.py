"""`closedloop inspect`: one recorded request to what we read in it; touches no database and no network."""

import json
import sys
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import msgspec

from closedloop.config import read_sites
from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.money import decimal_text
from closedloop.edge.http.keys import Keyring, presented_keys, refusal
from closedloop.errors import CallerError, OperatorError
from closedloop.parse.crm.hook import HookRequest, read_conversions
from closedloop.settings import Site
from closedloop.stages import clock

SOURCES = ("generic",)
WRONG_USE = 2


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP/1.1 request of a file; `headers` have lower-case names, the first of equal ones counts."""

    method: str
    query: bytes
    headers: dict[str, str]
    body: bytes


def run(source: str, file: Path, config: Path | None) -> int:
    """Print what is read in one recorded request and return the exit code: 1 when it would be refused."""
    try:
        check_source(source)
        sites = () if config is None else read_sites(config).values()
        told = inspect_generic(_bytes_of(file), now=clock.now(), sites=sites)
    except OperatorError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_USE
    sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2) + "\n")
    return 0 if told["accept"] else 1


def inspect_generic(raw: bytes, *, now: datetime, sites: Collection[Site] = ()) -> dict[str, object]:
    """Return the reading of a request to the hook: `source`, `accept`, `reason` and `events`.

    Without a key in `sites` any key is taken as the right one. A field that the request does not carry is
    None; money and ids are text. Raises OperatorError for bytes that are not an HTTP request.
    Source: tests/recorded/README.md.
    """
    request = recorded_request(raw)
    if request.method not in ("GET", "POST"):
        return _refused(f"the method {request.method} is not taken: send POST, or GET with a query")
    hook_request = HookRequest(
        query=request.query,
        content_type=request.headers.get("content-type", ""),
        body=request.body if request.method == "POST" else b"",
        idempotency_key=request.headers.get("idempotency-key"),
    )
    try:
        zone = site_of(request, sites, now).zone
        reading = read_conversions(hook_request, zone=zone, now=now)
    except CallerError as error:
        return _refused(str(error))
    events = [_event(told) for told in reading.conversions]
    return {"source": "generic", "accept": True, "reason": None, "events": events}


def site_of(request: RecordedRequest, sites: Collection[Site], now: datetime) -> Site:
    """Return the site whose key the request carries, or the default one when no site has a key.

    Raises UnknownKeyError.
    """
    if not any(site.webhook_keys for site in sites):
        return next((site for site in sites if site.name == "default"), Site())
    headers = {name.encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}
    credentials = presented_keys(headers, request.query)
    keyring = Keyring(sites)
    found = keyring.site_of(credentials) or keyring.site_of_signature(headers, request.body, now)
    if found is None:
        raise refusal(credentials)
    return found


def recorded_request(raw: bytes) -> RecordedRequest:
    """Return the parts of a request line, headers with CRLF, an empty line and a body.

    `Content-Length` cuts off what an editor put behind the body. Raises OperatorError for anything else.
    """
    head, separator, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if (
        not separator
        or len(words) != len(("method", "target", "version"))
        or not words[2].startswith("HTTP/")
    ):
        raise OperatorError(
            "The file is not an HTTP request: request line, headers with CRLF, empty line, body."
        )
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        body = body[: int(length[:9])]
    query = words[1].partition("#")[0].partition("?")[2].encode("latin-1")
    return RecordedRequest(method=words[0], query=query, headers=headers, body=body)


def _event(told: ReportedConversion) -> dict[str, object]:
    rounded = {"ym_uid_interval": list(told.ym_uid_interval)} if told.ym_uid_interval else {}
    return {
        "session_id": told.session_id,
        "ym_uid": told.ym_uid,
        **rounded,
        "goal_name": told.goal,
        "goal_value": None if told.value is None else decimal_text(told.value),
        "currency": told.currency,
        "deal_id": told.deal_id,
        "event_id": told.event_id,
        "occurred_at": None if told.occurred_at is None else told.occurred_at.isoformat(),
        "phone": told.phone,
        "email": told.email,
        **told.click_ids,
        "site": told.site,
    }


def _refused(reason: str) -> dict[str, object]:
    return {"source": "generic", "accept": False, "reason": reason, "events": []}


def check_source(source: str) -> None:
    """Raise OperatorError for a source that nothing here can read."""
    if source not in SOURCES:
        raise OperatorError(f"There is no source {source!r}; known are: {', '.join(SOURCES)}.")


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}.") from error
