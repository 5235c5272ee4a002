"""A conversion follows its deal: it is made, changed, cancelled and brought back, and every step is noted."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from closedloop.domain.conversion import Conversion, dedup_key
from closedloop.store.journal import Occasion
from closedloop.store.restate import keys_of_deal
from closedloop.store.settle import Settled
from fix_ledger import NOW, SITE, Books, tell

LATER = NOW + timedelta(hours=1)


def told(books: Books, conversion: Conversion) -> Settled:
    """Let a deal tell one goal, with the goal list brought up to date as the stage does."""
    restater = books.statements.restater
    settled = books.run(lambda conn: restater.tell(conn, SITE, conversion))
    if not settled.recorded.imaged:
        books.follow(settled.recorded.conversion_id)
    return settled


def cancelled(books: Books, conversion: Conversion, reason: str = "lost") -> Settled | None:
    """Cancel one goal of a deal, likewise."""
    restater = books.statements.restater
    because, key = Occasion(received_at=LATER), dedup_key(conversion.told)
    settled = books.run(lambda conn: restater.cancel(conn, SITE, key, because, reason))
    if settled is not None:
        books.follow(settled.recorded.conversion_id)
    return settled


def test_deal_that_is_told_again_changes_nothing(any_books: Books) -> None:
    """A sweep reads thousands of deals every five minutes: the journal is not theirs to fill."""
    row = any_books.add_session("s-1")
    first = told(any_books, tell(session_id="s-1", deal_id="1", value=Decimal(500), occurred_at=NOW))
    before = any_books.journal()

    again = told(
        any_books, tell(session_id="s-1", deal_id="1", value=Decimal(500), occurred_at=NOW, at=LATER)
    )

    assert (first.kind, again.kind) == ("new", "same")
    assert any_books.journal() == before
    assert [goal["value"] for goal in any_books.goals(row)] == [500]


def test_cancelled_goal_leaves_the_list_and_nothing_else_does(any_books: Books) -> None:
    """The owner's own goals stand in the same list."""
    row = any_books.add_session(
        "s-1",
        document='{"target_actions":{"yandex_goals_triggered":[{"goal":"cart","timestamp":"t","params":{}}]}}',
    )
    sale = tell(session_id="s-1", deal_id="1", value=Decimal(500))
    told(any_books, sale)
    told(any_books, tell(session_id="s-1", deal_id="2", value=Decimal(7)))

    cancelled(any_books, sale, "reopened")

    assert [goal["goal"] for goal in any_books.goals(row)] == ["cart", "sale"]
    assert [goal.get("deal_id") for goal in any_books.goals(row)] == [None, "2"]
    query = "select detail ->> 'reason' from closedloop.journal where kind = 'cancelled'"
    assert any_books.rows(query) == ["reopened"]


def test_deal_that_is_won_again_brings_its_goal_back_once(any_books: Books) -> None:
    """With the sum and the moment of the second time, and under the same id."""
    row = any_books.add_session("s-1")
    first = told(any_books, tell(session_id="s-1", deal_id="1", value=Decimal(500), occurred_at=NOW))
    cancelled(any_books, tell(deal_id="1"))

    again = told(
        any_books, tell(session_id="s-1", deal_id="1", value=Decimal(450), occurred_at=LATER, at=LATER)
    )

    assert (again.kind, again.recorded.conversion_id) == ("reinstated", first.recorded.conversion_id)
    assert [(goal["value"], goal["timestamp"]) for goal in any_books.goals(row)] == [
        (450, "2026-11-23T11:00:00.000Z")
    ]
    assert any_books.journal()[-3:] == ["reinstated", "revised", "moved"]


def test_cancelling_twice_or_what_is_not_there_is_nothing(books: Books) -> None:
    """Webhook and sweep may both say it."""
    sale = tell(deal_id="1", value=Decimal(5), session_id="s-x")
    told(books, sale)

    assert cancelled(books, sale) is not None
    assert cancelled(books, sale) is None
    assert cancelled(books, tell(deal_id="2")) is None


def test_cancelled_goal_that_a_script_writes_back_is_taken_out_again(any_books: Books) -> None:
    """Their whole-document upsert knows an older list."""
    row = any_books.add_session("s-1")
    sale = tell(session_id="s-1", deal_id="1", value=Decimal(500))
    told(any_books, sale)
    old = any_books.document(row)
    cancelled(any_books, sale)
    any_books.sql.execute(
        "update public.user_analytics set analytics_data = %s where id::text = %s", [old, row]
    )

    assert any_books.restore() == 1
    assert any_books.goals(row) == []
    assert any_books.restore() == 0


def test_unmatched_conversion_that_is_cancelled_is_matched_without_a_goal(books: Books) -> None:
    """The session that comes late earns nothing by a deal that was lost."""
    sale = tell(session_id="s-late", deal_id="1", value=Decimal(500))
    told(books, sale)
    cancelled(books, sale)
    row = books.add_session("s-late")

    assert [rule for _, rule in books.match()] == ["session_id"]
    assert books.goals(row) == []


def test_webhook_that_tells_a_cancelled_deal_again_does_not_bring_it_back(books: Books) -> None:
    """Zapier repeats for ten hours what the manager has taken back meanwhile."""
    row = books.add_session("s-1")
    sale = tell(session_id="s-1", deal_id="1", value=Decimal(500))
    told(books, sale)
    cancelled(books, sale)

    books.tell(tell(session_id="s-1", deal_id="1", value=Decimal(500), at=LATER))

    assert books.goals(row) == []


def test_sum_that_is_not_told_leaves_the_known_one(books: Books) -> None:
    """The Digital Pipeline tells none."""
    row = books.add_session("s-1")
    told(books, tell(session_id="s-1", deal_id="1", value=Decimal(500), currency="USD"))

    assert told(books, tell(session_id="s-1", deal_id="1")).kind == "same"
    assert [(goal["value"], goal["currency"]) for goal in books.goals(row)] == [(500, "USD")]


def test_session_that_is_told_later_is_found(books: Books) -> None:
    """A manager types the session id into the deal."""
    row = books.add_session("s-1")
    told(books, tell(deal_id="1", value=Decimal(5), session_id="s-unknown"))

    assert told(books, tell(deal_id="1", value=Decimal(5), session_id="s-1", at=LATER)).kind == "matched"
    assert len(books.goals(row)) == 1


def test_keys_of_a_deal_are_those_that_count(books: Books) -> None:
    """A deleted deal takes all of its goals with it, and no other's."""
    kept, lost = tell(deal_id="1", goal="a"), tell(deal_id="1", goal="b")
    for one in (kept, lost, tell(deal_id="2", goal="a")):
        told(books, one)
    cancelled(books, lost)

    assert books.run(lambda conn: keys_of_deal(conn, SITE, "1")) == [dedup_key(kept.told)]


@pytest.fixture
def counted(books: Books) -> Books:
    """Give a store in which session `s` waits for goals."""
    books.add_session("s")
    return books


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 3).map(Decimal)), min_size=1, max_size=8),
    st.uuids(version=4),
)
def test_list_and_ledger_agree_after_any_history(
    counted: Books, history: list[Decimal | None], deal: UUID
) -> None:
    """None is a loss, a number a win of that sum; each deal is its own."""
    for hours, value in enumerate(history):
        at = NOW + timedelta(hours=hours)
        one = tell(session_id="s", deal_id=str(deal), value=value, occurred_at=at, at=at)
        if value is None:
            cancelled(counted, one)
        else:
            told(counted, one)

    row = counted.rows("select id::text from public.user_analytics where session_id = 's'")[0]
    listed = [goal["value"] for goal in counted.goals(row) if goal.get("deal_id") == str(deal)]
    last = history[-1]
    assert listed == ([] if last is None else [last])
