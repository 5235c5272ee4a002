"""The story of a deal has all of its entries, and nothing of another's."""

from decimal import Decimal

from closedloop.store.story import find_stories, list_deliveries
from fix_ledger import SITE, Books, tell


def test_story_is_of_one_deal_and_one_site(books: Books) -> None:
    """Numbers of deals are the same everywhere."""
    books.tell(tell(deal_id="1", goal="a", value=Decimal(5)))
    books.tell(tell(deal_id="1", goal="b", value=Decimal(6)))
    books.tell(tell(deal_id="2", value=Decimal(7)))

    stories = find_stories(books.sql, SITE, "1")

    assert [story.conversion.goal for story in stories] == ["a", "b"]
    assert [[entry.kind for entry in story.entries] for story in stories] == [["unmatched"], ["unmatched"]]
    assert find_stories(books.sql, "second", "1") == []


def test_conversion_is_found_by_its_own_id_too(books: Books) -> None:
    """One without a deal has no other name."""
    books.tell(tell(session_id="s", value=Decimal(5)))
    (name,) = books.rows("select conversion_id::text from closedloop.conversion")

    assert len(find_stories(books.sql, SITE, name)) == 1


def test_list_of_nothing_is_empty(books: Books) -> None:
    """The first day."""
    assert list_deliveries(books.sql, SITE, None, None, 10) == []
