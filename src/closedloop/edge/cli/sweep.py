"""`closedloop sweep`: reads now what a CRM has not told, and shows how far it has come."""

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path

import msgspec

from closedloop.domain.moment import read_day, start_of
from closedloop.edge.cli.crm_process import crm_process, log_warnings_only, progress_bar
from closedloop.stages import clock
from closedloop.stages.crms import Crm
from closedloop.stages.sweep import FOR_EVER, SEEN_WITHIN, Sweeper


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `sweep` is asked for; `since` is a day of the site, None goes on from the last sweep."""

    site: str = "default"
    crm: str | None = None
    since: str | None = None
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
    log_warnings_only()
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
    async with crm_process(wanted.config, wanted.data_dir) as (settings, process):
        crms = process.crms.asked(wanted.site, wanted.crm)
        since = None
        if wanted.since is not None:
            since = start_of(read_day(wanted.since, key="since"), settings.sites[wanted.site].zone)
        return [await sweep_one(wanted, crm, since) for crm in crms]


async def sweep_one(wanted: Wanted, crm: Crm, since: datetime | None) -> Swept:
    """Sweep one CRM with a bar on standard error."""
    assert crm.client is not None  # noqa: S101 - `asked` gives no other
    sweeper = Sweeper(crm.book, crm.client, crm.every)
    with progress_bar(crm.name, quiet=wanted.as_json) as progress:
        now = clock.now()
        deals = await sweeper.catch_up(progress, since)
    with progress_bar(f"{crm.name}, older deals", quiet=wanted.as_json) as progress:
        if wanted.all_deals:
            checked = await sweeper.look_for_deletions(now, progress, FOR_EVER)
        else:
            checked = await sweeper.look_for_deletions(now - SEEN_WITHIN, progress)
    return Swept(site=wanted.site, crm=crm.name, deals=deals, checked=checked)
