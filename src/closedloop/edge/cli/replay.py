"""`closedloop replay`: works again on webhooks that could not be read, once what was wrong is mended."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg

from closedloop.edge.cli.crm_process import log_warnings_only, print_table, process_on
from closedloop.edge.cli.database import database_of, site_of
from closedloop.settings import Config
from closedloop.stages.crms import inbox_reader
from closedloop.stages.readback import DealReader
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
    log_warnings_only()
    with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
        site_of(settings, wanted.site)
        before = failed(conninfo, wanted)
        if wanted.dry_run or not before:
            show(before, wanted, settings, before_work(len(before)), read=0)
            return 0
        with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
            replay_failed(conn, wanted.site, wanted.source)
        asyncio.run(work(wanted, settings, conninfo))
        after = failed(conninfo, wanted)
    read = len({one.webhook_id for one in before} - {one.webhook_id for one in after})
    sentence = f"Read now: {read} of {len(before)}.{' Not read:' if after else ''}"
    show(after, wanted, settings, sentence, read=read)
    return 1 if after else 0


def failed(conninfo: str, wanted: Wanted) -> list[FailedWebhook]:
    """Return the webhooks that are meant and could not be read. Raises as `translated` does."""
    with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
        return find_failed(conn, wanted.site, wanted.source)


async def work(wanted: Wanted, settings: Config, conninfo: str) -> None:
    """Work on everything that waits, and ask for the deals that this is about."""
    async with process_on(settings, conninfo) as process:
        await inbox_reader(process.crms, wanted.site).work()
        for crm in process.crms.of[wanted.site].values():
            if crm.client is not None:
                reader = DealReader(crm.book, crm.client)
                while await reader.read_due():
                    pass


def before_work(count: int) -> str:
    """Return what is said of webhooks that are not worked on now."""
    if not count:
        return "Nothing to do: every webhook could be read."
    return f"{count} webhook{'' if count == 1 else 's'} would be worked on again:"


def show(
    webhooks: Sequence[FailedWebhook], wanted: Wanted, settings: Config, sentence: str, *, read: int
) -> None:
    """Print the webhooks that could not be read, in the site's time, as a table or as JSON."""
    zone = settings.sites[wanted.site].zone
    rows = [
        {
            "webhook_id": str(one.webhook_id),
            "source": one.source,
            "received_at": one.received_at.astimezone(zone).isoformat(),
            "reason": one.reason or "",
        }
        for one in webhooks
    ]
    if wanted.as_json:
        sys.stdout.write(json.dumps({"read": read, "failed": rows}, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(f"{sentence}\n")
    if rows:
        shown = [(row["received_at"][:19].replace("T", " "), row["source"], row["reason"]) for row in rows]
        print_table(("received", "from", "why"), shown[:SHOWN])
    if len(rows) > SHOWN:
        sys.stdout.write(f"… and {len(rows) - SHOWN} more; --json shows all.\n")
