"""`closedloop deliveries`: what was told to which destination, what waits, and what was refused."""

import sys
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import psycopg

from closedloop.domain.money import decimal_text
from closedloop.edge.cli.crm_process import print_table
from closedloop.edge.cli.database import database_of, site_of
from closedloop.edge.cli.why import moment
from closedloop.store.database import translated
from closedloop.store.story import ListedDelivery, list_deliveries


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `deliveries` is asked for."""

    site: str = "default"
    destination: str | None = None
    state: str | None = None
    limit: int = 50
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Print deliveries, changed last first, and return the exit code."""
    with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
        zone = site_of(settings, wanted.site).zone
        with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
            found = list_deliveries(conn, wanted.site, wanted.destination, wanted.state, wanted.limit)
    if wanted.as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    elif found:
        show(found, zone)
    else:
        sys.stdout.write("No deliveries: nothing was recorded yet, or no destination is configured.\n")
    return 0


def show(found: Sequence[ListedDelivery], zone: ZoneInfo) -> None:
    """Print a table."""
    heads = ("changed", "destination", "deal", "goal", "value", "state", "outcome", "deadline", "why")
    rows = [
        (
            moment(one.changed_at, zone),
            one.destination,
            one.deal_id or "-",
            one.goal,
            f"{decimal_text(one.value)} {one.currency}",
            one.state,
            one.outcome or "-",
            moment(one.deadline, zone) if one.deadline else "-",
            one.reason or "",
        )
        for one in found
    ]
    print_table(heads, rows)
