"""Hits are merged into the row of their session: nothing is doubled, nothing of others is touched."""

import itertools
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from closedloop.domain.visit import Visit
from fix_ledger import NOW, SITE, Books, tell

SESSION, VISITOR = "session-0001", "visitor-0001"
SECOND = timedelta(seconds=1)


def visit(view: str = "v1", **told: Any) -> Visit:  # noqa: ANN401 - the fields of Visit
    """Return what one view tells of the session: a page, and what is given."""
    page = {
        "url": f"https://shop.example/{view}",
        "referrer": "",
        "title": view,
        "at": "2026-11-23T10:00:00.000Z",
    }
    facts: dict[str, Any] = {
        "site": SITE,
        "session_id": SESSION,
        "visitor": VISITOR,
        "began_at": NOW,
        "received_at": NOW,
        "pages": {view: page},
        **told,
    }
    return Visit(**facts)


def goal(name: str, hit: str) -> dict[str, Any]:
    """Return a goal as the browser saw it."""
    return {"goal": name, "timestamp": "2026-11-23T10:00:01.000Z", "params": {}, "hit": hit}


def record(books: Books, *visits: Visit) -> dict[str, str]:
    """Record visits of different sessions and return the outcomes."""
    return books.run(lambda conn: books.statements.hits.record(conn, SITE, visits))


def row_of(books: Books, session_id: str = SESSION) -> str:
    """Return the row of a session."""
    row: str = books.rows("select id::text from public.user_analytics where session_id = %s", session_id)[0]
    return row


def document(books: Books) -> dict[str, Any]:
    """Return the document of the session."""
    found: dict[str, Any] = msgspec.json.decode(books.document(row_of(books)))
    return found


def test_first_hit_makes_the_row(any_books: Books) -> None:
    """A visitor who stays for three seconds and phones must be found."""
    ids = {"ym_uid": "1741000000123456789", "yclid": "9"}

    assert record(any_books, visit(ids=ids, goals={"v1.0": goal("cart", "v1.0")})) == {SESSION: "made"}

    found = document(any_books)
    assert found["ids"] == {"session_id": SESSION, "user_id": VISITOR, **ids}
    assert found["target_actions"] == {
        "conversion_flag": True,
        "yandex_goals_triggered": [goal("cart", "v1.0")],
    }
    assert found["visit"]["pages"]["v1"]["title"] == "v1"
    columns = 'select site, "timestamp", ym_uid, yclid from public.user_analytics'
    assert any_books.rows(columns) == [(SITE, NOW, ids["ym_uid"], "9")]


def test_goal_of_the_crm_survives_every_order(books: Books) -> None:
    """The money was appended while the visitor's page was still open."""
    record(books, visit())
    books.append(tell(deal_id="1", session_id=SESSION))
    crm = books.goals(row_of(books))

    record(books, visit("v2", goals={"v2.0": goal("cart", "v2.0")}))
    books.append(tell(deal_id="2", session_id=SESSION))
    record(books, visit("v1", seconds={"v1.0": 3.0}))

    goals = books.goals(row_of(books))
    assert goals[0] == crm[0]
    assert [one.get("deal_id", one["goal"]) for one in goals] == ["1", "cart", "2"]
    assert set(document(books)["visit"]["pages"]) == {"v1", "v2"}


STEPS = [
    visit("v1", ids={"ym_uid": "17"}, goals={"v1.0": goal("a", "v1.0")}),
    visit("v1", seconds={"v1.0": 2.0}, goals={"v1.0": goal("a", "v1.0"), "v1.1": goal("b", "v1.1")}),
    visit("v2", ids={"fbp": "f"}, forms={"v2.0": {"form": "form1", "at": "x"}}, last_touch={"url": "u"}),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_any_order_and_repetition_gives_the_same(books: Books, order: tuple[int, ...]) -> None:
    """Beacons, retries and closed laptops bring hits late, twice and out of order."""
    for step in (*order, *order):
        record(books, STEPS[step])

    found = document(books)
    assert found["ids"] == {"session_id": SESSION, "user_id": VISITOR, "ym_uid": "17", "fbp": "f"}
    assert found["visit"]["seconds"] == {"v1.0": 2.0}
    assert found["visit"]["forms"] == {"v2.0": {"form": "form1", "at": "x"}}
    goals = sorted(one["goal"] for one in found["target_actions"]["yandex_goals_triggered"])
    assert goals == ["a", "b"]
    assert len(books.rows("select 1 from public.user_analytics")) == 1


def test_repeated_hit_writes_nothing(books: Books) -> None:
    """Every leaving page sends once more what is known already; that must not cost a row version."""
    record(books, STEPS[0])
    before = books.rows("select xmin::text from public.user_analytics")

    assert record(books, STEPS[0]) == {SESSION: "merged"}

    assert books.rows("select xmin::text from public.user_analytics") == before


def test_session_of_another_visitor_is_left_alone(books: Books) -> None:
    """Whoever copies a session id out of a CRM must not be able to spoil the session."""
    record(books, visit(ids={"ym_uid": "17"}))
    before = books.document(row_of(books))

    stranger = visit("v9", visitor="visitor-0002", ids={"ym_uid": "18", "fbp": "x"})

    assert record(books, stranger) == {SESSION: "foreign"}
    assert books.document(row_of(books)) == before


def test_id_that_is_known_is_not_replaced(books: Books) -> None:
    """What the CRM was told an hour ago must still lead here."""
    record(books, visit(ids={"ym_uid": "17"}))

    record(books, visit("v2", ids={"ym_uid": "18", "fbc": "c"}))

    assert document(books)["ids"] == {"session_id": SESSION, "user_id": VISITOR, "ym_uid": "17", "fbc": "c"}


def test_script_of_the_owner_keeps_its_document(books: Books) -> None:
    """An owner may have both scripts on a page for a while."""
    theirs = '{"ids": {"ym_uid": null, "own": 1}, "traffic": ["yandex", null], "session": ["x", 1.50]}'
    row = books.add_session(SESSION, document=theirs)

    assert record(books, visit(ids={"ym_uid": "17"})) == {SESSION: "merged"}

    found = msgspec.json.decode(books.document(row))
    assert found["ids"] == {"session_id": SESSION, "user_id": VISITOR, "ym_uid": "17", "own": 1}
    assert (found["traffic"], found["session"]) == (["yandex", None], ["x", 1.5])
    assert '"x", 1.50' in books.document(row)


@pytest.mark.parametrize(
    "odd",
    [
        "[]",
        '"x"',
        '{"ids": []}',
        '{"target_actions": 1}',
        '{"target_actions": {"yandex_goals_triggered": {}}}',
    ],
)
def test_document_of_another_shape_is_left_alone(books: Books, odd: str) -> None:
    """What we do not understand is somebody's data."""
    row = books.add_session(SESSION, document=odd)
    before = books.document(row)

    assert record(books, visit()) == {SESSION: "odd"}
    assert books.document(row) == before


def test_full_document_grows_no_further(books: Books) -> None:
    """A page in a loop must not make every later goal of the session dear."""
    long = {f"v{n}": {"url": "x" * 1000} for n in range(40)}
    record(books, visit(pages=long))

    assert record(books, visit("late")) == {SESSION: "full"}
    books.append(tell(deal_id="1", session_id=SESSION))
    assert len(books.goals(row_of(books))) == 1


def test_row_that_somebody_holds_comes_again(books: Books) -> None:
    """A forgotten console must not hold up the hits of everybody else."""
    record(books, visit())
    with books.sql.transaction():
        books.sql.execute("select 1 from public.user_analytics for update")

        other = visit(session_id="session-0002")
        assert record(books, visit("v2"), other) == {SESSION: "again", "session-0002": "made"}

    assert record(books, visit("v2")) == {SESSION: "merged"}


def test_two_processes_make_one_row(books: Books) -> None:
    """A browser's first two hits may reach two processes in the same millisecond."""
    with books.sql.transaction():
        books.sql.execute(
            "insert into closedloop.session_made (site, session_id, made_at) values (%s, %s, %s)",
            [SITE, SESSION, NOW],
        )
        finish = books.start(lambda conn: books.statements.hits.record(conn, SITE, [visit()]))
    first = finish()
    books.add_session(SESSION)

    assert first == {SESSION: "again"}
    assert record(books, visit()) == {SESSION: "merged"}
    assert len(books.rows("select 1 from public.user_analytics")) == 1


def test_row_that_was_deleted_is_made_anew(books: Books) -> None:
    """An owner who clears old sessions must not shut out a visitor who comes back to an open tab."""
    record(books, visit())
    books.sql.execute("delete from public.user_analytics")

    assert record(books, visit(received_at=NOW + 61 * SECOND)) == {SESSION: "made"}


def test_further_ids_lead_to_the_session(books: Books) -> None:
    """A CRM that knows only Google's click id, or a chat's code, finds its session, at once or late."""
    ids = {"gclid": "g-1", "ta_code": "ta_0123456789ab", "ym_uid": "17"}
    late = tell(deal_id="late", identifiers=[("gclid", "g-1")])
    books.append(late)

    record(books, visit(ids=ids))

    assert books.match() == [(late.conversion_id, "gclid")]
    told = tell(deal_id="1", identifiers=[("ta_code", "ta_0123456789ab")])
    assert books.append(told)[told.conversion_id].rule == "ta_code"
    kinds = "select kind from closedloop.identity order by kind"
    assert books.rows(kinds) == ["gclid", "ta_code"]


def test_withdrawn_consent_forgets_the_visitor(books: Books) -> None:
    """The law gives the visitor that word; the money that was counted stays."""
    record(books, visit(ids={"ym_uid": "17"}))
    books.append(tell(deal_id="1", session_id=SESSION))

    assert record(books, visit(withdrawn=True)) == {SESSION: "merged"}

    found = document(books)
    assert found["ids"] == {"session_id": SESSION}
    assert found["visit"] == {"version": 1, "consent": "withdrawn"}
    assert len(books.goals(row_of(books))) == 1
    assert record(books, visit("v2", ids={"ym_uid": "17"})) == {SESSION: "withdrawn"}


def test_withdrawn_consent_of_an_unknown_session_makes_no_row(books: Books) -> None:
    """Whoever refuses at once leaves no trace at all."""
    assert record(books, visit(withdrawn=True)) == {SESSION: "withdrawn"}
    assert books.rows("select 1 from public.user_analytics") == []
