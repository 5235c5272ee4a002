"""One statement records a batch; what it forgets is money, what it does twice is paid twice."""

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from closedloop.domain.conversion import dedup_key
from closedloop.store.conversions import (
    Recorded,
    confirm,
    free_key,
    lock_known,
    recorded_by_event,
    recorded_by_id,
    remember_event,
    revise,
    window_is_over,
)
from fix_ledger import NOW, SITE, WINDOW, Books, new_id, tell

SECOND = timedelta(seconds=1)
PHONE, EMAIL = ("phone", "h1"), ("email", "h2")


def test_new_conversions_are_recorded_with_their_goals(any_books: Books) -> None:
    """The hook answers 200 on the strength of this answer alone."""
    row = any_books.add_session("s")
    found, lost = (
        tell(deal_id="1", session_id="s", value=Decimal("1000.50")),
        tell(deal_id="2", session_id="x"),
    )

    answer = any_books.append(found, lost)

    assert answer == {
        found.conversion_id: Recorded(
            conversion_id=found.conversion_id, session_row=row, rule="session_id", imaged=True
        ),
        lost.conversion_id: Recorded(conversion_id=lost.conversion_id, session_row=None),
    }
    assert any_books.rows("select conversion_id, state, revision from closedloop.conversion order by 1") == [
        (found.conversion_id, "matched", 1),
        (lost.conversion_id, "unmatched", 1),
    ]
    assert any_books.journal() == ["matched", "unmatched"]


def test_goal_is_written_as_the_contract_says(any_books: Books) -> None:
    """People's dashboards read these four keys, and the flag."""
    row = any_books.add_session("s")
    conversion = tell(deal_id="7", session_id="s", value=Decimal(5000), currency="EUR")

    any_books.append(conversion)

    goal = {"goal": "sale", "timestamp": "2026-11-23T10:00:00.000Z", "value": 5000, "source": "crm_offline"}
    more = {"currency": "EUR", "conversion_id": str(conversion.conversion_id), "deal_id": "7"}
    assert json.loads(any_books.document(row)) == {
        "target_actions": {"conversion_flag": True, "yandex_goals_triggered": [{**goal, **more}]}
    }


def test_goals_of_a_batch_stand_in_order(any_books: Books) -> None:
    """A session's goals are read as a story; those of one batch must not be shuffled."""
    rows = [any_books.add_session(session) for session in ("a", "b")]
    told = [tell(deal_id=str(deal), session_id="ab"[deal % 2]) for deal in range(20)]

    any_books.append(*told[:7])
    any_books.append(*reversed(told[7:]))

    for start, row in enumerate(rows):
        expected = [str(deal) for deal in range(20)][start::2]
        assert [goal["deal_id"] for goal in any_books.goals(row)] == expected


@pytest.mark.parametrize("ids", [{"deal_id": "7"}, {"event_id": "e"}, {}, {"deal_id": "7", "event_id": "e"}])
def test_duplicates_within_a_batch_are_recorded_once(any_books: Books, ids: Mapping[str, Any]) -> None:
    """A CRM that retries at once sends both into one batch."""
    row = any_books.add_session("s")

    answer = any_books.append(*(tell(session_id="s", **ids) for _ in range(3)))

    assert len(answer) == len(any_books.goals(row)) == 1
    assert any_books.journal() == ["matched"]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"deal_id": "7"}, {"deal_id": "7", "event_id": "new"}),
        ({"deal_id": "7", "event_id": "e"}, {"deal_id": "8", "event_id": "e"}),
        ({"event_id": "e"}, {"deal_id": "8", "event_id": "e"}),
        ({"deal_id": "7", "event_id": "e"}, {"event_id": "e"}),
        ({}, {"value": Decimal(7)}),
    ],
)
def test_known_conversions_are_left_out(
    any_books: Books, first: Mapping[str, Any], again: Mapping[str, Any]
) -> None:
    """The key and the event id each suffice; the caller then looks closer, and nothing may be written yet."""
    row = any_books.add_session("s")
    any_books.append(tell(session_id="s", **first))
    before = any_books.document(row)

    answer = any_books.append(tell(session_id="s", **again))

    assert (answer, any_books.document(row), any_books.journal()) == ({}, before, ["matched"])
    assert any_books.rows("select event_id from closedloop.event") == [
        event for event in [first.get("event_id")] if event
    ]


def test_known_and_new_in_one_batch_do_not_disturb(any_books: Books) -> None:
    """One repetition must not cost its neighbours their goals."""
    row = any_books.add_session("s")
    any_books.append(tell(deal_id="1", session_id="s"))

    answer = any_books.append(*(tell(deal_id=deal, session_id="s") for deal in "213"))

    assert len(answer) == 2
    assert [goal["deal_id"] for goal in any_books.goals(row)] == ["1", "2", "3"]


def test_first_of_equal_ones_is_recorded(any_books: Books) -> None:
    """Those behind it revise it in their order; were a later one first, the old sum would win."""
    first, again = ([tell(deal_id=str(deal)) for deal in range(100)] for _ in range(2))

    answer = any_books.append(*first, *again)

    assert sum(one.conversion_id in answer for one in first) == 100


def test_one_event_for_two_deals_of_a_batch_counts_once(any_books: Books) -> None:
    """An event id is the sender's promise that this is one fact."""
    row = any_books.add_session("s")

    answer = any_books.append(*(tell(deal_id=deal, event_id="e", session_id="s") for deal in "12"))

    assert len(answer) == len(any_books.goals(row)) == 1
    assert any_books.rows("select conversion_id from closedloop.event") == list(answer)


def test_equal_keys_of_two_sites_are_two_conversions(any_books: Books) -> None:
    """Deal 662 of one shop is nobody's at the other."""
    sites = (SITE, "other")

    answers = [any_books.append(tell(deal_id="662", event_id="e"), site=one) for one in sites]

    assert [len(answer) for answer in answers] == [1, 1]


ROUNDED = ("1741000000123456000", "1741000000123457000")


@pytest.mark.parametrize(
    "rule", ["session_id", "ym_uid", "ym_uid_rounded", "yclid", "phone"], ids=lambda rule: f"by_{rule}"
)
def test_most_certain_identifier_decides(any_books: Books, rule: str) -> None:
    """A phone is shared by a family, a session id is not: the goal belongs to the surest visit."""
    rules = ["session_id", "ym_uid", "ym_uid_rounded", "yclid", "phone"]
    rows = {"session_id": any_books.add_session("s"), "ym_uid": any_books.add_session("a", ym_uid="17")}
    rows["ym_uid_rounded"] = any_books.add_session("b", ym_uid="1741000000123456789")
    rows["yclid"], rows["phone"] = any_books.add_session("c", yclid="9"), any_books.add_session("d")
    any_books.append(tell(deal_id="0", session_id="d", identifiers=[PHONE]))
    known = set(rules[rules.index(rule) :])
    ids: dict[str, Any] = {"session_id": "s" if "session_id" in known else "unknown"}
    ids["ym_uid"] = "17" if "ym_uid" in known else "18"
    ids["ym_uid_interval"] = ROUNDED if "ym_uid_rounded" in known else None

    click = {"yclid": "9" if "yclid" in known else "8"}
    answer = any_books.append(tell(deal_id="1", click_ids=click, identifiers=[PHONE], **ids))

    assert [(one.session_row, one.rule) for one in answer.values()] == [(rows[rule], rule)]


@pytest.mark.parametrize(
    "told",
    [
        {"session_id": "s"},
        {"ym_uid": "1741000000123456789"},
        {"ym_uid": "1741000000123456800", "ym_uid_interval": ROUNDED},
        {"click_ids": {"yclid": "9"}},
    ],
    ids=["session_id", "ym_uid", "ym_uid_rounded", "yclid"],
)
def test_latest_session_by_timestamp_is_credited(any_books: Books, told: Mapping[str, Any]) -> None:
    """A visitor has many sessions; the one before the purchase led to it, whenever its row was written."""
    moments = [NOW - 2 * SECOND, NOW, NOW - SECOND, None]
    rows = [any_books.add_session("s", at=at, ym_uid="1741000000123456789", yclid="9") for at in moments]

    answer = any_books.append(tell(**told))

    assert [one.session_row for one in answer.values()] == [rows[1]]


def test_rounded_id_of_two_visitors_decides_nothing(any_books: Books) -> None:
    """A goal credited to a stranger's visit is worse than one that waits."""
    for number in (1, 2):
        any_books.add_session(f"s{number}", ym_uid=f"174100000012345678{number}")

    answer = any_books.append(tell(ym_uid="1741000000123456800", ym_uid_interval=ROUNDED))

    assert [one.session_row for one in answer.values()] == [None]


@pytest.mark.parametrize(
    "told",
    [
        {"session_id": "s"},
        {"ym_uid": "17"},
        {"ym_uid": "1", "ym_uid_interval": ("10", "19")},
        {"click_ids": {"yclid": "9"}},
        {"identifiers": [PHONE]},
    ],
    ids=["session_id", "ym_uid", "ym_uid_rounded", "yclid", "phone"],
)
def test_session_of_another_site_is_never_matched(any_books: Books, told: Mapping[str, Any]) -> None:
    """Two shops in one database are two owners."""
    any_books.add_session("s", site="other", ym_uid="17", yclid="9")
    any_books.append(tell(session_id="s", identifiers=[PHONE]), site="other")

    answer = any_books.append(tell(**told))

    assert [one.session_row for one in answer.values()] == [None]


PLACES = ["%s", '{"target_actions": %s}', '{"target_actions": {"yandex_goals_triggered": %s}}']
KINDS = ["[]", '"text"', "7", "true", "null", "{}"]
FIT = {"null", "{}", PLACES[1] % "{}", PLACES[1] % "null", PLACES[2] % "[]", PLACES[2] % "null"}


def test_odd_document_is_left_alone(any_books: Books) -> None:
    """What a script put where the list belongs may be all that its owner has."""
    documents = [place % kind for place in PLACES for kind in KINDS]
    rows = {one: any_books.add_session(one, document=one) for one in documents}
    before = {one: any_books.document(row) for one, row in rows.items()}

    answer = any_books.append(*(tell(deal_id=one, session_id=one) for one in documents))

    assert {one for one, row in rows.items() if any_books.document(row) != before[one]} == FIT
    assert {one.session_row for one in answer.values() if one.imaged} == set(rows.values())


def test_other_keys_stay_untouched(any_books: Books) -> None:
    """Everything that people's scripts keep there is theirs, exotic numbers and keys included."""
    goals = [{"goal": "seen", "params": {"n": 1}}, "text", None]
    actions = {"yandex_goals_triggered": goals, "a": [1, {"b": None}], "conversion_flag": False}
    theirs = {"target_actions": actions, "ids": {"ym_uid": "1"}, "": 1, "ключ": "\u2028", "big": 10**30}
    row = any_books.add_session("s", document=json.dumps(theirs))

    any_books.append(tell(session_id="s"))

    document = json.loads(any_books.document(row))
    assert document["target_actions"].pop("yandex_goals_triggered")[:-1] == goals
    assert document["target_actions"].pop("conversion_flag") is True
    del actions["yandex_goals_triggered"], actions["conversion_flag"]
    assert document == theirs


@pytest.mark.parametrize("value", ["1000.50", "999999999999999.999999", "-0.000001", "0", "5000", "100.10"])
def test_decimals_are_exact(any_books: Books, value: str) -> None:
    """A value that went through a float is a value that a bookkeeper finds."""
    row = any_books.add_session("s")

    any_books.append(tell(session_id="s", value=Decimal(value)))

    assert f'"value": {value},' in any_books.document(row)
    assert [str(one) for one in any_books.rows("select value from closedloop.conversion")] == [value]


def test_only_matched_conversions_teach_identities(any_books: Books) -> None:
    """A phone stands for a visit once a visit is known; that of an unmatched deal stands for nothing yet."""
    row = any_books.add_session("s")

    any_books.append(
        tell(deal_id="1", session_id="s", identifiers=[PHONE, PHONE]),
        tell(deal_id="2", session_id="x", identifiers=[EMAIL]),
    )

    query = "select kind, value, session_row, seen_at from closedloop.identity"
    assert any_books.rows(query) == [(*PHONE, row, NOW)]


def test_only_unmatched_conversions_wait(any_books: Books) -> None:
    """The search for late sessions costs what waits, so nothing waits in vain."""
    any_books.add_session("s")
    ids: dict[str, Any] = {
        "ym_uid": "1",
        "ym_uid_interval": ROUNDED,
        "click_ids": {"yclid": "9", "gclid": "g"},
    }
    lost = tell(deal_id="2", session_id="x", identifiers=[PHONE], **ids)

    any_books.append(tell(deal_id="1", session_id="s", identifiers=[EMAIL], **ids), lost)

    own = {("session_id", "x"), ("ym_uid", "1"), ("ym_uid_rounded", ROUNDED[0]), ("yclid", "9"), PHONE}
    waiting = any_books.rows("select waiter_id, kind, value from closedloop.waiting")
    assert sorted(waiting) == sorted((lost.conversion_id, *one) for one in own)


def test_held_session_is_passed_over_at_once(any_books: Books) -> None:
    """One script with a long transaction must not hold up everybody's webhooks."""
    held, free = any_books.add_session("held"), any_books.add_session("free")
    told = [tell(deal_id=session, session_id=session) for session in ("held", "free")]
    with psycopg.connect(any_books.url) as script:
        script.execute("update public.user_analytics set site = site where id::text = %s", [held])

        answer = any_books.append(*told)

    assert [(answer[one.conversion_id].session_row, answer[one.conversion_id].imaged) for one in told] == [
        (held, False),
        (free, True),
    ]
    assert (any_books.goals(held), len(any_books.goals(free))) == ([], 1)


def test_record_without_images_leaves_sessions_alone(any_books: Books) -> None:
    """For a session whose trigger refuses every change: the conversion is safe, its goal has to follow."""
    row = any_books.add_session("s")
    told = tell(session_id="s")
    ledger = any_books.statements.ledger

    answer = any_books.run(lambda conn: ledger.append_batch(conn, SITE, [told], [], with_images=False))

    recorded = answer[told.conversion_id]
    assert (recorded.session_row, recorded.rule, recorded.imaged) == (row, "session_id", False)
    assert (any_books.document(row), any_books.journal()) == ("{}", ["matched"])


def test_session_is_found_as_in_the_batch(any_books: Books) -> None:
    """Told again, a deal must find the very session that it would have found the first time."""
    row = any_books.add_session("s", ym_uid="1741000000123456789")
    find = any_books.statements.ledger.find_session
    told = [tell(session_id="s"), tell(ym_uid="1", ym_uid_interval=ROUNDED), tell(identifiers=[PHONE])]

    found = [any_books.run(partial(find, site=SITE, conversion=one)) for one in told]

    assert found == [(row, "session_id"), (row, "ym_uid_rounded"), None]


def test_event_belongs_to_whoever_was_first(books: Books) -> None:
    """Two conversions that claim one event id at once: exactly one gets it."""
    first, second = tell(deal_id="1"), tell(deal_id="2")
    books.append(first, second)
    claims = [
        partial(remember_event, site=SITE, event_id="e", conversion_id=one.conversion_id)
        for one in (first, second)
    ]

    assert [books.run(claim) for claim in claims] == [True, False]
    assert books.run(lambda conn: recorded_by_event(conn, SITE, "e")) == Recorded(
        conversion_id=first.conversion_id, session_row=None
    )
    assert books.run(lambda conn: recorded_by_id(conn, SITE, new_id())) is None


def test_known_conversion_is_changed_alone(books: Books) -> None:
    """A statement without its where-clause would revise a whole shop."""
    told = [tell(deal_id=deal, value=Decimal(1)) for deal in "123"]
    books.append(*told)

    async def change(conn: AsyncConnection[Any]) -> None:
        known = await lock_known(conn, SITE, dedup_key(told[0].told))
        assert known is not None
        await revise(conn, SITE, tell(at=NOW + SECOND), known, Decimal("2.50"), "EUR")
        await confirm(conn, SITE, told[1].conversion_id, NOW + 2 * SECOND)

    books.run(change)
    query = "select value, currency, revision, told_at from closedloop.conversion order by deal_id"
    changed = [(Decimal("2.50"), "EUR", 2, NOW + SECOND), (Decimal(1), "RUB", 1, NOW + 2 * SECOND)]
    assert books.rows(query) == [*changed, (Decimal(1), "RUB", 1, NOW)]


@pytest.mark.parametrize(
    ("ids", "after", "over"),
    [({}, WINDOW, False), ({}, WINDOW + SECOND, True), ({"deal_id": "7"}, WINDOW * 9, False)],
)
def test_freed_key_counts_anew(books: Books, ids: Mapping[str, Any], after: timedelta, over: object) -> None:
    """Equal bytes a day later are a purchase; the old conversion stays, only its key is gone."""
    told = tell(**ids)
    books.append(told)

    async def free(conn: AsyncConnection[Any]) -> bool:
        known = await lock_known(conn, SITE, dedup_key(told.told))
        assert known is not None
        await free_key(conn, SITE, known)
        return window_is_over(known, NOW + after, WINDOW)

    assert books.run(free) is over
    assert len(books.append(tell(**ids))) == 1
    assert books.rows("select count(*) from closedloop.conversion") == [2]
