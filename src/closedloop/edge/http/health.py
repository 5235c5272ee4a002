"""Whether the process lives and whether it can serve; and its numbers for Prometheus."""

from typing import Any

from litestar import Response, get
from litestar.datastructures import State
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from closedloop.errors import ClosedloopError
from closedloop.stages.process import Process
from closedloop.store.database import borrowed
from closedloop.telemetry import REGISTRY


@get("/healthz", include_in_schema=False)
async def healthz() -> dict[str, str]:
    """Return 200 while the process lives."""
    return {"status": "alive"}


@get("/readyz", include_in_schema=False)
async def readyz(state: State) -> Response[dict[str, Any]]:
    """Return 200 when the database answers and is migrated, else 503 with the reason."""
    process: Process = state.process
    reason: ClosedloopError | None = process.readiness()
    if reason is None:
        try:
            async with borrowed(process.pool) as conn:
                await conn.execute("select 1")
        except ClosedloopError as error:
            reason = error
    if reason is None:
        return Response({"status": "ready"})
    return Response(
        {"status": "not ready", "reason": str(reason)}, status_code=503, headers={"retry-after": "5"}
    )


@get("/metrics", include_in_schema=False)
async def metrics() -> Response[bytes]:
    """Return every metric in Prometheus' text format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
