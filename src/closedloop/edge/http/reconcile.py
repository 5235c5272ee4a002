"""GET /api/v1/reconcile: the comparison of a CRM's deals with ours, for programs."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State

from closedloop.domain.reconcile import period
from closedloop.edge.http.answers import sentence
from closedloop.edge.http.keys import Keyring, presented_keys, refusal
from closedloop.errors import ClosedloopError, OperatorError, TransientError
from closedloop.stages.process import Process
from closedloop.stages.reconcile import Reconciler


def said(status: int, text: str) -> Response[bytes]:
    """Return an error as all of ours are."""
    return Response(sentence(text), status_code=status, media_type="application/json")


@get("/api/v1/reconcile", include_in_schema=False)
async def reconcile(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Return the comparison for the site whose key came: `{"bitrix24": {"in_crm": 3, "here": 2, …}}`."""
    process: Process = state.process
    keyring: Keyring = state.keyring
    credentials = presented_keys(dict(request.scope["headers"]), b"")
    site = keyring.site_of(credentials)
    if site is None:
        return said(401, str(refusal(credentials)))
    asked = request.query_params
    crms = [crm for crm in process.crms.of[site.name].values() if crm.client is not None]
    try:
        start, end = period(str(asked.get("from", "")), str(asked.get("to", "")), site.zone)
        compared = {
            crm.name: await Reconciler(crm.book, crm.client).compare(start, end, lambda _seen, _total: None)
            for crm in crms
            if crm.client is not None
        }
    except TransientError as error:
        return said(503, str(error))
    except OperatorError as error:
        return said(400, str(error))
    except ClosedloopError as error:
        return said(500, str(error))
    return Response(msgspec.json.encode(compared), media_type="application/json")
