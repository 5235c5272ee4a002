"""`closedloop sweep`: reads now what a CRM has not told, and shows how far it has come."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from closedloop.edge.cli.crm_process import asked_crms, crm_process
from closedloop.stages import clock
from closedloop.stages.crms import Crm
from closedloop.stages.sweep import SEEN_WITHIN, Sweeper


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `sweep` is asked for; without `since` it goes on from the last sweep."""

    site: str = "default"
    crm: str | None = None
    since: datetime | None = None
    all_deals: bool = False
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one sweep has read."""

    site: str
    crm: str
    deals: int
    checked: int


def run(wanted: Wanted) -> int:
    """Sweep, and return the exit code; errors leave as ours do."""
    swept = asyncio.run(sweep_all(wanted))
    if wanted.as_json:
        sys.stdout.write(json.dumps([msgspec.structs.asdict(one) for one in swept]) + "\n")
        return 0
    for one in swept:
        sys.stdout.write(
            f"{one.crm}: {one.deals} changed deals read, {one.checked} older ones looked at again.\n"
        )
    return 0


async def sweep_all(wanted: Wanted) -> list[Swept]:
    """Sweep every CRM that is meant, one after the other."""
    async with crm_process(wanted.config, wanted.data_dir) as (_, process):
        return [await sweep_one(wanted, crm) for crm in asked_crms(process, wanted.site, wanted.crm)]


async def sweep_one(wanted: Wanted, crm: Crm) -> Swept:
    """Sweep one CRM with a bar on standard error."""
    assert crm.client is not None  # noqa: S101 - `asked_crms` gives no other
    sweeper = Sweeper(crm.book, crm.client, crm.every)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=wanted.as_json) as bars:
        bar = bars.add_task(crm.name, total=None)
        deals = await sweeper.sweep(
            lambda seen, total: bars.update(bar, completed=seen, total=total), since=wanted.since
        )
        now = clock.now()
        checked = await sweeper.look_for_deletions(now if wanted.all_deals else now - SEEN_WITHIN)
    return Swept(site=wanted.site, crm=crm.name, deals=deals, checked=checked)


def day(text: str) -> datetime:
    """Return the beginning of a day in UTC, written `2026-11-01`, less the hours that a zone may be ahead."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) - timedelta(hours=14)
