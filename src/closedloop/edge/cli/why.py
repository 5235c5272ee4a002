"""`closedloop why`: the journal of one deal as a story, from what came in to what happens next."""

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import psycopg

from closedloop.domain.money import decimal_text
from closedloop.domain.story import sentence
from closedloop.edge.cli.database import database_of, site_of
from closedloop.store.database import translated
from closedloop.store.story import Story, ToldDelivery, find_stories


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `why` is asked for: a deal's id, or a conversion's."""

    deal: str
    site: str = "default"
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Print the story, and return the exit code: 1 when nothing is known of the deal."""
    with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
        zone = site_of(settings, wanted.site).zone
        with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
            stories = find_stories(conn, wanted.site, wanted.deal)
    if wanted.as_json:
        sys.stdout.write(msgspec.json.encode(stories).decode() + "\n")
    elif stories:
        sys.stdout.write("\n".join("\n".join(lines_of(story, zone)) for story in stories) + "\n")
    else:
        sys.stdout.write(
            f"Nothing is known of deal {wanted.deal}: nobody has told of a goal of it. "
            "If it is won in the CRM, run closedloop reconcile.\n"
        )
    return 0 if stories else 1


def lines_of(story: Story, zone: ZoneInfo) -> list[str]:
    """Return the story of one conversion, a line for each step."""
    one = story.conversion
    standing = "cancelled" if one.cancelled_at else "counts"
    found = f"session row {one.session_row} by {one.rule}" if one.session_row else "no session yet"
    name = f"Deal {one.deal_id or '-'}, {one.goal}"
    head = f"{name}: {decimal_text(one.value)} {one.currency}, {standing}; {found}."
    entries = [
        f"  {moment(entry.at, zone)}  {sentence(entry.kind, entry.detail)}"
        + (f" (by {entry.source})" if entry.source else "")
        for entry in story.entries
    ]
    return [head, *entries, *(f"  → {delivery(one, zone)}" for one in story.deliveries)]


def delivery(one: ToldDelivery, zone: ZoneInfo) -> str:
    """Return how it stands with one destination, and what happens next."""
    reason = f": {one.reason}" if one.reason else ""
    match one.state:
        case "due":
            again = f", attempt {one.attempt + 1}" if one.attempt else ""
            return f"{one.destination}: to be sent at {moment(one.due_at, zone)}{again}{reason}"
        case "sending":
            return f"{one.destination}: on its way"
        case "pending":
            return f"{one.destination}: taken; its verdict is asked for later{reason}"
        case "parked":
            return f"{one.destination}: set aside ({one.outcome}){reason}"
        case _:
            return f"{one.destination}: {one.outcome} at {moment(one.changed_at, zone)}{reason}"


def moment(at: datetime, zone: ZoneInfo) -> str:
    """Return a moment as the site's people read it."""
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
