"""POST /collect: hits of the tracker, as raw ASGI. Source: docs/reference/collect.md.

A request passes these steps and no other: method, size, flood, reading, site, origin, writer, answer.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from prometheus_client import Counter

from closedloop.domain.visit import Visit
from closedloop.edge.http.answers import Answer, Headers, retry, send_answer, sentence
from closedloop.edge.http.bots import bot_of
from closedloop.edge.http.floods import Floods, client_address
from closedloop.edge.http.recent import Recent
from closedloop.edge.http.request import read_body
from closedloop.errors import CallerError, ClosedloopError, TooLargeError, TransientError
from closedloop.parse.hit import MAX_BYTES, host_of, read_hit
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.collector import AGAIN, HitWriter
from closedloop.telemetry import HIT_LATENCY, HITS

PATH = "/collect"
# Chromium keeps a cookie for 400 days at most.
COOKIE_S = 400 * 24 * 3600

CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]
PREFLIGHT: Headers = [
    *CORS,
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"content-type"),
    (b"access-control-max-age", b"86400"),
]
JSON: Headers = [(b"content-type", b"application/json"), *CORS]
NOT_STORED = {
    "foreign": "The session is another visitor's.",
    "odd": "The session's row holds a document of another shape: nothing was changed in it.",
}

log = structlog.get_logger()


@functools.cache
def counted(outcome: str) -> Counter:
    """Return the counter of one outcome; looking it up by its label takes a lock each time."""
    return HITS.labels(outcome)


class Collect:
    """The endpoint; one for the process."""

    def __init__(self, sites: Mapping[str, Site], writer: HitWriter, recent: Recent) -> None:
        self.sites = sites
        self.writer = writer
        self.recent = recent
        self.floods = Floods()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Answer one request; whatever a page sends, no answer is a 500."""
        started = clock.elapsed()
        try:
            answer = await self.answer(scope, receive)
        except ClosedloopError as error:
            answer = answer_error(error)
        except Exception:
            log.exception("collect_failed")
            answer = Answer(503, retry(30, JSON), sentence("An error of ours; it is in the log."), "failed")
        await send_answer(send, answer, scope["method"])
        counted(answer.outcome).inc()
        HIT_LATENCY.observe(clock.elapsed() - started)

    async def answer(self, scope: Any, receive: Any) -> Answer:  # noqa: ANN401 - ASGI
        """Return the answer to one request. Raises every error that `answer_error` knows."""
        method = scope["method"]
        if method == "OPTIONS":
            return Answer(204, PREFLIGHT, b"", "preflight")
        if method != "POST":
            text = f"The method {method} is not known here; send POST."
            return Answer(405, [*PREFLIGHT, JSON[0], (b"allow", b"POST, OPTIONS")], sentence(text), "refused")
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, MAX_BYTES)
        if not self.floods.admit(address_of(scope), clock.elapsed()):
            return Answer(429, retry(10), sentence("Too many hits from this address."), "flood")
        visit = read_hit(body, received_at=clock.now(), bot=bot_of(headers))
        site = self.sites.get(visit.site)
        if site is None:
            raise CallerError("s", "is not a site here", shown=visit.site)
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not is_allowed(origin, site.origins):
            self.recent.refuse(site.name, clock.now(), origin)
            text = f"Pages of {origin or 'no origin'} may not send here; see origins of site {site.name}."
            return Answer(403, JSON, sentence(text), "foreign_page")
        outcome = await self.writer.submit(visit)
        return answer_outcome(outcome, visit, headers)


def address_of(scope: Any) -> str | None:  # noqa: ANN401 - ASGI
    """Return whom a request comes from, as far as it can be known."""
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    client = scope.get("client")
    return client_address(client[0] if client else None, forwarded)


def is_allowed(origin: str, origins: Sequence[str]) -> bool:
    """Return whether a page of this origin may send: of a host in the list, with `www.` or without it."""
    return not origins or host_of(origin) in {host_of(one) for one in origins} - {""}


def answer_outcome(outcome: str, visit: Visit, headers: Mapping[bytes, bytes]) -> Answer:
    """Return the answer for what became of a hit."""
    if outcome == AGAIN:
        return Answer(
            503, retry(2, JSON), sentence("Somebody else holds the session's row; send it again."), AGAIN
        )
    if outcome in NOT_STORED:
        return Answer(403, JSON, sentence(NOT_STORED[outcome]), outcome)
    return Answer(204, [*CORS, *cookie(visit, headers)], b"", outcome)


def cookie(visit: Visit, headers: Mapping[bytes, bytes]) -> Headers:
    """Return the visitor's cookie where the page is of our own host: Safari keeps one that a server sets.

    It only says again what the browser has told us. Source: docs/protocols/trackers.md, 5.
    """
    if headers.get(b"sec-fetch-site") != b"same-origin" or any(sign in visit.visitor for sign in ';,"\\'):
        return []
    seconds = 0 if visit.withdrawn else COOKIE_S
    secure = "; Secure" if headers.get(b"x-forwarded-proto") == b"https" else ""
    value = f"ta_user_id={visit.visitor}; Max-Age={seconds}; Path=/; SameSite=Lax{secure}"
    return [(b"set-cookie", value.encode())]


def answer_error(error: ClosedloopError) -> Answer:
    """Return the answer for an error of the caller, or of the moment."""
    if isinstance(error, TooLargeError):
        return Answer(413, [*JSON, (b"connection", b"close")], sentence(str(error)), "refused")
    if isinstance(error, CallerError):
        return Answer(400, JSON, sentence(str(error)), "refused")
    if isinstance(error, TransientError):
        return Answer(
            503, retry(error.retry_after, JSON), sentence("The database is away; send it again."), "away"
        )
    return Answer(403, JSON, sentence("The database refuses this session."), "refused_row")
