"""Where a sweep over the changed deals of Bitrix24 is, and which pages come next; reads no deal."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from closedloop.errors import TransientError
from closedloop.parse.rest.answers import Table, inside, moment, object_id, rows, sweep_of
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, PAGE, Answers, command
from closedloop.parse.rest.bitrix24_known import DEAL

# So many pages in one answer take a portal some seconds; one call may take it sixty.
MAX_PAGES = 10
# A change that is being saved while we look gets an earlier moment than the one at which it can be seen.
OVERLAP = timedelta(minutes=10)


class Sweep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cursor: deals that changed at `since` or later, from the one behind `last`, in the order of ids.

    Going by ids instead of places, no deal is passed over when others are deleted or changed meanwhile. What
    changes behind `last` is seen by the next sweep, which goes back to `began`, by the portal's own clock.
    """

    since: datetime
    last: int = 0
    began: datetime | None = None
    total: int | None = None
    left: int = 0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The items of some pages, and from where the sweep goes on."""

    items: Sequence[Table]
    following: Sweep
    is_last: bool
    total: int | None


def cursor_of(sweep: Sweep) -> str:
    """Return a sweep as text that survives a restart."""
    return msgspec.json.encode(sweep).decode()


def read_cursor(cursor: str) -> Sweep:
    """Return the sweep of a cursor. Raises CallerError for a text that is none."""
    return sweep_of(cursor, Sweep, "Bitrix24")


def page_commands(sweep: Sweep) -> dict[str, str]:
    """Return the commands for the next pages: the first counts the deals, so that all others are known.

    Each page begins behind the last id of the one before it, which the portal puts in itself.
    Source: docs/protocols/bitrix24.md, 5.4 and 5.6.
    """
    pages = min(MAX_PAGES, max(1, -(-sweep.left // PAGE)))
    starts = [
        str(sweep.last),
        *(f"$result[{_name(page)}][items][{PAGE - 1}][id]" for page in range(pages - 1)),
    ]
    return {
        _name(page): command(
            "crm.item.list",
            {
                "entityTypeId": DEAL,
                "filter": {">=updatedTime": sweep.since.isoformat(), ">id": start},
                "order": {"id": "ASC"},
                "select": ["*"],
                "useOriginalUfNames": "Y",
                "start": 0 if sweep.total is None else -1,
            },
        )
        for page, start in enumerate(starts)
    }


def read_pages(sweep: Sweep, answers: Answers) -> Found:
    """Return the items of the pages, up to the first that is not full or not the continuation.

    A page whose predecessor had less than 50 deals was asked for with nothing to go on from, and begins
    again: it is left out. Raises TransientError when the first page is none, as nothing follows from it.
    """
    sweep = _begun(sweep, answers)
    items: list[Table] = []
    last, is_last = sweep.last, False
    for page in range(MAX_PAGES):
        result = answers.results.get(_name(page))
        found = rows(inside(result, "items"))
        ids = [int(object_id(item.get("id")) or 0) for item in found]
        if result is None or min(ids, default=last + 1) <= last:
            break
        items += found
        last = max(ids, default=last)
        if is_last := len(found) < PAGE:
            break
    if not items and not is_last:
        raise TransientError("Bitrix24 answered no page of deals in the order of their ids")
    following = replace(sweep, last=last, left=max(sweep.left - len(items), 0))
    if is_last:
        following = Sweep(since=sweep.since if sweep.began is None else sweep.began - OVERLAP)
    return Found(items=items, following=following, is_last=is_last, total=sweep.total)


def _begun(sweep: Sweep, answers: Answers) -> Sweep:
    """Return the sweep with what only its first page tells: how many deals, and when it was by the portal."""
    if sweep.total is not None:
        return sweep
    total = int(object_id(answers.totals.get(_name(0))) or 0)
    began = moment(inside(answers.times[0], "date_start")) if answers.times else None
    return replace(sweep, total=total, left=total, began=began)


def _name(page: int) -> str:
    return f"{OPTIONAL}p{page}" if page else "p0"
