"""`closedloop reconcile`: the proof that no deal was lost, or the list of those that were."""

import asyncio
import sys
from datetime import datetime
from pathlib import Path

import msgspec

from closedloop.domain.reconcile import WRONG, Comparison, Difference, period
from closedloop.edge.cli.crm_process import crm_process, log_warnings_only, print_table, progress_bar
from closedloop.stages.crms import Crm
from closedloop.stages.reconcile import Reconciler

WORDS = {
    "missing": "won there, not here",
    "extra": "here, not there",
    "value": "different sums",
    "no_session": "no session",
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `reconcile` is asked for; both days belong to the period, in the site's time zone."""

    start: str
    end: str
    site: str = "default"
    crm: str | None = None
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Compare, print, and return the exit code: 1 when anything is missing, too much or of another sum."""
    log_warnings_only()
    compared = asyncio.run(compare_all(wanted))
    if wanted.as_json:
        sys.stdout.write(msgspec.json.encode(compared).decode() + "\n")
    else:
        for name, comparison in compared.items():
            show(name, comparison)
    return 0 if all(comparison.is_complete for comparison in compared.values()) else 1


async def compare_all(wanted: Wanted) -> dict[str, Comparison]:
    """Return the comparison with every CRM that is meant, by its name."""
    async with crm_process(wanted.config, wanted.data_dir) as (settings, process):
        crms = process.crms.asked(wanted.site, wanted.crm)
        start, end = period(wanted.start, wanted.end, settings.sites[wanted.site].zone)
        return {crm.name: await compare_one(crm, start, end, quiet=wanted.as_json) for crm in crms}


async def compare_one(crm: Crm, start: datetime, end: datetime, *, quiet: bool) -> Comparison:
    """Return the comparison with one CRM, with a bar on standard error."""
    assert crm.client is not None  # noqa: S101 - `asked` gives no other
    with progress_bar(crm.name, quiet=quiet) as progress:
        return await Reconciler(crm.book, crm.client).compare(start, end, progress)


def show(name: str, comparison: Comparison) -> None:
    """Print one comparison: the verdict first, then the deals, what is wrong before what has no session."""
    wrong = sum(one.kind in WRONG for one in comparison.differences)
    verdict = "nothing is missing" if comparison.is_complete else f"{wrong} differ{'s' if wrong == 1 else ''}"
    sys.stdout.write(
        f"{name}: {comparison.in_crm} reached there, {comparison.here} of them here; {verdict}.\n"
    )
    if comparison.differences:
        print_table(
            ("deal", "goal", "what", "in the CRM", "here", "why"),
            [
                (one.deal_id, one.goal, WORDS[one.kind], one.in_crm or "-", one.here or "-", one.why)
                for one in sorted(comparison.differences, key=place)
            ],
        )


def place(one: Difference) -> tuple[bool, str, int, str]:
    """Return by what differences are sorted: ids that are numbers by their size."""
    return one.kind not in WRONG, one.kind, len(one.deal_id), one.deal_id
