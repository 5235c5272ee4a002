"""A sweep makes up for lost events: no deal that changed is passed over, whatever happens meanwhile."""

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.domain.deal import Deal
from closedloop.errors import CallerError, TransientError
from closedloop.parse.rest.answers import Json
from closedloop.parse.rest.bitrix24 import Bitrix24Api
from closedloop.parse.rest.bitrix24_batch import Answers
from closedloop.parse.rest.bitrix24_sweep import (
    MAX_PAGES,
    OVERLAP,
    Sweep,
    cursor_of,
    page_commands,
    read_cursor,
    read_pages,
)
from fix_conversation import play
from fix_portal import Portal

MOSCOW = timezone(timedelta(hours=3))
SINCE = datetime(2025, 3, 8, 12, tzinfo=UTC)
BEGAN = datetime(2025, 3, 8, 15, 20, 3, tzinfo=MOSCOW)


def change(portal: Portal, number: int, minute: int) -> None:
    """Put a deal into the portal that changed so many minutes after the sweep's beginning."""
    at = (SINCE + timedelta(minutes=minute)).astimezone(MOSCOW).isoformat()
    portal.items[2][number] = {"id": number, "updatedTime": at, "stageId": "NEW", "stageSemanticId": "P"}


def portal_of(numbers: range) -> Portal:
    """Return a portal with deals that changed."""
    portal = Portal()
    for number in numbers:
        change(portal, number, 1)
    return portal


def sweep(api: Bitrix24Api, portal: Portal, cursor: str) -> tuple[list[Deal], str]:
    """Return the deals of a whole sweep and the cursor of the next."""
    deals: list[Deal] = []
    for _ in range(1000):
        page = play(api, api.changed_deals(cursor), portal)
        deals += page.deals
        cursor = page.cursor
        if page.is_last:
            return deals, cursor
    raise AssertionError("the sweep does not end")


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100, 549, 550, 551, 1234])
def test_every_changed_deal_is_told_once(count: int) -> None:
    """Pages are of fifty, and the last may be full."""
    api, portal = Bitrix24Api(), portal_of(range(1, count + 1))
    change(portal, 5000, -1)

    deals, _ = sweep(api, portal, api.first_cursor(SINCE))

    assert [deal.deal_id for deal in deals] == [str(number) for number in range(1, count + 1)]


def test_large_sweep_takes_few_calls() -> None:
    """Two calls a second are all that a portal allows."""
    api, portal = Bitrix24Api(), portal_of(range(1, 5001))

    deals, _ = sweep(api, portal, api.first_cursor(SINCE))

    assert len(deals) == 5000
    assert portal.requests <= 15


def test_page_says_how_many_there_are() -> None:
    """Whoever waits for the first sweep of a large portal sees how far it is."""
    api, portal = Bitrix24Api(), portal_of(range(1, 121))
    first = play(api, api.changed_deals(api.first_cursor(SINCE)), portal)

    second = play(api, api.changed_deals(first.cursor), portal)

    assert (len(first.deals), first.total, first.is_last) == (50, 120, False)
    assert (len(second.deals), second.total, second.is_last) == (70, 120, True)


def test_next_sweep_goes_back_before_this_one_began() -> None:
    """What changed behind us while we read must be seen; our own clock is not asked."""
    api, portal = Bitrix24Api(), portal_of(range(1, 3))

    _, cursor = sweep(api, portal, api.first_cursor(SINCE))

    assert read_cursor(cursor) == Sweep(since=BEGAN - OVERLAP)


def test_portal_without_a_clock_is_swept_from_the_same_moment() -> None:
    """Going back each time would sweep everything in the end, going on would lose what changed meanwhile."""
    api, portal = Bitrix24Api(), portal_of(range(1, 3))
    portal.time = {}

    _, cursor = sweep(api, portal, api.first_cursor(SINCE))

    assert read_cursor(cursor) == Sweep(since=SINCE)


def test_cursor_survives_a_restart() -> None:
    """The process may be killed between any two pages."""
    api, portal = Bitrix24Api(), portal_of(range(1, 121))
    first = play(api, api.changed_deals(api.first_cursor(SINCE)), portal)

    deals, _ = sweep(Bitrix24Api(), portal, first.cursor)

    assert [deal.deal_id for deal in deals] == [str(number) for number in range(51, 121)]


@pytest.mark.parametrize("cursor", ["", "{}", "[]", '{"since":"x"}', "662"])
def test_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    """A sweep that began somewhere by chance would pass deals over."""
    with pytest.raises(CallerError, match="cursor"):
        read_cursor(cursor)


def test_cursor_is_read_as_it_was_written() -> None:
    """Everything that the sweep needs is in it."""
    told = Sweep(since=SINCE, last=7, began=BEGAN, total=9, left=2)

    assert read_cursor(cursor_of(told)) == told


def test_pages_go_on_from_one_another() -> None:
    """The portal puts the last id of a page in itself; more pages than are left would begin again."""
    commands = page_commands(Sweep(since=SINCE, last=7, total=200, left=120))

    assert list(commands) == ["p0", "may_p1", "may_p2"]
    assert "filter[%3Eid]=7&" in commands["p0"]
    assert "filter[%3Eid]=$result[p0][items][49][id]&" in commands["may_p1"]
    assert len(page_commands(Sweep(since=SINCE, total=9999, left=9999))) == MAX_PAGES


@pytest.mark.parametrize("page", [None, {"items": [{"id": "7"}]}, {"items": [{"id": ""}]}])
def test_page_from_which_nothing_follows_is_no_end(page: Json) -> None:
    """Taking it for the last page would pass over all the rest."""
    answers = Answers(results={"p0": page})

    with pytest.raises(TransientError):
        read_pages(Sweep(since=SINCE, last=7, total=9), answers)


def test_page_that_was_refused_is_asked_for_again() -> None:
    """The pages before it count, and the sweep goes on behind them."""
    items: list[Json] = [{"id": str(number)} for number in range(1, 51)]

    answers = Answers(results={"p0": {"items": items}})

    found = read_pages(Sweep(since=SINCE, total=120, left=120), answers)

    assert (len(found.items), found.is_last, found.following.last, found.following.left) == (
        50,
        False,
        50,
        70,
    )


EVENTS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["change", "delete", "add"]), st.integers(1, 400))
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 260), EVENTS)
def test_no_deal_is_passed_over_while_others_change(count: int, events: list[tuple[int, str, int]]) -> None:
    """Deals change, appear and vanish between any two commands; the next sweep tells what this one missed."""
    api, portal = Bitrix24Api(), portal_of(range(1, count + 1))
    clock = itertools.count(2)

    def meanwhile() -> None:
        minute = next(clock)
        portal.time = {"date_start": (SINCE + timedelta(minutes=minute)).isoformat()}
        for at, what, number in events:
            if at + 2 == minute and what == "delete":
                portal.items[2].pop(number, None)
            elif at + 2 == minute and (what == "add" or number in portal.items[2]):
                change(portal, number, minute)

    portal.before = meanwhile
    first, cursor = sweep(api, portal, api.first_cursor(SINCE))
    portal.before = lambda: None
    second, _ = sweep(api, portal, cursor)

    told = {deal.deal_id: deal.changed_at for deal in [*first, *second]}
    there = {str(number): item["updatedTime"] for number, item in portal.items[2].items()}
    assert {number: told[number] for number in there} == {
        number: datetime.fromisoformat(at) for number, at in there.items()
    }
