"""A pair of tokens is kept once, and only its holder may change it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection

from closedloop.store.crm_tokens import SealedToken, lock_token, put_token, read_token
from fix_ledger import NOW, SITE, Books


def test_pair_is_there_once_it_was_put(any_books: Books) -> None:
    """Before the first there is none, and locking makes none."""
    pair = SealedToken(sealed=b"sealed", expires_at=NOW)

    assert any_books.run(lambda conn: read_token(conn, SITE, "amocrm")) is None
    first = any_books.run(lambda conn: lock_token(conn, SITE, "amocrm"))
    assert any_books.run(lambda conn: read_token(conn, SITE, "amocrm")) is None
    any_books.run(lambda conn: put_token(conn, SITE, "amocrm", pair))

    assert (first.sealed, first.expires_at < NOW) == (b"", True)
    assert any_books.run(lambda conn: read_token(conn, SITE, "amocrm")) == pair
    assert any_books.run(lambda conn: read_token(conn, "second", "amocrm")) is None


def test_who_comes_second_sees_what_the_first_has_put(books: Books) -> None:
    """A refresh token works once: two that renew at once must not both use it."""
    other = Books(books.url)
    pair = SealedToken(sealed=b"new", expires_at=NOW + timedelta(days=1))
    waiting: list[Callable[[], SealedToken]] = []

    async def renew(conn: AsyncConnection[Any]) -> None:
        await lock_token(conn, SITE, "amocrm")
        waiting.append(other.start(lambda theirs: lock_token(theirs, SITE, "amocrm")))
        await put_token(conn, SITE, "amocrm", pair)

    try:
        books.run(renew)
        assert waiting[0]() == pair
    finally:
        other.close()
