"""POST /functions/v1/crm-conversion-hook: the webhook of the contract, section 2, as raw ASGI.

A request passes these steps and no other: method, size, key, reading, site, intake, answer.
"""

import functools
from typing import Any

import structlog
from prometheus_client import Counter

from closedloop.edge.http.answers import (
    CORS,
    JSON,
    TEXT,
    Answer,
    answer_error,
    answer_settled,
    send_answer,
    sentence,
)
from closedloop.edge.http.keys import Keyring, presented_keys, refusal, without_key
from closedloop.edge.http.request import raw_webhook, read_body
from closedloop.errors import CallerError, ClosedloopError
from closedloop.parse.bodies import MAX_BYTES
from closedloop.parse.crm.hook import HookRequest, Reading, read_conversions
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.intake import Intake, RawWebhook
from closedloop.store.statements import Shape
from closedloop.telemetry import LATENCY, REQUESTS

PATH = "/functions/v1/crm-conversion-hook"

log = structlog.get_logger()


@functools.cache
def counted(outcome: str) -> Counter:
    """Return the counter of one outcome; looking it up by its label takes a lock each time."""
    return REQUESTS.labels(outcome)


class Hook:
    """The endpoint; one for the process."""

    def __init__(self, keyring: Keyring, intake: Intake, shape: Shape) -> None:
        self.keyring = keyring
        self.intake = intake
        self.shape = shape

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Answer one request; whatever happens, the answer is one of the contract."""
        started = clock.elapsed()
        try:
            answer = await self.answer(scope, receive)
        except (ClosedloopError, OSError) as error:
            answer = answer_error(error)
        except Exception as error:
            log.exception("hook_failed")
            answer = answer_error(error)
        await send_answer(send, answer, scope["method"])
        counted(answer.outcome).inc()
        LATENCY.observe(clock.elapsed() - started)

    async def answer(self, scope: Any, receive: Any) -> Answer:  # noqa: ANN401 - ASGI
        """Return the answer to one request. Raises every error that `answer_error` knows."""
        method = scope["method"]
        if method == "OPTIONS":
            return Answer(200, TEXT, b"ok", "preflight")
        if method == "HEAD":
            return Answer(200, CORS, b"", "head")
        if method not in {"POST", "GET"}:
            text = f"The method {method} is not known here; send POST or GET."
            return Answer(405, [*JSON, (b"allow", b"GET, POST, HEAD, OPTIONS")], sentence(text), "refused")
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, MAX_BYTES)
        query = scope["query_string"]
        site = self.site_of(headers, query, body)
        raw = raw_webhook("hook", method, headers, without_key(query), body)
        reading = await self.read(site, raw, headers, query)
        settled = await self.intake.take(site, raw, reading.conversions)
        return answer_settled(settled, self.shape.current().table, is_array=reading.is_array)

    def site_of(self, headers: dict[bytes, bytes], query: bytes, body: bytes) -> Site:
        """Return the site that this request may write to. Raises UnknownKeyError."""
        credentials = presented_keys(headers, query)
        site = self.keyring.site_of(credentials)
        if site is None:
            site = self.keyring.site_of_signature(headers, body, clock.now())
        if site is None:
            raise refusal(credentials)
        return site

    async def read(self, site: Site, raw: RawWebhook, headers: dict[bytes, bytes], query: bytes) -> Reading:
        """Return what the request says. Raises CallerError, after the refused webhook is in the inbox."""
        key = headers.get(b"idempotency-key") or headers.get(b"webhook-id")
        request = HookRequest(
            query=query,
            content_type=raw.content_type,
            body=raw.body,
            idempotency_key=None if key is None else key.decode("latin-1"),
        )
        try:
            refuse_compressed(headers)
            reading = read_conversions(request, zone=site.zone, now=raw.received_at)
            check_site(reading, site)
        except CallerError as error:
            log.info("webhook_refused", site=site.name, reason=str(error), user_agent=raw.user_agent)
            await self.intake.refuse(site, raw, str(error))
            raise
        return reading


def check_site(reading: Reading, site: Site) -> None:
    """Raise CallerError when a conversion names another site than the one whose key came with it."""
    for index, told in enumerate(reading.conversions):
        if told.site in {None, site.name}:
            continue
        error = CallerError("site", f"is not {site.name}, the site of the key", shown=told.site or "")
        if reading.is_array:
            error.index = index
            error.args = (f"item {index}: {error}",)
        raise error


def refuse_compressed(headers: dict[bytes, bytes]) -> None:
    """Raise CallerError for a compressed body: a few bytes of it could unpack to any size."""
    if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"", b"identity"}:
        raise CallerError("Content-Encoding", "must be left out: a compressed body is not read here")
