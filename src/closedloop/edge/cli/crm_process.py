"""What the commands over CRMs share: a process without loops, a bar that shows how far they are, a table."""

import contextlib
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from closedloop.edge.cli.database import database_of
from closedloop.settings import Config
from closedloop.stages.crm import FEW_TRIES
from closedloop.stages.process import Process
from closedloop.telemetry import set_up_logs


def log_warnings_only() -> None:
    """Send warnings and errors to standard error: standard output belongs to what was asked for."""
    set_up_logs(pretty=sys.stderr.isatty(), least=logging.WARNING)


@contextlib.asynccontextmanager
async def crm_process(config: Path | None, data_dir: Path | None) -> AsyncGenerator[tuple[Config, Process]]:
    """Give the settings and a process as `process_on` does; errors as `database_of` and `process_on`."""
    with database_of(config, data_dir) as (settings, conninfo):
        async with process_on(settings, conninfo) as process:
            yield settings, process


@contextlib.asynccontextmanager
async def process_on(settings: Config, conninfo: str) -> AsyncGenerator[Process]:
    """Give a process that writes and runs no loop. Raises DatabaseAwayError when nothing can be written."""
    process = Process(settings, conninfo, web=False, worker=False)
    for of_site in process.crms.of.values():
        for crm in of_site.values():
            if crm.client is not None:
                crm.client.tries = FEW_TRIES
    await process.start()
    try:
        if (away := process.readiness()) is not None:
            raise away
        yield process
    finally:
        await process.stop()


@contextlib.contextmanager
def progress_bar(name: str, *, quiet: bool) -> Generator[Callable[[int, int | None], None]]:
    """Give what shows on standard error how many of how many deals were read; None as total is not known."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda seen, total: bars.update(bar, completed=seen, total=total)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as the terminal; what strangers typed is shown as it is and commands nothing."""
    table = Table(*heads)
    for row in rows:
        table.add_row(*("".join(one if one.isprintable() else "?" for one in cell) for cell in row))
    Console(markup=False, emoji=False, highlight=False).print(table)
