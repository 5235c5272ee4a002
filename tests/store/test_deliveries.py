"""Deliveries come with their conversions, are claimed by one worker, and expire in nobody's silence."""

from datetime import timedelta
from decimal import Decimal

from psycopg import AsyncConnection

from closedloop.store.deliveries import (
    Settlement,
    add_missing,
    alarm_once,
    let_rest,
    money_at_risk,
    resting,
    settle_deliveries,
)
from closedloop.store.statements import Statements
from fix_ledger import NOW, SITE, WINDOW, Books, tell

LATER = NOW + timedelta(hours=1)


def with_destinations(books: Books, *names: str) -> Statements:
    """Give the store destinations."""
    books.statements = Statements(books.table, {SITE: WINDOW}, {SITE: names})
    return books.statements


def test_each_conversion_has_a_delivery_for_each_destination(any_books: Books) -> None:
    """In one commit; a repetition brings none."""
    with_destinations(any_books, "metrica", "webhook")
    any_books.add_session("s-1")

    for _ in range(2):
        any_books.tell(tell(session_id="s-1", deal_id="1", value=Decimal(500)))

    query = "select destination, state, wanted from closedloop.delivery order by destination"
    assert any_books.rows(query) == [("metrica", "due", 1), ("webhook", "due", 1)]


def test_change_is_told_again_also_of_what_was_done(books: Books) -> None:
    """A revision through the hook, and a session that is found late."""
    with_destinations(books, "webhook")
    books.tell(tell(session_id="s-late", deal_id="1", value=Decimal(500)))
    books.sql.execute("update closedloop.delivery set state = 'done', taken = 1")

    books.tell(tell(session_id="s-late", deal_id="1", value=Decimal(400), at=LATER))
    assert books.rows("select state, wanted from closedloop.delivery") == [("due", 2)]
    books.add_session("s-late")
    books.match()
    assert books.rows("select state, wanted from closedloop.delivery") == [("due", 3)]


def test_claimed_deliveries_are_passed_over_by_others(any_books: Books) -> None:
    """Two workers never send the same row."""
    statements = with_destinations(any_books, "webhook")
    for deal in range(6):
        any_books.tell(tell(deal_id=str(deal), value=Decimal(1)))
    other = Books(any_books.url)

    async def both(conn: AsyncConnection[object]) -> list[int]:
        mine = await statements.deliveries.claim(conn, SITE, "webhook", LATER, 4)
        theirs = other.start(lambda theirs: statements.deliveries.claim(theirs, SITE, "webhook", LATER, 10))()
        return [len(mine), len(theirs)]

    try:
        assert any_books.run(both) == [4, 2]
    finally:
        other.close()


def test_nearest_deadline_goes_first(books: Books) -> None:
    """What expires tonight is not behind what can wait."""
    statements = with_destinations(books, "webhook")
    for deal in ("1", "2", "3"):
        books.tell(tell(deal_id=deal, value=Decimal(1)))
    for deal, hours in (("1", None), ("2", 9), ("3", 2)):
        books.sql.execute(
            "update closedloop.delivery set deadline = %s where conversion_id ="
            " (select conversion_id from closedloop.conversion where deal_id = %s)",
            [None if hours is None else NOW + timedelta(hours=hours), deal],
        )

    claimed = books.run(lambda conn: statements.deliveries.claim(conn, SITE, "webhook", LATER, 10))

    assert [row.deal_id for row in claimed] == ["3", "2", "1"]


def test_conversion_that_changed_while_it_was_sent_is_due_again(books: Books) -> None:
    """The platform has taken an older state."""
    statements = with_destinations(books, "webhook")
    books.tell(tell(deal_id="1", value=Decimal(500)))
    (row,) = books.run(lambda conn: statements.deliveries.claim(conn, SITE, "webhook", LATER, 1))
    books.tell(tell(deal_id="1", value=Decimal(400), at=LATER))

    done = Settlement(
        delivery_id=row.delivery_id,
        revision=row.wanted,
        state="done",
        outcome="confirmed",
        reason="",
        due_at=LATER,
    )
    books.run(lambda conn: settle_deliveries(conn, SITE, LATER, [done]))

    assert books.rows("select state, taken, wanted from closedloop.delivery") == [("due", 1, 2)]


def test_money_at_risk_is_the_sum_that_expires_soon(books: Books) -> None:
    """The owner sees it two days ahead."""
    with_destinations(books, "metrica")
    for deal, value in (("1", 500), ("2", 70)):
        books.tell(tell(deal_id=deal, value=Decimal(value)))
    books.sql.execute("update closedloop.delivery set deadline = %s", [NOW + timedelta(hours=40)])

    soon = books.run(lambda conn: money_at_risk(conn, SITE, NOW + timedelta(hours=48)))
    later = books.run(lambda conn: money_at_risk(conn, SITE, NOW + timedelta(hours=30)))

    assert [(one.destination, one.currency, one.value, one.deliveries) for one in soon] == [
        ("metrica", "RUB", Decimal(570), 2)
    ]
    assert later == []


def test_blocked_destination_alarms_once_for_each_block(books: Books) -> None:
    """A night of refusals is one message."""

    async def block(conn: AsyncConnection[object]) -> bool:
        await let_rest(conn, SITE, "metrica", None, "the token is dead", is_blocked=True)
        return await alarm_once(conn, SITE, "metrica", NOW)

    assert [books.run(block), books.run(block)] == [True, False]
    books.run(lambda conn: let_rest(conn, SITE, "metrica", None, None))
    assert books.run(block)
    found = books.run(lambda conn: resting(conn, SITE, "metrica"))
    assert found is not None
    assert (found.is_blocked, found.reason) == (True, "the token is dead")


def test_new_destination_is_given_what_happened_before(books: Books) -> None:
    """Its window reaches back."""
    books.tell(tell(deal_id="1", value=Decimal(1)))
    books.tell(tell(deal_id="2", value=Decimal(1), occurred_at=NOW - timedelta(days=30)))

    async def add(conn: AsyncConnection[object]) -> int:
        return await add_missing(conn, SITE, "webhook", NOW - timedelta(days=21), NOW)

    assert [books.run(add), books.run(add)] == [1, 0]
