"""POST /webhooks/{site}/tilda, as raw ASGI: kept and committed, then answered in the sender's way.

A request passes these steps and no other: method, site, size, reading, key, intake, answer.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import structlog

from closedloop.edge.http.answers import Answer, Headers, answer_error, send_answer, sentence
from closedloop.edge.http.keys import Keyring, presented_keys, refusal, without_key
from closedloop.edge.http.request import raw_webhook, read_body
from closedloop.errors import ClosedloopError, TransientError
from closedloop.parse.crm.tilda import MAX_BYTES, read_tilda
from closedloop.settings import Site
from closedloop.stages.intake import Intake
from closedloop.telemetry import WEBHOOKS

PATH = re.compile(r"/webhooks/([a-z0-9][a-z0-9_-]{0,62})/tilda/?")
TEXT: Headers = [(b"content-type", b"text/plain;charset=UTF-8")]

log = structlog.get_logger()


class TildaWebhook:
    """The endpoint; one for the process. Tilda waits five seconds, comes twice more, and wants 200."""

    def __init__(self, sites: Mapping[str, Site], keyring: Keyring, intake: Intake) -> None:
        self.sites = sites
        self.keyring = keyring
        self.intake = intake

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Answer one request."""
        try:
            answer = await self.answer(scope, receive)
        except (ClosedloopError, OSError) as error:
            answer = answer_error(error)
        except Exception as error:
            log.exception("webhook_failed", source="tilda")
            answer = answer_error(error)
        await send_answer(send, answer, scope["method"])
        WEBHOOKS.labels("tilda", answer.outcome).inc()

    async def answer(self, scope: Any, receive: Any) -> Answer:  # noqa: ANN401 - ASGI
        """Return the answer to one request. Raises every error that `answer_error` knows."""
        if scope["method"] != "POST":
            text = f"The method {scope['method']} is not known here; Tilda sends POST."
            return Answer(405, [*TEXT, (b"allow", b"POST")], sentence(text), "refused")
        site = self.sites.get(site_in(scope["path"]))
        if site is None:
            return Answer(404, TEXT, sentence(f"There is no site {site_in(scope['path'])} here."), "refused")
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, MAX_BYTES)
        lead = read_tilda(
            headers.get(b"content-type", b"").decode("latin-1"),
            body,
            is_key=lambda value: self.opens(site, [value.encode()]),
        )
        credentials = [*presented_keys(headers, scope["query_string"]), *tokens(scope["query_string"])]
        if not lead.has_key and not self.opens(site, credentials):
            raise refusal(credentials)
        if lead.is_test:
            return Answer(200, TEXT, b"ok", "test")
        query = without_key(scope["query_string"])
        raw = raw_webhook("tilda", scope["method"], headers, query, lead.kept_body)
        try:
            await self.intake.take_lead(site, raw, lead)
        except TransientError:
            return Answer(200, TEXT, b"ok", "spooled")
        return Answer(200, TEXT, b"ok", "accepted")

    def opens(self, site: Site, credentials: list[bytes]) -> bool:
        """Return whether one of these is a key of this site."""
        found = self.keyring.site_of(credentials)
        return found is not None and found.name == site.name


def site_in(path: str) -> str:
    """Return the name of the site in an address of ours."""
    found = PATH.fullmatch(path)
    return found[1] if found else ""


def tokens(query: bytes) -> list[bytes]:
    """Return what an owner may have put into `?token=` in place of `?key=`."""
    pairs = parse_qsl(query.decode("latin-1"))
    return [value.encode() for name, value in pairs if name.lower() in {"token", "api_key", "apikey"}]
