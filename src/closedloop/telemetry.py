"""Logs and metrics: the names of all of them in one place, and keys masked in every line."""

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

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
    "Webhooks, or hits, in one commit.",
    ["what"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 400),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "closedloop_commit_seconds",
    "One statement of the group commit, to durable.",
    ["what"],
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2),
    registry=REGISTRY,
)
QUEUE = Gauge(
    "closedloop_queue", "Webhooks, or hits, that wait for the next commit.", ["what"], registry=REGISTRY
)
WEBHOOKS = Counter(
    "closedloop_webhooks", "Native webhooks by source and outcome.", ["source", "outcome"], registry=REGISTRY
)
HITS = Counter("closedloop_hits", "Hits of the tracker by outcome.", ["outcome"], registry=REGISTRY)
HIT_LATENCY = Histogram(
    "closedloop_hit_seconds",
    "From the first byte of a hit to the answer.",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4),
    registry=REGISTRY,
)
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
INBOX = Gauge(
    "closedloop_inbox",
    "Webhooks that wait for work, or could not be read.",
    ["site", "outcome"],
    registry=REGISTRY,
)
CRM_CALLS = Counter(
    "closedloop_crm_calls", "Calls of a CRM's API by what came back.", ["crm", "result"], registry=REGISTRY
)
CRM_REFUSES = Gauge(
    "closedloop_crm_refuses",
    "1 while a CRM refuses us until its owner acts.",
    ["site", "crm"],
    registry=REGISTRY,
)
DEALS_READ = Counter(
    "closedloop_deals_read",
    "Deals that a CRM showed us, by how they came.",
    ["crm", "how"],
    registry=REGISTRY,
)

HIDDEN_NAMES = (
    r"apikey|x-webhook-key|access_token|refresh_token|client_secret"
    r"|application_token|password|secret|rest_url"
)
MASKED = re.compile(
    # In an address; elsewhere the bare words are too common.
    r"((?<![\w-])(?:key|token)=)[^&\s]+"
    # In an address, a libpq conninfo, a header, a printed table.
    rf"|((?<![\w-])(?:{HIDDEN_NAMES})['\"]?\s*[:=]\s*['\"]?)(?:(?<=')(?:[^'\\]|\\.)+|[^&\s]+)"
    r"|(\bbearer\s+)\S+|(\bbasic\s+)[\w+/-]{8,}={0,2}|(\bwhsec_)\S+"
    # The code of an incoming webhook of Bitrix24.
    r"|(/rest/[0-9]+/)[A-Za-z0-9]{8,}"
    # A password may hold an @ that nobody escaped: up to the last one.
    r"|(://[^:/@\s]*:)\S+(?=@)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return `text` with every key, token and password in it replaced by three dots."""
    return MASKED.sub(lambda found: next(part for part in found.groups() if part) + "…", text)


def masked_value(value: object) -> object:
    """Return one value of a log line, every text in it masked; what JSON does not know becomes text."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return masked(value)
        case Mapping():
            table = cast("Mapping[object, object]", value)
            return {str(name): masked_field(str(name), inner) for name, inner in table.items()}
        case list() | tuple() | set() | frozenset():
            return [masked_value(inner) for inner in cast("Iterable[object]", value)]
        case _:
            return masked(repr(value))


def masked_field(name: str, value: object) -> object:
    """Return the value of a named field: nothing of it when the name says that it is a secret."""
    return "…" if re.fullmatch(HIDDEN_NAMES, name, re.IGNORECASE) else masked_value(value)


def mask_event(_logger: Any, _method: str, event: "EventDict") -> "EventDict":  # noqa: ANN401 - structlog's own signature
    """Mask every text of one log line, the trace included."""
    return {name: masked_field(name, value) for name, value in event.items()}


def set_up_logs(*, pretty: bool, least: int = logging.INFO) -> None:
    """Send logs from the level `least` on to standard error: JSON lines, or coloured ones for a person."""
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
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
