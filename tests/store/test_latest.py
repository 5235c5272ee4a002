"""What came last to a site, for the page that helps to set it up."""

from datetime import timedelta

from closedloop.domain.visit import Visit
from closedloop.store.latest import Latest
from fix_ledger import NOW, SITE, Books, tell


def latest(books: Books, site: str = SITE) -> Latest:
    """Return what came last."""
    return books.run(lambda conn: books.statements.arrivals.latest(conn, site))


def visit(number: int) -> Visit:
    """Return a visit that came so many seconds after the start."""
    at = NOW + timedelta(seconds=number)
    return Visit(
        site=SITE,
        session_id=f"session-{number}",
        visitor="visitor-0001",
        began_at=at,
        received_at=at,
        ids={"ym_uid": str(10**17 + number)},
        pages={"v": {"url": f"https://shop.example/{number}", "at": "x"}},
    )


def test_nothing_has_come_yet(any_books: Books) -> None:
    """The page of a newcomer must not fail."""
    assert latest(any_books) == Latest(visits=[], lead=None, conversion=None)


def test_newest_visit_comes_first(books: Books) -> None:
    """The owner looks for the click of a second ago."""
    books.run(lambda conn: books.statements.hits.record(conn, SITE, [visit(number) for number in range(25)]))

    visits = latest(books).visits

    assert len(visits) == 20
    assert (visits[0].at, visits[0].ym_uid) == (NOW + timedelta(seconds=24), "100000000000000024")
    assert "shop.example/24" in visits[0].pages


def test_newest_conversion_and_its_match_are_told(books: Books) -> None:
    """A test deal that found no visit is the most frequent question."""
    books.add_session("s")
    books.append(tell(deal_id="1", session_id="s"))
    books.append(tell(deal_id="2", session_id="nobody", goal="lead"))

    found = latest(books).conversion

    assert found is not None
    assert (found.goal, found.is_matched) == ("lead", False)


def test_other_sites_are_not_told(books: Books) -> None:
    """An agency's customers see their own."""
    books.append(tell(deal_id="1", session_id="s"))

    assert latest(books, "other").conversion is None
