"""POST /webhooks/{site}/{crm}, as raw ASGI: believed, kept and committed, then answered; read afterwards.

A request passes these steps and no other: method, site, size, trust, intake, answer. Whatever is authentic
gets 2xx, also what interests nobody: a CRM that is refused too often stops sending
(docs/protocols/amocrm.md, 1.2).
"""

import re
from collections.abc import Mapping
from typing import Any

import structlog

from closedloop.edge.http.answers import Answer, Headers, answer_error, send_answer, sentence
from closedloop.edge.http.keys import Keyring, presented_keys, without_key
from closedloop.edge.http.request import raw_webhook, read_body
from closedloop.edge.http.webhooks import tokens
from closedloop.errors import ClosedloopError, TransientError, UntrustedError
from closedloop.parse.base import CrmRequest
from closedloop.parse.registry import CRMS, webhooks_of
from closedloop.settings import Site
from closedloop.stages.crms import trust_of
from closedloop.stages.intake import Intake
from closedloop.telemetry import WEBHOOKS

# The key may stand in the address as a part of the path, and a robot's address go on behind it.
PATH = re.compile(rf"/webhooks/([a-z0-9][a-z0-9_-]{{0,62}})/({'|'.join(CRMS)})(?:/([^/]+))?(?:/[^/]*)*")
TEXT: Headers = [(b"content-type", b"text/plain;charset=UTF-8")]
JSON: Headers = [(b"content-type", b"application/json")]

log = structlog.get_logger()


class CrmWebhook:
    """The endpoint of every CRM; one for the process."""

    def __init__(self, sites: Mapping[str, Site], keyring: Keyring, intake: Intake) -> None:
        self.sites = sites
        self.keyring = keyring
        self.intake = intake
        self.adapters = {
            (site.name, crm): webhooks_of(crm, site.zone) for site in sites.values() for crm in CRMS
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Answer one request."""
        found = PATH.fullmatch(scope["path"])
        site, crm, key = found.groups() if found else ("", "", None)
        try:
            answer = await self.answer(scope, receive, site, crm, key)
        except UntrustedError as error:
            log.warning("webhook_untrusted", site=site, crm=crm, kind=error.kind, reason=str(error))
            answer = Answer(error.status, JSON, sentence(str(error)), error.kind)
        except (ClosedloopError, OSError) as error:
            answer = answer_error(error)
        except Exception as error:
            log.exception("webhook_failed", source=crm)
            answer = answer_error(error)
        await send_answer(send, answer, scope["method"])
        WEBHOOKS.labels(crm, answer.outcome).inc()

    async def answer(self, scope: Any, receive: Any, name: str, crm: str, key: str | None) -> Answer:  # noqa: ANN401 - ASGI
        """Return the answer to one request. Raises UntrustedError and all that `answer_error` knows."""
        if scope["method"] != "POST":
            text = f"The method {scope['method']} is not known here; a CRM sends POST."
            return Answer(405, [*JSON, (b"allow", b"POST")], sentence(text), "refused")
        site = self.sites.get(name)
        if site is None:
            return Answer(404, JSON, sentence(f"There is no site {name} here."), "refused")
        adapter = self.adapters[site.name, crm]
        headers = dict(scope["headers"])
        query = scope["query_string"]
        body = await read_body(headers, receive, adapter.max_bytes)
        raw = raw_webhook(crm, "POST", headers, without_key(query), body)
        in_path = [] if key is None else [key.encode()]
        opened = self.keyring.site_of([*presented_keys(headers, query), *tokens(query), *in_path])
        trust = trust_of(site, crm, has_key=opened is not None and opened.name == site.name)
        request = CrmRequest(
            query=raw.query.encode("latin-1"),
            content_type=raw.content_type,
            body=body,
            received_at=raw.received_at,
        )
        adapter.check(request, trust)
        try:
            await self.intake.take_webhook(site, raw)
        except TransientError:
            return Answer(200, TEXT, b"ok", "spooled")
        return Answer(200, TEXT, b"ok", "accepted")
