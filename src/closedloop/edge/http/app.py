"""Builds the Litestar application around a running process."""

import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from litestar import Litestar
from litestar.datastructures import State

from closedloop.edge.http.check import check_data, check_page, check_script, check_style
from closedloop.edge.http.collect import PATH as COLLECT_PATH
from closedloop.edge.http.collect import Collect
from closedloop.edge.http.crm_webhooks import PATH as CRM_PATH
from closedloop.edge.http.crm_webhooks import CrmWebhook
from closedloop.edge.http.health import healthz, metrics, readyz
from closedloop.edge.http.hook import PATH as HOOK_PATH
from closedloop.edge.http.hook import Hook
from closedloop.edge.http.keys import Keyring
from closedloop.edge.http.openapi import openapi
from closedloop.edge.http.recent import Recent
from closedloop.edge.http.reconcile import reconcile
from closedloop.edge.http.tracker import PATH as SCRIPT_PATH
from closedloop.edge.http.tracker import TrackerScript
from closedloop.edge.http.webhooks import PATH as TILDA_PATH
from closedloop.edge.http.webhooks import TildaWebhook
from closedloop.stages.process import Process

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


def make_app(process: Process) -> ASGIApp:
    """Return the application; the process behind it is started and stopped by the caller.

    The hot endpoints are called before Litestar sees the request: its router and its middleware would do
    nothing for them, and cost a tenth of the processor time of a webhook
    (docs/decisions/008-hook-before-litestar.md).
    """
    config = process.config
    recent = Recent()
    collect = Collect(config.sites, process.hit_writer, recent)
    tracker = TrackerScript(config.tracker)
    keyring = Keyring(config.sites.values())
    tilda = TildaWebhook(config.sites, keyring, process.intake)
    crm = CrmWebhook(config.sites, keyring, process.intake)
    raw: Mapping[str, ASGIApp] = {
        HOOK_PATH: Hook(keyring, process.intake, process.shape),
        COLLECT_PATH: collect,
        f"/{config.tracker.collect}": collect,
        SCRIPT_PATH: tracker,
        f"/{config.tracker.script}": tracker,
    }
    with pydantic_left_out():
        rest = Litestar(
            route_handlers=[
                *(healthz, readyz, metrics, openapi),
                *(check_page, check_script, check_style, check_data, reconcile),
            ],
            state=State({"process": process, "recent": recent, "keyring": keyring}),
            openapi_config=None,
            logging_config=None,
        )

    def native(path: str) -> ASGIApp:
        if TILDA_PATH.fullmatch(path):
            return tilda
        return crm if CRM_PATH.fullmatch(path) else rest

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        handler: ASGIApp = rest
        if scope["type"] == "http":
            path = scope["path"].rstrip("/")
            handler = raw.get(path) or native(path)
        await handler(scope, receive, send)

    return application


@contextmanager
def pydantic_left_out() -> Generator[None]:
    """Keep Litestar from loading pydantic, which comes along with it and which nothing here uses.

    Its plugin is loaded wherever pydantic is installed; it costs 8 MB of the 80 that an idle server may take.
    """
    loaded = "pydantic" in sys.modules
    if not loaded:
        sys.modules["pydantic"] = None  # type: ignore[assignment]  # Python's own way to forbid an import
    yield
    if not loaded:
        del sys.modules["pydantic"]
