"""What the commands over CRMs share: a process without loops, and which CRMs are meant."""

import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from closedloop.edge.cli.database import database_of
from closedloop.errors import OperatorError
from closedloop.settings import Config
from closedloop.stages.crms import Crm
from closedloop.stages.process import Process
from closedloop.telemetry import set_up_logs


@contextlib.asynccontextmanager
async def crm_process(config: Path | None, data_dir: Path | None) -> AsyncGenerator[tuple[Config, Process]]:
    """Give the settings and a process that writes and runs no loop. Raises DatabaseAwayError."""
    set_up_logs(pretty=sys.stderr.isatty(), quiet=True)
    with database_of(config, data_dir) as (settings, conninfo):
        process = Process(settings, conninfo, web=False, worker=False)
        await process.start()
        try:
            if (away := process.readiness()) is not None:
                raise away
            yield settings, process
        finally:
            await process.stop()


def asked_crms(process: Process, site: str, crm: str | None) -> list[Crm]:
    """Return the CRMs of a site that can be asked, or the named one. Raises OperatorError for none."""
    if site not in process.crms.of:
        raise OperatorError(f"there is no site {site}; known are: {', '.join(process.crms.of)}")
    known = process.crms.of[site]
    if crm is not None and crm not in known:
        raise OperatorError(f"there is no CRM {crm}; known are: {', '.join(known)}")
    named = [one for name, one in known.items() if crm in {None, name} and one.client is not None]
    if not named:
        raise OperatorError(
            f"no CRM of site {site} can be asked: set bitrix24.rest_url, or amocrm.base_url and access_token"
        )
    return named
