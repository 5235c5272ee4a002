"""One holder of the lock at a time changes a CRM's token, and what is not committed was never there."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from closedloop.store.crm_tokens import SealedToken, lock_token, put_token, read_token
from fix_ledger import NOW, SITE, Books
from fix_tools import wait_until

CRM = "amocrm"
WAITING = "select count(*) from pg_locks where not granted"


def token(name: bytes, at: datetime = NOW) -> SealedToken:
    """Return a pair as it is kept."""
    return SealedToken(sealed=name, expires_at=at + timedelta(days=1))


def read(books: Books, site: str = SITE, crm: str = CRM) -> SealedToken | None:
    """Return what is kept."""
    return books.run(lambda conn: read_token(conn, site, crm))


def replace(books: Books, new: SealedToken, site: str = SITE, crm: str = CRM) -> SealedToken:
    """Put a pair as its only user does, and return the one before it."""

    async def replaced(conn: AsyncConnection[Any]) -> SealedToken:
        before = await lock_token(conn, site, crm)
        await put_token(conn, site, crm, new)
        return before

    return books.run(replaced)


def test_nothing_is_kept_before_the_first_pair(any_books: Books) -> None:
    """The lock is there before anything can be locked: two processes start at once, too."""
    assert read(any_books) is None

    before = any_books.run(lambda conn: lock_token(conn, SITE, CRM))

    assert before == SealedToken(sealed=b"", expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert read(any_books) is None


def test_pair_that_was_put_is_read(any_books: Books) -> None:
    """Byte for byte: what is sealed opens only whole."""
    first, second = token(bytes(range(256))), token(b"second", NOW + timedelta(hours=1))

    assert replace(any_books, first).sealed == b""
    assert read(any_books) == first
    assert replace(any_books, second) == first
    assert read(any_books) == second


def test_pair_that_is_not_committed_was_never_there(books: Books) -> None:
    """An exchange that failed must leave the token that still works."""
    replace(books, token(b"first"))

    async def broken(conn: AsyncConnection[Any]) -> None:
        await lock_token(conn, SITE, CRM)
        await put_token(conn, SITE, CRM, token(b"second"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.run(broken)

    assert read(books) == token(b"first")


@pytest.mark.parametrize("is_first", [True, False])
def test_second_waits_for_the_first_and_sees_its_pair(books: Books, *, is_first: bool) -> None:
    """Reading before the first commits would use a token that is used up."""
    if not is_first:
        replace(books, token(b"old"))
    with books.sql.transaction():
        books.sql.execute(
            "insert into closedloop.crm_token (site, crm, sealed, expires_at)"
            " values (%s, %s, 'new', %s)"
            " on conflict (site, crm) do update set sealed = excluded.sealed",
            [SITE, CRM, NOW],
        )
        second = books.start(lambda conn: lock_token(conn, SITE, CRM))
        wait_until(lambda: books.rows(WAITING) == [1], what="the second waits")

    assert second().sealed == b"new"


def test_sites_and_crms_are_apart(books: Books) -> None:
    """One owner's token must never open another's account."""
    keys = [(site, crm) for site in (SITE, "other") for crm in (CRM, "kommo")]

    for site, crm in keys:
        replace(books, token(f"{site} {crm}".encode()), site, crm)

    kept = [read(books, site, crm) for site, crm in keys]
    assert [one.sealed if one else b"" for one in kept] == [f"{site} {crm}".encode() for site, crm in keys]
