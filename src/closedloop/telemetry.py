"""Logs and metrics: the names of all of them in one place, and keys masked in every line."""

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from structlog.typing import EventDict

REGISTRY = CollectorRegistry()

REQUESTS = Counter(
    "closedloop_hook_requests", "Requests to the hook by outcome.", ["outcome"], registry=REGISTRY
)
LATENCY = Histogram(
    "closedloop_hook_seconds",
    "From the first byte of a request to the answer.",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4),
    registry=REGISTRY,
)
BATCH_SIZE = Histogram(
    "closedloop_batch_size",
    "Webhooks in one commit.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 400),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "closedloop_commit_seconds",
    "One statement of the group commit, to durable.",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2),
    registry=REGISTRY,
)
QUEUE = Gauge("closedloop_queue", "Webhooks that wait for the next commit.", registry=REGISTRY)
SPOOL = Gauge(
    "closedloop_spool", "Webhooks in the local spool, waiting or parked.", ["state"], registry=REGISTRY
)
DATABASE_UP = Gauge("closedloop_database_up", "1 while the database takes writes.", registry=REGISTRY)
LATE_MATCHES = Counter(
    "closedloop_late_matches", "Conversions that found a session that came after them.", registry=REGISTRY
)
RESTORED = Counter(
    "closedloop_images_restored", "Goals put back into sessions that had lost them.", registry=REGISTRY
)
STAGE_FAILURES = Counter(
    "closedloop_stage_failures", "Rounds of a loop that ended in an error.", ["stage"], registry=REGISTRY
)

MASKED = re.compile(
    r"(?i)((?:[?&\s;]|^)(?:key|apikey|access_token|token|password)=)[^&\s]+"
    r"|(bearer\s+)\S+|(://[^:/@\s]*:)[^@\s]+(?=@)"
)


def masked(text: str) -> str:
    """Return `text` with every key, token and password in it replaced by three dots."""
    return MASKED.sub(lambda found: next(part for part in found.groups() if part) + "…", text)


def mask_event(_logger: Any, _method: str, event: "EventDict") -> "EventDict":  # noqa: ANN401 - structlog's own signature
    """Mask every text of one log line, the trace included."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = masked(value)
    return event


def set_up_logs(*, pretty: bool) -> None:
    """Send logs to standard error: JSON lines, or coloured ones for a person at a terminal."""
    renderer: Any = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_event,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
