"""What leads to a person is found from whatever is known of them, and nothing of anybody else."""

from typing import Any

from closedloop.domain.visit import Visit
from closedloop.store.erase import Person, erase, find_person
from fix_ledger import NOW, SITE, Books, tell


def visit(session_id: str, visitor: str, ym_uid: str) -> Visit:
    """Return a visit of one page."""
    return Visit(
        site=SITE,
        session_id=session_id,
        visitor=visitor,
        began_at=NOW,
        received_at=NOW,
        ids={"ym_uid": ym_uid},
        pages={"v": {"url": "https://shop.example/secret", "at": "x"}},
    )


def filled(books: Books) -> None:
    """Give two visitors; the first came twice and bought once."""
    visits = [
        visit("one-0001", "first", "17"),
        visit("one-0002", "first", "18"),
        visit("two-0001", "other", "19"),
    ]
    books.run(lambda conn: books.statements.hits.record(conn, SITE, visits))
    books.append(tell(deal_id="1", session_id="one-0001", identifiers=[("phone", "h1")]))
    books.append(tell(deal_id="2", session_id="two-0001"))


def found(books: Books, **known: Any) -> tuple[int, int]:  # noqa: ANN401 - the fields of Person
    """Return how many sessions and conversions are found."""
    told = find_person(books.sql, books.table, SITE, Person(**known))
    return len(told.rows), len(told.conversions)


def test_all_sessions_of_a_visitor_are_found_from_one(any_books: Books) -> None:
    """Nobody knows all of one's own session ids."""
    filled(any_books)

    assert found(any_books, session_id="one-0002") == (2, 1)
    assert found(any_books, ym_uid="17") == (2, 1)
    assert found(any_books, hashes=["h1"]) == (2, 1)
    assert found(any_books, visitor="nobody") == (0, 0)


def test_erasure_keeps_goals_and_other_people(any_books: Books) -> None:
    """The books of the shop must still add up."""
    filled(any_books)
    person = Person(visitor="first")
    told = find_person(any_books.sql, any_books.table, SITE, person)

    erase(any_books.sql, any_books.table, SITE, person, told, NOW)

    documents = any_books.rows("select analytics_data::text from public.user_analytics order by session_id")
    assert ["secret" in document for document in documents] == [False, False, True]
    assert ["crm_offline" in document for document in documents] == [True, False, True]
    assert any_books.rows("select session_id from closedloop.conversion order by deal_id") == [
        None,
        "two-0001",
    ]
    assert any_books.journal()[-1] == "erased"


def test_restored_goals_stay_restored(books: Books) -> None:
    """The loop that puts back lost goals must not bring back what was forgotten, nor double anything."""
    filled(books)
    person = Person(visitor="first")
    erase(books.sql, books.table, SITE, person, find_person(books.sql, books.table, SITE, person), NOW)

    assert books.restore() == 0
