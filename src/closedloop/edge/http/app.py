"""Builds the Litestar application around a running process."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from litestar import Litestar, asgi
from litestar.datastructures import State
from litestar.handlers import ASGIRouteHandler

from closedloop.edge.http.health import healthz, metrics, readyz
from closedloop.edge.http.hook import PATH, Hook
from closedloop.edge.http.keys import Keyring
from closedloop.edge.http.openapi import openapi
from closedloop.stages.process import Process


def make_app(process: Process) -> Litestar:
    """Return the application; the process behind it is started and stopped by the caller."""
    hook = Hook(Keyring(process.config.sites.values()), process.intake, process.shape)
    with pydantic_left_out():
        return Litestar(
            route_handlers=[raw(PATH, hook), healthz, readyz, metrics, openapi],
            state=State({"process": process}),
            openapi_config=None,
        )


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


def raw(path: str, endpoint: Any) -> ASGIRouteHandler:  # noqa: ANN401 - ASGI
    """Return a route that hands every request to `endpoint` untouched, whatever its method."""

    @asgi(path, copy_scope=False)
    async def handle(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await endpoint(scope, receive, send)

    return handle
