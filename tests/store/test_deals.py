"""Tasks and deals are shared by workers, and nobody's word about them gets lost."""

from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection

from closedloop.store.deals import Deals, Sweep
from fix_ledger import NOW, SITE, Books, new_id

SOON = NOW + timedelta(minutes=3)


def want(books: Books, deals: Deals, deal_id: str) -> None:
    """Let a deal be read now."""
    books.run(lambda conn: deals.want(conn, deal_id, NOW))


def test_deal_is_claimed_by_one_worker_until_its_lease_is_over(any_books: Books) -> None:
    """Whoever died in the middle holds nothing up for ever."""
    deals = Deals(SITE, "bitrix24")
    any_books.run(lambda conn: deals.want(conn, "1", NOW))

    first = any_books.run(lambda conn: deals.claim(conn, NOW, SOON, 50))
    second = any_books.run(lambda conn: deals.claim(conn, NOW, SOON, 50))
    third = any_books.run(lambda conn: deals.claim(conn, SOON, SOON + timedelta(minutes=3), 50))

    assert [[(task.deal_id, task.attempt) for task in told] for told in (first, second, third)] == [
        [("1", 1)],
        [],
        [("1", 2)],
    ]


def test_claims_at_once_pass_each_other_by(any_books: Books) -> None:
    """Two workers never read the same deal."""
    deals = Deals(SITE, "bitrix24")
    for number in range(10):
        want(any_books, deals, str(number))
    other = Books(any_books.url)

    async def claim_beside(conn: AsyncConnection[Any]) -> list[str]:
        mine = await deals.claim(conn, NOW, SOON, 5)
        theirs = other.start(lambda theirs: deals.claim(theirs, NOW, SOON, 50))()
        return [task.deal_id for task in (*mine, *theirs)]

    try:
        claimed = any_books.run(claim_beside)
    finally:
        other.close()

    assert sorted(claimed) == [str(number) for number in range(10)]


def test_deal_of_another_site_or_crm_is_another_deal(books: Books) -> None:
    """Numbers begin at one everywhere."""
    for site, crm in ((SITE, "bitrix24"), (SITE, "amocrm"), ("second", "bitrix24")):
        want(books, Deals(site, crm), "1")

    claimed = books.run(lambda conn: Deals(SITE, "amocrm").claim(conn, NOW, SOON, 50))

    assert len(claimed) == 1
    assert books.rows("select count(*) from closedloop.deal_task where due_at = %s", NOW) == [2]


def test_hints_and_reason_of_a_task_are_the_latest(books: Books) -> None:
    """A robot's hint is not lost by an event that has none."""
    deals, webhook = Deals(SITE, "bitrix24"), new_id()
    books.run(lambda conn: deals.want(conn, "1", NOW, webhook, b"hint"))
    books.run(lambda conn: deals.want(conn, "1", SOON))
    books.run(lambda conn: deals.later(conn, ["1"], SOON, "away"))

    (task,) = books.run(lambda conn: deals.claim(conn, SOON, SOON, 1))

    assert (task.hints, task.webhook_id, task.wanted) == (b"hint", webhook, 2)
    assert books.rows("select reason from closedloop.deal_task") == ["away"]


def test_sweep_is_kept_as_it_stands(books: Books) -> None:
    """The next process goes on from there."""
    deals = Deals(SITE, "bitrix24")
    sweep = Sweep(cursor="{}", began_at=NOW, seen=5, touched_at=SOON, done_at=None, since=NOW)

    assert books.run(deals.sweep) is None
    books.run(lambda conn: deals.put_sweep(conn, sweep))
    assert books.run(deals.sweep) == sweep
