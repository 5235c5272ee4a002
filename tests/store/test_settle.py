"""A conversion that is told again is paid for once, with the value that its owner told last."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from fix_ledger import NOW, SITE, WINDOW, Books, tell

SECOND = timedelta(seconds=1)
A, B = Decimal("100.50"), Decimal(200)


def revisions(books: Books) -> list[tuple[Decimal, str, int]]:
    """Return value, currency and revision of every conversion, oldest first."""
    query = "select value, currency, revision from closedloop.conversion order by conversion_id"
    return books.rows(query)


def tell_values(books: Books, *told: tuple[Decimal | None, int]) -> list[str]:
    """Tell one deal's values, each received so many seconds after the start; return what each was."""
    return [books.tell(tell(deal_id="7", value=value, at=NOW + after * SECOND)) for value, after in told]


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (timedelta(0), "repeated"),
        (WINDOW, "repeated"),
        (WINDOW + timedelta(microseconds=1), "new"),
        (-WINDOW * 2, "repeated"),
    ],
)
def test_equal_bytes_count_anew_after_the_window(books: Books, after: timedelta, kind: str) -> None:
    """Zapier replays for hours and must not count twice; a purchase a day later must."""
    books.tell(tell(ym_uid="1", digest=b"a" * 32))

    again = books.tell(tell(ym_uid="1", digest=b"a" * 32, at=NOW + after))

    assert again == kind
    assert len(revisions(books)) == (2 if kind == "new" else 1)


def test_bytes_after_the_window_open_a_new_one(books: Books) -> None:
    """A replay of the second purchase is a replay, too."""
    later = NOW + WINDOW + SECOND
    books.tell(tell(ym_uid="1"))
    second = tell(ym_uid="1", at=later)
    books.tell(second)

    again = books.settle(tell(ym_uid="1", at=later + WINDOW))

    assert (again.kind, again.recorded.conversion_id) == ("repeated", second.conversion_id)


@pytest.mark.parametrize(("site", "kind"), [(SITE, "new"), ("gone", "repeated")])
def test_window_is_the_one_of_the_site(books: Books, site: str, kind: str) -> None:
    """A site that left the configuration while its webhooks waited still counts nothing twice."""
    books.statements.settler.windows = {SITE: SECOND}
    books.tell(tell(ym_uid="1"), site)

    assert books.tell(tell(ym_uid="1", at=NOW + 2 * SECOND), site) == kind


@pytest.mark.parametrize("ids", [{"deal_id": "7"}, {"event_id": "e"}])
def test_deals_and_events_have_no_window(books: Books, ids: Mapping[str, Any]) -> None:
    """A deal reaches a goal once in its whole life, and an event id is its sender's word."""
    books.tell(tell(**ids))

    assert books.tell(tell(**ids, at=NOW + 1000 * WINDOW)) == "repeated"


def test_value_that_changes_back_is_two_revisions(books: Books) -> None:
    """Platforms were told 100, 200 and 100 again; the number of the revision is how they know."""
    kinds = tell_values(books, (A, 0), (B, 1), (A, 2))

    assert kinds == ["new", "revised", "revised"]
    assert revisions(books) == [(A, "RUB", 3)]
    details = books.rows("select detail from closedloop.journal where kind = 'revised' order by entry")
    assert details == [
        {"value": "200", "currency": "RUB", "value_before": "100.50", "currency_before": "RUB"},
        {"value": "100.50", "currency": "RUB", "value_before": "200", "currency_before": "RUB"},
    ]


@pytest.mark.parametrize("currency", [None, "EUR"])
def test_absent_value_changes_nothing(books: Books, currency: str | None) -> None:
    """A robot on a later stage that sends no value must not make the deal worth nothing."""
    tell_values(books, (A, 0))

    again = books.tell(tell(deal_id="7", value=None, currency=currency, at=NOW + SECOND))

    assert (again, revisions(books)) == ("repeated", [(A, "RUB", 1)])


def test_value_without_currency_keeps_the_known_one(books: Books) -> None:
    """The site's default must not turn euros into roubles."""
    books.tell(tell(deal_id="7", value=A, currency="EUR"))

    books.tell(tell(deal_id="7", value=B, at=NOW + SECOND))

    assert revisions(books) == [(B, "EUR", 2)]


def test_older_value_does_not_win(books: Books) -> None:
    """A webhook that waited in the spool is history when the database is back."""
    kinds = tell_values(books, (A, 10), (B, 5))

    assert (kinds, revisions(books)) == (["new", "stale"], [(A, "RUB", 1)])
    assert books.journal() == ["unmatched", "stale"]


def test_value_told_again_is_not_undone_by_an_older_one(books: Books) -> None:
    """A, then in the spool B, then A once more: the owner's last word is A."""
    tell_values(books, (A, 0), (A, 10), (B, 5))

    assert revisions(books) == [(A, "RUB", 1)]


def test_absent_value_does_not_make_an_older_one_stale(books: Books) -> None:
    """The first stage sent no value, the value waited in the spool: the deal must not stay worth nothing."""
    tell_values(books, (None, 10), (A, 5))

    assert [value for value, _, _ in revisions(books)] == [A]


@pytest.mark.parametrize("ids", [{"event_id": "e"}, {"ym_uid": "1"}])
def test_only_deals_are_revised(books: Books, ids: Mapping[str, Any]) -> None:
    """An event id, or equal bytes, say that this is the same fact; another value is a mistake there."""
    books.tell(tell(**ids, value=A))

    again = books.tell(tell(**ids, value=B, at=NOW + SECOND))

    assert (again, revisions(books)) == ("repeated", [(A, "RUB", 1)])


@pytest.mark.parametrize("ids", [{"deal_id": "7"}, {"deal_id": "7", "event_id": "e"}, {"event_id": "e"}, {}])
def test_conversion_met_after_a_lost_answer_is_no_repetition(books: Books, ids: Mapping[str, Any]) -> None:
    """The commit succeeded and its answer was lost: the journal must not blame the sender."""
    conversion = tell(**ids, value=A)
    books.append(conversion)

    settled = books.settle(conversion)

    assert settled.recorded.conversion_id == conversion.conversion_id
    assert books.journal() == ["unmatched"]


def test_event_of_another_deal_answers_for_the_first(books: Books) -> None:
    """An event id counts once, so the second deal under it is answered as the first was."""
    row = books.add_session("s")
    first = tell(deal_id="1", event_id="e", session_id="s")
    books.tell(first)

    again = books.settle(tell(deal_id="2", event_id="e", session_id="other"))

    assert (again.kind, again.recorded.conversion_id) == ("repeated", first.conversion_id)
    assert again.recorded.session_row == row
    assert len(revisions(books)) == 1


def test_event_once_used_stays_used_after_a_revision(books: Books) -> None:
    """A, B, and A's own request repeated: the repetition must not bring A back."""
    for event, value in (("a", A), ("b", B), ("a", A)):
        books.tell(tell(deal_id="7", event_id=event, value=value, at=NOW + SECOND * ord(event)))

    assert revisions(books) == [(B, "RUB", 2)]


def test_unmatched_deal_is_matched_by_what_is_told_now(books: Books) -> None:
    """The second webhook of a deal may be the one that carries the session."""
    row = books.add_session("s", ym_uid="1")
    first = tell(deal_id="7", session_id="unknown", value=A)
    books.tell(first)

    again = books.settle(tell(deal_id="7", ym_uid="1", value=B, at=NOW + SECOND))

    assert (again.kind, again.recorded.session_row, again.recorded.imaged) == ("revised", row, False)
    assert [(goal["conversion_id"], goal["value"]) for goal in books.goals(row)] == [
        (str(first.conversion_id), B)
    ]
    assert books.rows("select * from closedloop.waiting") == []


def test_unmatched_deal_waits_for_what_was_told_last(books: Books) -> None:
    """The manager mends a mistyped session in the CRM before the tracker has sent the right one."""
    books.tell(tell(deal_id="7", session_id="mistyped", identifiers=[("phone", "h")], value=A))

    again = books.settle(tell(deal_id="7", session_id="s", ym_uid="2", value=A, at=NOW + SECOND))

    assert (again.kind, books.journal()) == ("repeated", ["unmatched", "unmatched", "repeated"])
    waiting = books.rows("select kind, value from closedloop.waiting order by kind")
    assert waiting == [("phone", "h"), ("session_id", "s"), ("ym_uid", "2")]
    row = books.add_session("s")
    assert [rule for _, rule in books.match()] == ["session_id"]
    assert len(books.goals(row)) == 1


def test_older_telling_adds_but_does_not_replace(books: Books) -> None:
    """A webhook from the spool may know the session that the later one lacked; it knows no better."""
    books.tell(tell(deal_id="7", ym_uid="2", value=A, at=NOW + SECOND))

    books.tell(tell(deal_id="7", session_id="s", ym_uid="1", value=B))

    waiting = books.rows("select kind, value from closedloop.waiting order by kind")
    assert waiting == [("session_id", "s"), ("ym_uid", "2")]


def test_repetition_of_an_unmatched_deal_writes_no_waiting_row(books: Books) -> None:
    """Make repeats a refused webhook for hours; nothing may be written anew each time."""
    ids: dict[str, Any] = {"session_id": "s", "ym_uid": "2", "identifiers": [("phone", "h")]}
    books.tell(tell(deal_id="7", **ids))
    before = books.rows("select xmin::text, ctid::text from closedloop.waiting order by 1, 2")

    books.tell(tell(deal_id="7", **ids, at=NOW + SECOND))

    assert books.rows("select xmin::text, ctid::text from closedloop.waiting order by 1, 2") == before


def test_matched_deal_never_moves_to_another_session(books: Books) -> None:
    """The goal was already told to a platform for the first visit."""
    row, other = books.add_session("s"), books.add_session("other")
    books.tell(tell(deal_id="7", session_id="s"))

    again = books.settle(tell(deal_id="7", session_id="other", at=NOW + SECOND))

    assert (again.kind, again.recorded.session_row) == ("repeated", row)
    assert books.goals(other) == []


def test_many_are_settled_each_by_its_own_id(books: Books) -> None:
    """A batch in which one answer took another's place would tell a sender about a stranger's deal."""
    told = [tell(deal_id=str(deal)) for deal in (3, 1, 2, 1)]

    settled = books.run(lambda conn: books.statements.settler.settle(conn, SITE, told))

    recorded: dict[UUID, UUID] = {one: what.recorded.conversion_id for one, what in settled.items()}
    assert recorded == {one.conversion_id: one.conversion_id for one in told[:3]} | {
        told[3].conversion_id: told[1].conversion_id
    }
