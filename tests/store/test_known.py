"""An import asks what is known before it writes: a second run of a file must change nothing."""

from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from closedloop.domain.conversion import Conversion, dedup_key
from closedloop.store.conversions import Known, Ledger
from closedloop.store.known import adds_nothing, count_found, find_known
from fix_ledger import NOW, SITE, Books, tell

LONG_ID = "1741000000123456787"


def known_of(books: Books, *conversions: Conversion, site: str = SITE) -> dict[bytes, Known]:
    """Return what the ledger knows of these."""
    keys = [dedup_key(one.told).key for one in conversions]
    return books.run(lambda conn: find_known(conn, site, keys))


def test_known_conversions_are_found_by_their_keys(any_books: Books) -> None:
    """By deal and by event, each as it stands in the ledger now, the unknown left out."""
    row = any_books.add_session("s-1")
    deal = tell(deal_id="1", session_id="s-1", value=Decimal(5))
    event = tell(event_id="e-1", ym_uid=LONG_ID, value=Decimal(7), currency="USD")
    any_books.append(deal, event)

    found = known_of(any_books, deal, event, tell(deal_id="2"))

    keys = dedup_key(deal.told).key, dedup_key(event.told).key
    assert set(found) == set(keys)
    assert [(found[key].value, found[key].currency, found[key].session_row) for key in keys] == [
        (Decimal(5), "RUB", row),
        (Decimal(7), "USD", None),
    ]


def test_conversion_of_another_site_is_not_known(books: Books) -> None:
    """Two shops number their deals alike."""
    one = tell(deal_id="1", session_id="s-1")
    books.append(one, site="other")

    assert known_of(books, one) == {}
    assert len(known_of(books, one, site="other")) == 1


def test_nothing_is_asked_about_nothing(books: Books) -> None:
    """The last chunk of a file may be empty."""
    assert known_of(books) == {}


def test_sessions_are_counted_without_a_trace(books: Books) -> None:
    """A person only looks at what an import would do."""
    books.add_session("s-1", ym_uid=LONG_ID)
    some = [tell(session_id="s-1"), tell(ym_uid=LONG_ID), tell(session_id="s-2")]

    found = books.run(lambda conn: count_found(conn, books.statements.ledger, SITE, some))

    assert found == 2
    assert books.rows("select count(*) from closedloop.conversion") == [0]


def test_counting_cannot_write(books: Books) -> None:
    """The promise of a dry run is kept by the database itself."""

    class Writing(Ledger):
        async def find_session(
            self, conn: psycopg.AsyncConnection[object], site: str, conversion: Conversion
        ) -> tuple[str, str] | None:
            await conn.execute("delete from closedloop.conversion")
            return await super().find_session(conn, site, conversion)

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        books.run(lambda conn: count_found(conn, Writing(books.table), SITE, [tell(session_id="s-1")]))


@pytest.mark.parametrize(
    ("again", "is_known"),
    [
        ({"session_id": "s-9"}, True),
        ({"session_id": "s-9", "identifiers": [("phone", "hash")]}, False),
        ({"session_id": "s-8"}, False),
        ({"session_id": "s-9", "ym_uid": LONG_ID}, False),
        ({}, True),
    ],
)
def test_new_identifier_is_told_from_what_is_known(
    books: Books, again: dict[str, object], *, is_known: bool
) -> None:
    """A second export has the phones that the first one lacked, and they may find the session."""
    first = tell(deal_id="1", session_id="s-9")
    books.append(first)
    more: dict[str, object] = {"identifiers": [], **again}
    later = tell(deal_id="1", at=NOW + timedelta(days=1), **more)  # type: ignore[arg-type]

    known = known_of(books, later)[dedup_key(first.told).key]

    assert adds_nothing(later, known) is is_known
