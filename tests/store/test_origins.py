"""What is written back is found for every deal, page by page, the ones read last first."""

from datetime import timedelta
from typing import Any

from closedloop.store.origins import DealOrigin, Place
from fix_ledger import NOW, SITE, Books, tell

SHOWN = """
    insert into closedloop.deal (site, crm, deal_id, funnel, stage, outcome, changed_at, is_deleted, is_read,
                                 read_at, findings, told, digest, written, sealed)
    values (%(site)s, %(crm)s, %(deal_id)s, '', '', 'won', now(), %(is_deleted)s, true, %(read_at)s, '[]',
            '{}', '', %(written)s, '')
"""


def shown(books: Books, deal_id: str, minutes: int = 0, **more: Any) -> None:  # noqa: ANN401 - any column
    """Let the CRM have shown a deal so many minutes after the moment."""
    usual = {"site": SITE, "crm": "bitrix24", "deal_id": deal_id, "is_deleted": False, "written": None}
    books.sql.execute(SHOWN, {**usual, "read_at": NOW + timedelta(minutes=minutes), **more})


def sale(books: Books, deal_id: str, session_id: str, goal: str = "sale", site: str = SITE) -> None:
    """Record a conversion of a deal."""
    books.tell(tell(deal_id=deal_id, session_id=session_id, goal=goal), site)


def found(books: Books, after: Place | None = None, limit: int = 500) -> list[DealOrigin]:
    """Return a page."""
    origins = books.statements.origins
    return books.run(lambda conn: origins.find(conn, SITE, "bitrix24", after, limit))


def test_deal_comes_with_its_session_and_what_was_written(any_books: Books) -> None:
    """All that is needed to see whether something has to be written."""
    any_books.add_session("s-1", ym_uid="17")
    shown(any_books, "7", written=b"\x01")
    sale(any_books, "7", "s-1")

    assert found(any_books) == [
        DealOrigin(
            deal_id="7",
            read_at=NOW,
            written=b"\x01",
            rule="session_id",
            document={"ids": {"ym_uid": "17"}, **goals_of(any_books, "s-1")},
        )
    ]


def goals_of(books: Books, session_id: str) -> dict[str, Any]:
    """Return the part of a session's document that the ledger writes."""
    query = "select analytics_data - 'ids' from public.user_analytics where session_id = %s"
    part: dict[str, Any] = books.rows(query, session_id)[0]
    return part


def test_deal_without_a_session_is_found_as_such(books: Books) -> None:
    """The manager is told that too."""
    shown(books, "7")
    sale(books, "7", "s-unknown")

    assert [(one.deal_id, one.rule, one.document) for one in found(books)] == [("7", None, None)]


def test_first_conversion_with_a_session_counts(books: Books) -> None:
    """A prepaid goal found nobody, the payment did: the deal has come from somewhere."""
    books.add_session("s-1")
    shown(books, "7")
    sale(books, "7", "s-unknown", "prepaid")
    sale(books, "7", "s-1")

    assert [one.rule for one in found(books)] == ["session_id"]


def test_what_is_nobodys_to_write_is_left_out(books: Books) -> None:
    """Deals without a conversion, deleted ones, those of another CRM or site."""
    shown(books, "none")
    shown(books, "deleted", is_deleted=True)
    shown(books, "amo", crm="amocrm")
    shown(books, "other", site="other")
    for deal_id in ("deleted", "amo", "other"):
        sale(books, deal_id, "s-1")
    sale(books, "none", "s-1", site="other")

    assert found(books) == []


def test_pages_cover_every_deal_once(books: Books) -> None:
    """A night's sweep reads thousands of deals in the same second, most of them without a conversion."""
    for number in range(9):
        shown(books, f"d-{number}", minutes=number // 3)
        if number % 2 == 0:
            sale(books, f"d-{number}", "s-1")

    first = found(books, limit=2)
    second = found(books, first[-1].place, limit=2)
    third = found(books, second[-1].place, limit=2)

    pages = [[one.deal_id for one in page] for page in (first, second, third)]
    assert pages == [["d-8", "d-6"], ["d-4", "d-2"], ["d-0"]]
