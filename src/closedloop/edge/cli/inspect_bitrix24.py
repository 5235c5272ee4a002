"""What `closedloop inspect bitrix24` shows of one recorded webhook; touches no database and no network."""

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from closedloop.domain.money import decimal_text
from closedloop.edge.http.keys import Keyring, presented_keys, without_key
from closedloop.errors import CallerError, UntrustedError
from closedloop.parse.base import CrmRequest, Trust
from closedloop.parse.crm.bitrix24 import (
    Bitrix24Webhooks,
    Message,
    Parameters,
    Subject,
    read_messages,
    subject_of,
)
from closedloop.settings import Bitrix24, Site
from closedloop.stages import clock

if TYPE_CHECKING:
    from closedloop.edge.cli.inspect import RecordedRequest

KEYS = (
    *("source", "accept", "reason", "kind", "event", "entity_type", "entity_type_id", "id", "ts", "auth"),
    *("query", "session_id", "ym_uid", "goal_name", "goal_value", "currency"),
)
_PATH = re.compile(r"/webhooks/([a-z0-9][a-z0-9_-]{0,62})/bitrix24(?:/.*)?")

Shown = dict[str, object]


def inspect_bitrix24(request: "RecordedRequest", *, sites: Collection[Site] = ()) -> Shown:
    """Return the reading of a webhook of Bitrix24 under the names of `KEYS`; what is not told is None.

    Of a refused one there is what was read before the reason. Without a key in `sites` any key is taken as
    the right one, without a token any token; it may stand in `?key=`, in a header or in the path. A
    recording is never stale. Of several events in one body the first is shown, and all are judged.
    Source: tests/recorded/README.md.
    """
    shown: Shown = {**dict.fromkeys(KEYS), "source": "bitrix24", "accept": True}
    try:
        for part in _parts(request, sites):
            shown |= part
    except CallerError as error:
        shown |= {"accept": False, "reason": str(error)}
    return shown


def _parts(request: "RecordedRequest", sites: Collection[Site]) -> Iterator[Shown]:
    """Yield one part of the picture after the other; raises CallerError where the request is refused."""
    if request.method != "POST":
        raise CallerError("method", "is not known here, Bitrix24 sends POST", shown=request.method)
    crm = CrmRequest(
        query=without_key(request.query),
        content_type=request.headers.get("content-type", ""),
        body=request.body,
        received_at=clock.now(),
    )
    message = read_messages(crm)[0]
    yield _message(message)
    if message.kind == "robot":
        yield {"query": _query(message, crm.query)}
    subject = subject_of(message)
    yield _subject(subject)
    webhooks = Bitrix24Webhooks(_believing_site(request, crm, sites).zone)
    if message.kind == "robot":
        yield _values(webhooks.parameters_of(message, subject, crm))
    webhooks.read(crm)


def _message(told: Message) -> Shown:
    return {
        "kind": told.kind,
        "event": told.event,
        "ts": told.ts,
        "auth": {
            "domain": told.domain,
            "member_id": told.member_id,
            "application_token": told.application_token,
        },
    }


def _subject(told: Subject) -> Shown:
    return {"entity_type": told.entity_type, "entity_type_id": told.type_id, "id": told.object_id}


def _query(message: Message, query: bytes) -> dict[str, str]:
    """Return a robot's parameters as they are decoded, blanks included; of equal names the first."""
    told: dict[str, str] = {}
    parts = (part.partition(b"=") for part in query.split(b"&") if part)
    typed = ((_decoded(name), _decoded(value)) for name, _, value in parts)
    for name, value in (*message.properties, *typed):
        told.setdefault(name, value)
    return told


def _decoded(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode(errors="replace")


def _values(parameters: Parameters) -> Shown:
    told = parameters.told
    return {
        "session_id": told.session_id,
        "ym_uid": told.ym_uid,
        "goal_name": told.goal if parameters.has_goal else None,
        "goal_value": None if told.value is None else decimal_text(told.value),
        "currency": told.currency,
    }


def _believing_site(request: "RecordedRequest", crm: CrmRequest, sites: Collection[Site]) -> Site:
    """Return the site that believes the webhook, those first whose key it carries.

    Raises UntrustedError, CallerError for an address of ours that names a site which is not there.
    """
    if named := _PATH.fullmatch(request.path):
        sites_here = [site for site in sites if site.name == named[1]]
        if sites and not sites_here:
            raise CallerError("address", "names a site that is not configured", shown=named[1])
        sites = sites_here
    credentials = _credentials(request)
    is_keyless = not any(site.webhook_keys for site in sites)
    keyed = [is_keyless or Keyring([site]).site_of(credentials) is not None for site in sites]
    refusals: list[UntrustedError] = []
    for has_key, site in sorted(zip(keyed, sites, strict=True), key=lambda pair: not pair[0]):
        settings = site.bitrix24 or Bitrix24()
        accounts = [settings.member_id] if settings.member_id else []
        trust = Trust(has_key=has_key, tokens=settings.application_tokens, accounts=accounts)
        try:
            Bitrix24Webhooks(site.zone).check(crm, trust)
        except UntrustedError as error:
            if error.kind != "stale":
                refusals.append(error)
                continue
        return site
    if refusals:
        raise refusals[0]
    return Site()


def _credentials(request: "RecordedRequest") -> list[bytes]:
    headers = {name.encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}
    parts = [unquote_to_bytes(part) for part in request.path.split("/") if part]
    return [*presented_keys(headers, request.query), *parts]
