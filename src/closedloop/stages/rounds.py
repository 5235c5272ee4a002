"""What every endless loop does with an error: it ends a round, and never the loop."""

from collections.abc import Generator
from contextlib import contextmanager

import structlog

from closedloop.errors import ClosedloopError, TransientError
from closedloop.telemetry import STAGE_FAILURES

log = structlog.get_logger()


@contextmanager
def one_round(
    stage: str, *, passing: tuple[type[ClosedloopError], ...] = (TransientError,), **about: str
) -> Generator[None]:
    """Let errors of one round end here: `passing` ones are said, all others counted and logged whole.

    `about` is logged beside them: the site, the destination.
    """
    waits, failed = f"{stage}_waits", f"{stage}_failed"
    try:
        yield
    except passing as error:
        log.info(waits, reason=str(error), **about)
    except Exception:
        STAGE_FAILURES.labels(stage).inc()
        log.exception(failed, **about)
