"""Nothing is lost: a conversion that came before its session is matched when the session comes."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from closedloop.store.waiting import CHUNK, Found, match_late, written_so_far
from fix_ledger import NOW, SITE, Books, new_id, tell

PHONE = ("phone", "h1")
ROUNDED = ("1741000000123456000", "1741000000123457000")
TOLD: dict[str, dict[str, Any]] = {
    "session_id": {"session_id": "s"},
    "ym_uid": {"ym_uid": "1741000000123456789"},
    "ym_uid_rounded": {"ym_uid": "1741000000123456800", "ym_uid_interval": ROUNDED},
    "yclid": {"click_ids": {"yclid": "9"}},
    "phone": {"identifiers": [PHONE]},
}


def session_arrives(books: Books, site: str = SITE) -> str:
    """Insert a session that answers each of `TOLD`: the phone by a conversion that knows it."""
    row = books.add_session("s", site=site, ym_uid="1741000000123456789", yclid="9")
    books.append(tell(deal_id="knows", session_id="s", identifiers=[PHONE]), site=site)
    return row


@pytest.mark.parametrize("rule", TOLD)
def test_late_session_is_found_by_each_identifier(any_books: Books, rule: str) -> None:
    """People pay before the page has sent its last word; whatever they are known by must do."""
    told = tell(deal_id="1", value=Decimal("10.50"), **TOLD[rule])
    any_books.append(told)
    row = session_arrives(any_books)

    matched = any_books.match(at=NOW + timedelta(seconds=9))

    assert matched == [(told.conversion_id, rule)]
    query = "select state, session_row, rule, matched_at from closedloop.conversion where deal_id = '1'"
    assert any_books.rows(query) == [("matched", row, rule, NOW + timedelta(seconds=9))]
    assert [goal["value"] for goal in any_books.goals(row) if goal["deal_id"] == "1"] == [Decimal("10.50")]


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_nothing_is_found_while_nothing_came(any_books: Books, told: Mapping[str, Any]) -> None:
    """Sessions of strangers come every second and must not stir what waits."""
    any_books.append(tell(deal_id="1", **told))
    any_books.add_session("t", ym_uid="1741000000123450000", yclid="8")
    any_books.add_session("u")

    assert any_books.run(lambda conn: any_books.statements.waiting.find_answered(conn, SITE)) == []


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_session_of_another_site_answers_nothing(books: Books, told: Mapping[str, Any]) -> None:
    """Two shops in one database are two owners."""
    books.append(tell(deal_id="1", **told))

    session_arrives(books, "other")

    assert books.match() == []


def test_rounded_id_waits_while_two_visitors_fit(books: Books) -> None:
    """Guessing between two people is worse than waiting."""
    books.append(tell(**TOLD["ym_uid_rounded"]))
    for number in (1, 2):
        books.add_session(f"s{number}", ym_uid=f"174100000012345678{number}")

    assert books.match() == []
    assert len(books.rows("select 1 from closedloop.waiting")) == 2


def test_rows_vanish_after_the_match(any_books: Books) -> None:
    """The search costs what waits; a row left behind is paid for every second, for ever."""
    everything: dict[str, Any] = {key: value for told in TOLD.values() for key, value in told.items()}
    any_books.append(tell(deal_id="1", **everything), tell(deal_id="2", session_id="later"))
    session_arrives(any_books)

    any_books.match()

    assert any_books.rows("select kind, value from closedloop.waiting") == [("session_id", "later")]
    assert any_books.match() == []


def test_late_match_is_journalled_and_teaches_identities(any_books: Books) -> None:
    """The dashboard says that the session came late, and the phone is known from now on."""
    told = tell(deal_id="1", session_id="s", identifiers=[PHONE, ("email", "h2")])
    any_books.append(told)
    row = any_books.add_session("s")

    any_books.match()

    assert any_books.journal() == ["unmatched", "matched"]
    late = "select webhook_id, detail from closedloop.journal where kind = 'matched'"
    assert any_books.rows(late) == [(None, {"late": True})]
    known = any_books.rows("select kind, value, session_row from closedloop.identity order by kind")
    assert known == [("email", "h2", row), (*PHONE, row)]


def test_match_teaches_the_next_one(books: Books) -> None:
    """One person's two deals wait with one phone; the session of the first answers the second, too."""
    first = tell(deal_id="1", session_id="s", identifiers=[PHONE])
    second = tell(deal_id="2", identifiers=[PHONE])
    books.append(first, second)
    books.add_session("s")

    rounds = [books.match(), books.match(), books.match()]

    assert rounds == [[(first.conversion_id, "session_id")], [(second.conversion_id, "phone")], []]


def test_second_match_changes_nothing(books: Books) -> None:
    """Two processes look at the same time; the conversion stays with whoever was first."""
    told = tell(deal_id="1", session_id="s")
    books.append(told)
    rows = [books.add_session(session) for session in "st"]
    found = [
        Found(
            conversion_id=told.conversion_id,
            session_row=row,
            rule="session_id",
            goal="sale",
            deal_id="1",
            value=told.value,
            currency="RUB",
            occurred_at=NOW,
        )
        for row in rows
    ]

    won = [
        books.run(partial(match_late, site=SITE, found=one, now=NOW, webhook_id=new_id())) for one in found
    ]

    assert won == [True, False]
    assert books.rows("select session_row from closedloop.conversion") == rows[:1]
    assert books.journal() == ["unmatched", "matched"]


def test_candidate_that_nobody_answers_is_not_found(books: Books) -> None:
    """A candidate is a hint; the session may be gone when it is looked at, or the conversion matched."""
    books.add_session("s")
    lost, done = tell(deal_id="1", session_id="x"), tell(deal_id="2", session_id="s")
    books.append(lost, done)
    ids = [lost.conversion_id, done.conversion_id, new_id()]

    assert books.run(lambda conn: books.statements.waiting.find_sessions(conn, SITE, ids)) == []


def told_by(kind: str, value: str) -> dict[str, Any]:
    """Return the field that tells one identifier."""
    return {"click_ids": {"yclid": value}} if kind == "yclid" else {kind: value}


@pytest.mark.parametrize("kind", ["session_id", "ym_uid", "yclid"])
def test_many_are_matched_in_bounded_rounds(any_books: Books, kind: str) -> None:
    """After an hour without a tracker hundreds come at once: each round is bounded, none is forgotten."""
    any_books.append(*(tell(deal_id=str(number), **told_by(kind, str(number))) for number in range(1200)))
    query = """insert into public.user_analytics (session_id, analytics_data)
               select n::text, jsonb_build_object('ids', jsonb_build_object('ym_uid', n, 'yclid', n))
                 from generate_series(500, 1199) n"""
    any_books.sql.execute(query)

    rounds = [len(any_books.match()) for _ in range(3)]

    assert rounds == [CHUNK, 200, 0]
    assert any_books.rows("select count(*) from closedloop.waiting") == [500]


def test_log_position_tells_that_something_was_written(books: Books) -> None:
    """An idle night costs no search, and the first session after it is noticed."""
    before = books.run(written_so_far)

    books.add_session("s")

    assert books.run(written_so_far) != before
