"""`closedloop inspect`: one recorded request to what we read in it; touches no database and no network."""

import json
import sys
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

import msgspec

from closedloop.config import read_sites
from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.money import decimal_text
from closedloop.edge.cli.inspect_amocrm import inspect_amocrm
from closedloop.edge.cli.inspect_bitrix24 import inspect_bitrix24
from closedloop.edge.http.keys import Keyring, presented_keys, refusal
from closedloop.edge.http.webhooks import PATH, site_in, tokens
from closedloop.errors import CallerError, OperatorError
from closedloop.parse.crm.hook import HookRequest, read_conversions
from closedloop.parse.crm.tilda import TildaLead, presented_in_body, read_tilda
from closedloop.settings import Site
from closedloop.stages import clock

SOURCES = ("amocrm", "bitrix24", "generic", "tilda")
WRONG_USE = 2


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP/1.1 request of a file; `headers` have lower-case names, the first of equal ones counts."""

    method: str
    path: str
    query: bytes
    headers: dict[str, str]
    body: bytes


def run(source: str, file: Path, config: Path | None) -> int:
    """Print what is read in one recorded request and return the exit code: 1 when it would be refused."""
    try:
        check_source(source)
        sites = () if config is None else read_sites(config).values()
        raw = _bytes_of(file)
        if source == "tilda":
            told = inspect_tilda(raw, sites=sites)
        elif source == "amocrm":
            told = inspect_amocrm(recorded_request(raw), sites=sites)
        elif source == "bitrix24":
            told = inspect_bitrix24(recorded_request(raw), sites=sites)
        else:
            told = inspect_generic(raw, now=clock.now(), sites=sites)
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


def inspect_tilda(raw: bytes, *, sites: Collection[Site] = ()) -> dict[str, object]:
    """Return the reading of a form of Tilda: `source`, `accept`, `reason` and `lead` (None when refused).

    Without a key in `sites` any key is taken as the right one, in the body any that stands under a name
    like `X-Webhook-Key` or `token`; but there must be one. Raises OperatorError as `inspect_generic` does.
    Source: tests/recorded/README.md.
    """
    request = recorded_request(raw)
    if request.method != "POST":
        return _refused_lead(f"The method {request.method} is not known here; Tilda sends POST.")
    if PATH.fullmatch(request.path) and sites:
        named = [site for site in sites if site.name == site_in(request.path)]
        if not named:
            return _refused_lead(f"There is no site {site_in(request.path)} here.")
        sites = named
    content_type = request.headers.get("content-type", "")
    credentials = _credentials(request)
    try:
        in_body = [value.encode() for value in presented_in_body(content_type, request.body)]
        opens = _lock(sites, frozenset([*credentials, *in_body]))
        lead = read_tilda(content_type, request.body, is_key=lambda value: opens([value.encode()]))
        if not lead.has_key and not opens(credentials):
            raise refusal([*credentials, *in_body])
    except CallerError as error:
        return _refused_lead(str(error))
    return {"source": "tilda", "accept": True, "reason": None, "lead": _lead(lead)}


def site_of(request: RecordedRequest, sites: Collection[Site], now: datetime) -> Site:
    """Return the site whose key the request carries, or the default one when no site has a key.

    Raises UnknownKeyError.
    """
    if not any(site.webhook_keys for site in sites):
        return next((site for site in sites if site.name == "default"), Site())
    headers = _raw_headers(request)
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
    path, _, query = words[1].partition("#")[0].partition("?")
    return RecordedRequest(
        method=words[0], path=path, query=query.encode("latin-1"), headers=headers, body=body
    )


def _raw_headers(request: RecordedRequest) -> dict[bytes, bytes]:
    return {name.encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}


def _credentials(request: RecordedRequest) -> list[bytes]:
    headers = _raw_headers(request)
    bare = headers.get(b"authorization", b"")
    named = [bare] if bare and b" " not in bare and bare.lower() != b"bearer" else []
    return [*presented_keys(headers, request.query), *tokens(request.query), *named]


def _lock(sites: Collection[Site], any_of: frozenset[bytes]) -> Callable[[list[bytes]], bool]:
    """Return what tells whether some credentials hold a key; without keys in `sites`, `any_of` are keys."""
    if not any(site.webhook_keys for site in sites):
        return lambda presented: not any_of.isdisjoint(presented)
    keyring = Keyring(sites)
    return lambda presented: keyring.site_of(presented) is not None


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


def _lead(told: TildaLead) -> dict[str, object]:
    order = told.order
    return {
        "is_test": told.is_test,
        "session_id": told.session_id,
        "ym_uid": told.ym_uid,
        "click_ids": told.click_ids,
        "marks": told.marks,
        "phone": told.phone,
        "email": told.email,
        "code": told.code,
        "transaction_id": told.transaction_id,
        "form_id": told.form_id,
        "form_name": told.form_name,
        "order": None
        if order is None
        else {
            "order_id": order.order_id,
            "amount": None if order.amount is None else decimal_text(order.amount),
            "currency": order.currency,
            "is_paid": order.is_paid,
        },
        "fields": told.fields,
    }


def _refused_lead(reason: str) -> dict[str, object]:
    return {"source": "tilda", "accept": False, "reason": reason, "lead": None}


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
