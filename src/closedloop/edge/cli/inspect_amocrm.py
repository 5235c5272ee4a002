"""`closedloop inspect amocrm`: what a recorded webhook of amoCRM tells, and whether we would believe it."""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import unquote

from closedloop.domain.money import decimal_text
from closedloop.edge.http.keys import Keyring, presented_keys, without_key
from closedloop.errors import CallerError
from closedloop.parse.base import CrmRequest, Trust
from closedloop.parse.crm.amocrm import (
    AmoAccount,
    AmoCrmWebhooks,
    AmoEvent,
    AmoField,
    read_account,
    read_events,
)
from closedloop.settings import Site
from closedloop.stages import clock

if TYPE_CHECKING:
    from closedloop.edge.cli.inspect import RecordedRequest

_SITE = re.compile(r"/webhooks/([^/]+)/")


def inspect_amocrm(request: "RecordedRequest", *, sites: Collection[Site] = ()) -> dict[str, object]:
    """Return the reading of a webhook: `source`, `accept`, `reason`, `account` and `events`.

    Without a key in `sites` any key is taken as the right one; else it stands as `?key=` or as the last
    part of the path. `account` is shown of refused webhooks, too, since a wrong one is the usual reason;
    `events` are empty then. What a webhook does not carry is None.
    Source: tests/recorded/README.md.
    """
    webhook = CrmRequest(
        query=without_key(request.query),
        content_type=request.headers.get("content-type", ""),
        body=request.body,
        received_at=clock.now(),
    )
    account = AmoAccount()
    adapter = AmoCrmWebhooks()
    try:
        if request.method != "POST":
            return _told(account, f"The method {request.method} is not known here; amoCRM sends POST.")
        trust = _trust(request, sites)
        account = read_account(webhook)
        adapter.check(webhook, trust)
        adapter.read(webhook)
        events = read_events(webhook)
    except CallerError as error:
        return _told(account, str(error))
    return _told(account, None, events)


def _trust(request: "RecordedRequest", sites: Collection[Site]) -> Trust:
    """Return what the webhook is believed by: its site is the one in the path, else the one of its key."""
    named = _SITE.match(request.path)
    ours = [site for site in sites if named is None or site.name == named[1]]
    if any(site.webhook_keys for site in sites):
        last = unquote(request.path.rstrip("/").rpartition("/")[2])
        site = Keyring(ours).site_of([*presented_keys({}, request.query), last.encode()])
    else:
        site = next((site for site in ours if site.name == "default"), ours[0] if len(ours) == 1 else Site())
    if site is None:
        return Trust(has_key=False)
    return Trust(has_key=True, accounts=site.amocrm.accounts if site.amocrm else ())


def _told(account: AmoAccount, reason: str | None, events: Collection[AmoEvent] = ()) -> dict[str, object]:
    return {
        "source": "amocrm",
        "accept": reason is None,
        "reason": reason,
        "account": {"id": account.id, "subdomain": account.subdomain},
        "events": [_event(event) for event in events],
    }


def _event(event: AmoEvent) -> dict[str, object]:
    fields = event.custom_fields
    return {
        "entity": event.entity,
        "action": event.action,
        "id": event.id,
        "name": event.name,
        "status_id": event.status_id,
        "old_status_id": event.old_status_id,
        "pipeline_id": event.pipeline_id,
        "old_pipeline_id": event.old_pipeline_id,
        "outcome": event.outcome,
        "price": None if event.price is None else decimal_text(event.price),
        "last_modified": event.last_modified,
        "custom_fields": None if fields is None else [_field(field) for field in fields],
        "tags": event.tags,
        "linked_lead_ids": event.linked_lead_ids,
        "lead_ids": event.lead_ids,
        "contact_ids": event.contact_ids,
    }


def _field(field: AmoField) -> dict[str, object]:
    values = [{"value": value.value, "enum": value.enum} for value in field.values]
    return {"id": field.id, "name": field.name, "code": field.code, "values": values}
