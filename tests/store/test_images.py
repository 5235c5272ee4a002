"""The goal list is the image of the ledger: what a script wipes comes back, once, and nothing else moves."""

import json
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from closedloop.store.images import FIRST, LAST, Imaged, read_matched
from fix_ledger import NOW, SITE, Books, new_id, tell
from fix_tools import wait_until

THEIRS = [{"goal": "seen", "params": {"n": 1}}, "text", None, 7]


def wipe(books: Books, row: str, document: str = "{}") -> None:
    """Write a session's whole document anew, as a script's upsert does."""
    books.sql.execute(
        "update public.user_analytics set analytics_data = %s where id::text = %s", [document, row]
    )


def wanted(row: str, conversion_id: UUID, value: str = "5") -> Imaged:
    """Return what an image is made from."""
    return Imaged(
        conversion_id=conversion_id,
        session_row=row,
        goal="sale",
        deal_id=None,
        value=Decimal(value),
        currency="RUB",
        occurred_at=NOW,
    )


def put(books: Books, one: Imaged, site: str = SITE) -> bool:
    """Put one image into its session's list."""
    return books.run(lambda conn: books.statements.images.put_image(conn, site, one))


def missing(books: Books, start: UUID = FIRST, before: UUID = LAST, site: str = SITE) -> list[UUID]:
    """Return the conversions whose goal is missing."""
    found = books.run(lambda conn: books.statements.images.find_missing(conn, site, start, before))
    return [one.conversion_id for one in found]


def test_wiped_goals_come_back_once(any_books: Books) -> None:
    """A page that stays open for hours writes its old document over our goals again and again."""
    row = any_books.add_session("s")
    told = [tell(deal_id=deal, session_id="s", value=Decimal("1000.50")) for deal in "12"]
    any_books.append(*told)
    before = any_books.document(row)

    wipe(any_books, row)

    assert (any_books.restore(), any_books.restore()) == (2, 0)
    assert any_books.document(row) == before


def test_only_the_missing_goal_is_put_back(any_books: Books) -> None:
    """A list that has one goal already must not get it twice."""
    row = any_books.add_session("s")
    any_books.append(*(tell(deal_id=deal, session_id="s") for deal in "12"))
    wipe(
        any_books,
        row,
        json.dumps({"target_actions": {"yandex_goals_triggered": any_books.goals(row)[:1]}}, default=int),
    )

    assert any_books.restore() == 1
    assert [goal["deal_id"] for goal in any_books.goals(row)] == ["1", "2"]


def test_image_stands_where_it_stood(any_books: Books) -> None:
    """A changed value changes one entry; its neighbours and their order are somebody else's."""
    goals = [*THEIRS, {"conversion_id": "x"}]
    document = json.dumps({"b": 1, "target_actions": {"c": 2, "yandex_goals_triggered": goals}})
    row, conversion_id = any_books.add_session("s", document=document), new_id()
    put(any_books, wanted(row, conversion_id, "5"))
    put(any_books, wanted(row, new_id(), "6"))

    changed = put(any_books, wanted(row, conversion_id, "7.50"))

    listed = any_books.goals(row)
    assert (changed, listed[:5]) == (True, goals)
    assert [goal["value"] for goal in listed[5:]] == [Decimal("7.50"), Decimal(6)]
    assert json.loads(any_books.document(row))["b"] == 1


def test_image_is_put_as_often_as_one_likes(any_books: Books) -> None:
    """The same image may be put by the writer, the matching and the restoring at one time."""
    row = any_books.add_session("s")
    one = wanted(row, new_id())

    for _ in range(3):
        put(any_books, one)

    assert len(any_books.goals(row)) == 1


@pytest.mark.parametrize(
    "document",
    [
        "[1]",
        '"text"',
        '{"target_actions": "x"}',
        '{"target_actions": []}',
        '{"target_actions": {"yandex_goals_triggered": {"a": 1}}}',
        '{"target_actions": {"yandex_goals_triggered": "x"}}',
    ],
)
def test_odd_document_is_neither_changed_nor_missing(books: Books, document: str) -> None:
    """It is left alone for good: asked about every half a minute it would be a row for ever in work."""
    row = books.add_session("s", document=document)
    told = tell(session_id="s")
    books.append(told)
    before = books.document(row)

    changed = books.follow(told.conversion_id)

    assert (changed, missing(books), books.document(row)) == (False, [], before)


@pytest.mark.parametrize("document", ["null", "{}", '{"target_actions": null}'])
def test_empty_document_takes_a_goal(any_books: Books, document: str) -> None:
    """Nothing stands there, so nothing is lost."""
    row = any_books.add_session("s", document=document)

    assert put(any_books, wanted(row, new_id()))
    assert len(any_books.goals(row)) == 1


def test_row_that_is_gone_is_left_alone(books: Books) -> None:
    """An owner who deleted a visit must not meet an error, or the visit, again."""
    row = books.add_session("s")
    told = tell(session_id="s")
    books.append(told)
    books.sql.execute("delete from public.user_analytics")

    assert (put(books, wanted(row, told.conversion_id)), missing(books)) == (False, [])


def test_session_of_another_site_is_not_written(books: Books) -> None:
    """Two shops in one database are two owners."""
    row = books.add_session("s", site="other")

    assert not put(books, wanted(row, new_id()))
    assert books.document(row) == "{}"


def test_only_matched_conversions_are_missing(books: Books) -> None:
    """An unmatched conversion has no list in which it could stand."""
    books.append(tell(session_id="nobody"))

    assert missing(books) == []


def test_missing_are_found_in_their_stretch_only(books: Books) -> None:
    """The work of one round is bounded by stretches; one that leaks repeats, one with a hole forgets."""
    row = books.add_session("s")
    told = [tell(deal_id=str(deal), session_id="s") for deal in range(6)]
    books.append(*told)
    wipe(books, row)
    ids = [one.conversion_id for one in told]

    found = missing(books, ids[2], ids[4])

    assert (found, missing(books), missing(books, site="other")) == (ids[2:4], ids, [])


def test_missing_come_five_hundred_at_once(books: Books) -> None:
    """A restored backup misses everything, and that must not become one endless transaction."""
    row = books.add_session("s")
    books.append(*(tell(deal_id=str(deal), session_id="s") for deal in range(501)))
    wipe(books, row)

    assert (books.restore(), books.restore(), books.restore()) == (500, 1, 0)
    assert len({goal["conversion_id"] for goal in books.goals(row)}) == 501


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
def test_chunks_cover_everything_once(books: Books, count: int) -> None:
    """Rounds walk back in time chunk by chunk; together they have to be the whole ledger."""
    books.add_session("s")
    books.append(*(tell(deal_id=str(deal), session_id="s") for deal in range(count)))
    books.sql.execute("update public.user_analytics set analytics_data = '{}'")
    images, before, found = books.statements.images, LAST, list[UUID]()

    while before != FIRST:
        start = books.run(partial(images.chunk_end, site=SITE, before=before, rows=3))
        found += missing(books, start, before)
        before = start

    assert len(found) == len(set(found)) == count


def test_put_waits_for_whoever_holds_the_session(books: Books) -> None:
    """Read, changed and written back by a script meanwhile: neither its change nor the goal is lost."""
    row = books.add_session("s")
    waiting = """select count(*) from pg_stat_activity
                  where wait_event_type = 'Lock' and datname = current_database()"""

    async def put_beside(conn: AsyncConnection[Any]) -> bool:
        return await books.statements.images.put_image(conn, SITE, wanted(row, new_id()))

    with psycopg.connect(books.url) as script:
        script.execute("update public.user_analytics set analytics_data = '{\"a\": 1}'")
        pending = books.start(put_beside)
        wait_until(lambda: books.rows(waiting) == [1], what="put_image waits for the script")
    assert pending()
    assert (json.loads(books.document(row))["a"], len(books.goals(row))) == (1, 1)


def test_image_is_read_from_the_ledger(books: Books) -> None:
    """What the writer knew when it began may be old when the session is free."""
    row = books.add_session("s")
    found, lost = tell(deal_id="1", session_id="s", value=Decimal("0.50")), tell(deal_id="2")
    books.append(found, lost)

    read = books.run(lambda conn: read_matched(conn, SITE, found.conversion_id))

    assert read is not None
    assert (read.session_row, read.value, read.deal_id, read.occurred_at) == (row, Decimal("0.50"), "1", NOW)
    assert books.run(lambda conn: read_matched(conn, SITE, lost.conversion_id)) is None
