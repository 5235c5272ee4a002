"""`closedloop replay`: works again on webhooks that could not be read, once what was wrong is mended."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from closedloop.edge.cli.crm_process import crm_process
from closedloop.edge.cli.database import database_of
from closedloop.errors import OperatorError
from closedloop.stages.crms import inbox_reader
from closedloop.store.database import translated
from closedloop.store.inbox import FailedWebhook, find_failed, replay_failed

SHOWN = 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `replay` is asked for."""

    site: str = "default"
    source: str | None = None
    dry_run: bool = False
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Work again on what failed, and return the exit code: 1 when something fails again."""
    with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
        if wanted.site not in settings.sites:
            raise OperatorError(f"there is no site {wanted.site}; known are: {', '.join(settings.sites)}")
        with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
            before = find_failed(conn, wanted.site, wanted.source)
            if not wanted.dry_run:
                replay_failed(conn, wanted.site, wanted.source)
    if wanted.dry_run:
        show(before, wanted, "Would be worked on again.")
        return 0
    asyncio.run(work(wanted))
    with (
        database_of(wanted.config, wanted.data_dir) as (_, conninfo),
        translated(),
        psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn,
    ):
        after = find_failed(conn, wanted.site, wanted.source)
    show(after, wanted, f"{len(before) - len(after)} of {len(before)} are read now; these are not:")
    return 1 if after else 0


async def work(wanted: Wanted) -> None:
    """Work on everything that waits."""
    async with crm_process(wanted.config, wanted.data_dir) as (_, process):
        await inbox_reader(process.crms, wanted.site).work()


def show(failed: Sequence[FailedWebhook], wanted: Wanted, sentence: str) -> None:
    """Print the webhooks that could not be read, as a table or as JSON."""
    rows = [
        {
            "webhook_id": str(one.webhook_id),
            "source": one.source,
            "received_at": one.received_at.isoformat(),
            "reason": one.reason,
        }
        for one in failed
    ]
    if wanted.as_json:
        sys.stdout.write(json.dumps({"failed": rows}, ensure_ascii=False) + "\n")
        return
    console = Console()
    console.print(sentence)
    table = Table("received", "from", "why")
    for row in rows[:SHOWN]:
        table.add_row(str(row["received_at"])[:19], str(row["source"]), str(row["reason"]))
    if rows:
        console.print(table)
    if len(rows) > SHOWN:
        console.print(f"… and {len(rows) - SHOWN} more; --json shows all.")
