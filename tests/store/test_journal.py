"""The journal answers the owner's question why a number is what it is, so nothing in it may change."""

from typing import Any

import pytest
from psycopg import AsyncConnection

from closedloop.store.journal import note
from fix_ledger import NOW, SITE, Books, new_id, tell

ALL = "select site, conversion_id, at, kind, webhook_id, detail from closedloop.journal order by entry"


def test_entry_says_what_happened_and_because_of_what(any_books: Books) -> None:
    """From an entry one gets to the request itself, as the CRM sent it."""
    because, about = tell(deal_id="7"), new_id()
    detail = {"value": "1000.50", "why": 'сказал "да"\u2028\\'}

    any_books.run(lambda conn: note(conn, SITE, about, because, "revised", detail))

    assert any_books.rows(ALL) == [(SITE, about, NOW, "revised", because.webhook_id, detail)]


def test_entries_are_added_in_order(books: Books) -> None:
    """The same thing may happen twice in one moment, and both count; the order tells the story."""
    because = tell()
    kinds = ["repeated", "repeated", "stale", "revised"]

    async def note_all(conn: AsyncConnection[Any]) -> None:
        for kind in kinds:
            await note(conn, SITE, because.conversion_id, because, kind, {})

    books.run(note_all)

    assert books.journal() == kinds


def test_entry_belongs_to_its_site(books: Books) -> None:
    """An owner reads about the own deals only."""
    because = tell()

    books.run(lambda conn: note(conn, "other", because.conversion_id, because, "repeated", {}))

    assert (books.journal(), books.journal("other")) == ([], ["repeated"])


def test_entry_is_undone_with_its_change(books: Books) -> None:
    """An entry about a change that was rolled back would be a lie."""
    because = tell()

    async def note_and_fail(conn: AsyncConnection[Any]) -> None:
        await note(conn, SITE, because.conversion_id, because, "revised", {})
        raise LookupError

    with pytest.raises(LookupError):
        books.run(note_and_fail)

    assert books.journal() == []
