"""GET /api/v1/reconcile: the comparison of a CRM's deals with ours, for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State

from closedloop.domain.reconcile import Comparison, period
from closedloop.edge.http.answers import sentence
from closedloop.edge.http.keys import Keyring, presented_keys, refusal
from closedloop.errors import CallerError, ClosedloopError, CrmRefusedError, OperatorError, TransientError
from closedloop.settings import Site
from closedloop.stages.process import Process
from closedloop.stages.reconcile import Reconciler
from closedloop.stages.sweep import silent

PATH = "/api/v1/reconcile"
# The first class that fits answers; OperatorError says that no CRM can be asked.
STATUSES: Sequence[tuple[type[ClosedloopError], int]] = (
    (CallerError, 400),
    (CrmRefusedError, 502),
    (OperatorError, 404),
    (TransientError, 503),
    (ClosedloopError, 500),
)


@get(PATH, include_in_schema=False)
async def reconcile(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Return the comparison for the site whose key came: `{"bitrix24": {"in_crm": 3, "here": 2, …}}`."""
    credentials = presented_keys(dict(request.scope["headers"]), b"")
    keyring: Keyring = state.keyring
    site = keyring.site_of(credentials)
    if site is None:
        return said(401, str(refusal(credentials)), {"www-authenticate": "Bearer"})
    try:
        compared = await compare(state.process, site, dict(request.query_params))
    except ClosedloopError as error:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        again = {"retry-after": str(error.retry_after)} if isinstance(error, TransientError) else {}
        return said(status, str(error), again)
    return Response(msgspec.json.encode(compared), media_type="application/json")


async def compare(process: Process, site: Site, asked: Mapping[str, Any]) -> dict[str, Comparison]:
    """Return the comparison with every CRM that is meant, by its name. Raises what `STATUSES` lists."""
    days = {key: asked.get(key) for key in ("from", "to")}
    for key, day in days.items():
        if not day:
            raise CallerError(key, "is missing: it is a day such as 2026-11-01")
    start, end = period(str(days["from"]), str(days["to"]), site.zone)
    return {
        crm.name: await Reconciler(crm.book, crm.client.impatient()).compare(start, end, silent)
        for crm in process.crms.asked(site.name, asked.get("crm"))
        if crm.client is not None
    }


def said(status: int, text: str, headers: Mapping[str, str]) -> Response[bytes]:
    """Return an error as all of ours are."""
    body = sentence(text)
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers))
