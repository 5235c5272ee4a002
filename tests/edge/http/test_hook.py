"""The webhook of the contract, section 2, through the real server: what is read, counted, kept and shown."""

import json
import secrets
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

import pytest

from fix_flow import Tables, post_many
from fix_server import KEY, Reply, Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON_AS_TEXT = {"Content-Type": "text/plain"}
PARTED = {"Content-Type": "multipart/form-data; boundary=b"}
PART = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
SET_DOCUMENT = "update public.user_analytics set analytics_data = %s where id = %s"
# Its numbers change when they go through a float, and its keys when they are sorted.
OWN_DOCUMENT = """{"b": 2.50, "a": {"ю": [1e3, null]}, "target_actions": {"conversion_flag": false,
    "c": [0.10], "yandex_goals_triggered": [{"goal": "seen", "params": {"x": 1.0}, "timestamp": "t"}, 7]}}"""
REST = """select (analytics_data #- '{target_actions,conversion_flag}'
    #- '{target_actions,yandex_goals_triggered,2}')::text from public.user_analytics where id = %s"""
FLAG = (
    """select analytics_data #> '{target_actions,conversion_flag}' from public.user_analytics where id = %s"""
)
NOT_FOUND = (404, b"Session not found")


class Visit(NamedTuple):
    """One session of one visitor, made for one test."""

    row: int
    session_id: str
    ym_uid: str

    @property
    def updated(self) -> tuple[int, bytes]:
        """The answer to a goal that reached this session."""
        return 200, b'{"success":true,"updated_session":%d}' % self.row


@pytest.fixture
def visit(shared: Tables) -> Visit:
    """Give a new session."""
    return add_visit(shared)


def add_visit(shared: Tables, ym_uid: str | None = None, *, days_ago: int = 0, **ids: str) -> Visit:
    """Insert a session that began so many days ago, of a new visitor unless told of whom."""
    session_id, ym_uid = f"s-{secrets.token_hex(6)}", ym_uid or f"17{secrets.randbelow(10**16) + 10**16}1"
    row = shared.add_session(session_id, ym_uid, **ids)
    query = 'update public.user_analytics set "timestamp" = now() - make_interval(days => %s) where id = %s'
    shared.conn.execute(query, [days_ago, row])
    return Visit(row, session_id, ym_uid)


def short(reply: Reply) -> tuple[int, bytes]:
    """Return status and body."""
    return reply.status, reply.body


def kinds(shared: Tables, deal_id: str) -> list[str]:
    """Return what the journal says of a deal, in order."""
    query = """
        select array_agg(kind order by entry) from closedloop.journal
          join closedloop.conversion using (site, conversion_id) where deal_id = %s"""
    return list(shared.one(query, deal_id))


def test_appended_goal_begins_with_the_four_keys_of_the_contract(
    hook: Server, shared: Tables, visit: Visit
) -> None:
    """People's own dashboards read the goal list by these names, and by nothing that we add behind them."""
    sent = {"session_id": visit.session_id, "occurred_at": "2026-11-23T13:00:00+03:00", "deal_id": 7}
    hook.post(sent | {"goal_name": "payment_success", "goal_value": "5 000,50 руб."})  # noqa: RUF001 - roubles

    [goal] = shared.goals(visit.session_id)
    assert {**goal, "conversion_id": ""} == {
        "goal": "payment_success",
        "timestamp": "2026-11-23T10:00:00.000Z",
        "value": 5000.5,
        "source": "crm_offline",
        "currency": "RUB",
        "conversion_id": "",
        "deal_id": "7",
    }


def test_goal_without_name_and_value_has_the_defaults(hook: Server, shared: Tables, visit: Visit) -> None:
    """The Edge Function filled them in so."""
    assert short(hook.post({"session_id": visit.session_id})) == visit.updated

    [goal] = shared.goals(visit.session_id)
    assert (goal["goal"], goal["value"]) == ("crm_conversion", 0)


@pytest.mark.parametrize(
    ("body", "headers", "query"),
    [
        ('{"session_id": "S", "goal_value": 7}', {"Content-Type": "application/json"}, ""),
        ('{"session_id": "S", "goal_value": 7}', JSON_AS_TEXT, ""),
        ('\ufeff{"session_id": "S", "goal_value": "7"}', {}, ""),
        ("session_id=S&goal_value=7", FORM, ""),
        ("session_id=S&goal_value=7", {}, ""),
        (PART.format("session_id", "S") + PART.format("goal_value", "7") + "--b--\r\n", PARTED, ""),
        ("", {}, "session_id=S&goal_value=7"),
        ("goal_value=7", FORM, "session_id=S"),
        ('{"goal_value": 7}', {}, "session_id=S&goal_value=8"),
        ("session_id=S&goal_value=7", FORM, "session_id=nobody&goal_value=8&ym_uid=1"),
        ('{"session_id": "", "goal_value": 7}', {}, "session_id=S"),
        ("data=" + quote('{"session_id": "S", "goal_value": 7}'), FORM, ""),
    ],
)
def test_every_way_to_write_the_keys_is_read(
    hook: Server, shared: Tables, visit: Visit, body: str, headers: Mapping[str, str], query: str
) -> None:
    """Integrators send JSON, forms and queries, mislabelled and mixed; what the body says wins."""
    sent = body.replace("S", visit.session_id).encode()
    reply = hook.post(sent, headers=headers, query=query.replace("S", visit.session_id))

    assert short(reply) == visit.updated
    assert [goal["value"] for goal in shared.goals(visit.session_id)] == [7]


def test_robot_of_bitrix24_names_its_deal_in_the_body(hook: Server, shared: Tables, visit: Visit) -> None:
    """It POSTs the values in the query string and only the document in the body."""
    deal = secrets.randbelow(10**9)
    body = f"document_id[0]=crm&document_id[1]=CCrmDocumentDeal&document_id[2]=DEAL_{deal}&auth[domain]=x"
    reply = hook.post(body, query=f"session_id={visit.session_id}&key={KEY}", headers=FORM, key=None)

    assert short(reply) == visit.updated
    assert shared.goals(visit.session_id)[0]["deal_id"] == str(deal)


def test_get_writes_once_however_often_it_is_called(hook: Server, shared: Tables, visit: Visit) -> None:
    """Course platforms can only call an address, and whatever stands between calls it again."""
    query = f"key={KEY}&session_id={visit.session_id}&goal_value=9"
    replies = [hook.get(query=query, key=None) for _ in range(3)]

    assert [short(reply) for reply in replies] == [visit.updated] * 3
    assert [goal["value"] for goal in shared.goals(visit.session_id)] == [9]
    assert hook.get(query=query.replace(KEY, "no"), key=None).status == 401


@pytest.mark.parametrize("session_id", [None, "", "unknown-session", "{{Lead.session_id}}"])
def test_ym_uid_finds_the_latest_session_of_the_visitor(
    hook: Server, shared: Tables, session_id: str | None
) -> None:
    """Latest by `timestamp`, not by the order in which rows were written."""
    latest = add_visit(shared, days_ago=1)
    older = add_visit(shared, latest.ym_uid, days_ago=2)

    assert short(hook.post({"session_id": session_id, "ym_uid": latest.ym_uid})) == latest.updated
    assert shared.goals(older.session_id) == []


def test_session_id_that_is_not_unique_means_its_latest_row(
    hook: Server, shared: Tables, visit: Visit
) -> None:
    """Scripts that insert a row for each page view leave many rows of one session."""
    query = """insert into public.user_analytics (session_id, "timestamp")
               values (%s, now() + interval '1 minute') returning id"""
    row = shared.one(query, visit.session_id)
    shared.one(query.replace("+", "-"), visit.session_id)

    assert hook.post({"session_id": visit.session_id}).json()["updated_session"] == row


@pytest.mark.parametrize("spelling", ["%s", '"%s"', '" %s "'])
def test_ym_uid_is_read_from_its_digits(hook: Server, visit: Visit, spelling: str) -> None:
    """Through a float the last digits would change, and another visitor be credited."""
    assert short(hook.post(b'{"ym_uid": %b}' % (spelling % visit.ym_uid).encode())) == visit.updated


def test_rounded_ym_uid_is_repaired_when_one_session_fits(hook: Server, visit: Visit) -> None:
    """JavaScript in the CRM rounded it before it came to us."""
    assert short(hook.post({"ym_uid": float(visit.ym_uid)})) == visit.updated


def test_yclid_finds_its_session(hook: Server, shared: Tables) -> None:
    """The click is known even where the visitor blocked Metrica."""
    yclid = str(secrets.randbelow(10**18))
    visit = add_visit(shared, yclid=yclid)

    assert short(hook.post({"session_id": "unknown", "yclid": yclid})) == visit.updated


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"phone": "+7 900 {}"}, {"phone": "8 (900) {}"}),
        ({"email": "A{}@Shop.example"}, {"email": " a{}@shop.example"}),
    ],
)
def test_buyer_known_from_a_matched_conversion_is_found_again(
    hook: Server, visit: Visit, first: Mapping[str, str], again: Mapping[str, str]
) -> None:
    """The second order often comes by telephone, with nothing of the site in it."""
    person = f"{secrets.randbelow(9 * 10**6) + 10**6}"
    told, told_again = ({key: text.format(person) for key, text in one.items()} for one in (first, again))
    before = hook.post(told_again | {"deal_id": f"before-{person}"})
    hook.post(told | {"session_id": visit.session_id})

    after = hook.post(told_again | {"deal_id": f"after-{person}"})

    assert short(before) == NOT_FOUND
    assert short(after) == visit.updated


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"event_id": "E"}, {}),
        ({}, {"Idempotency-Key": "E"}),
        ({}, {"webhook-id": "E"}),
        ({"deal_id": "E"}, {}),
    ],
)
def test_the_same_id_again_counts_once(
    hook: Server, shared: Tables, visit: Visit, body: Mapping[str, str], headers: Mapping[str, str]
) -> None:
    """Zapier replays for ten hours, n8n three times in a row; other fields may differ between the tries."""
    unique = secrets.token_hex(8)
    sent = dict.fromkeys(body, unique) | {"session_id": visit.session_id, "goal_value": 5}
    label = dict.fromkeys(headers, unique)

    replies = [hook.post(sent | {"try": number}, headers=label) for number in range(3)]

    assert [short(reply) for reply in replies] == [visit.updated] * 3
    assert len(shared.goals(visit.session_id)) == 1


def test_one_event_id_in_two_places_is_one_event(hook: Server, shared: Tables, visit: Visit) -> None:
    """A tool that learns to send the header must not count everything once more."""
    event = secrets.token_hex(8)
    hook.post({"session_id": visit.session_id, "event_id": event})
    hook.post({"session_id": visit.session_id}, headers={"Idempotency-Key": event})

    assert len(shared.goals(visit.session_id)) == 1


def test_identical_bytes_count_once_and_others_anew(hook: Server, shared: Tables, visit: Visit) -> None:
    """Without any id the bytes are all that tells a repetition from a second purchase."""
    body = json.dumps({"session_id": visit.session_id, "goal_value": 5}).encode()
    for sent in (body, body, body + b" ", body.replace(b": 5", b": 6")):
        assert short(hook.post(sent)) == visit.updated

    assert [goal["value"] for goal in shared.goals(visit.session_id)] == [5, 6]


def test_one_deal_reaches_two_goals(hook: Server, shared: Tables, visit: Visit) -> None:
    """Created and won are two moments of one deal."""
    deal = secrets.token_hex(8)
    for goal in ("created", "won", "created"):
        hook.post({"session_id": visit.session_id, "deal_id": deal, "goal_name": goal})

    assert [goal["goal"] for goal in shared.goals(visit.session_id)] == ["created", "won"]


def test_changed_value_is_a_revision_and_an_absent_one_changes_nothing(
    hook: Server, shared: Tables, visit: Visit
) -> None:
    """A manager corrects the sum of a deal for months; it stays one sale, at its last value."""
    deal = secrets.token_hex(8)
    sent = {"session_id": visit.session_id, "deal_id": deal}
    for told in ('{"goal_value": 5000}', '{"goal_value": "5 500,5"}', "{}", '{"goal_value": null}'):
        assert short(hook.post(sent | json.loads(told))) == visit.updated

    [goal] = shared.goals(visit.session_id)
    assert (goal["value"], goal["deal_id"]) == (5500.5, deal)
    assert kinds(shared, deal) == ["matched", "revised", "repeated", "repeated"]
    assert shared.one("select detail->>'value_before' from closedloop.journal where kind = 'revised' "
                      "and detail->>'value' = '5500.5' order by at desc limit 1") == "5000"  # fmt: skip


def test_known_event_with_another_deal_changes_nothing(hook: Server, shared: Tables, visit: Visit) -> None:
    """A sender's event id is its own word that nothing new has happened."""
    event, deal = secrets.token_hex(8), secrets.token_hex(8)
    sent = {"session_id": visit.session_id, "event_id": event, "goal_value": 5}
    first = hook.post(sent | {"deal_id": deal})
    again = hook.post(sent | {"deal_id": f"{deal}-2", "goal_value": 6})

    assert short(first) == short(again) == visit.updated
    assert [(goal["deal_id"], goal["value"]) for goal in shared.goals(visit.session_id)] == [(deal, 5)]
    assert shared.one("select count(*) from closedloop.conversion where deal_id = %s", f"{deal}-2") == 0


def test_unmatched_deal_is_matched_when_it_is_told_with_its_session(
    hook: Server, shared: Tables, visit: Visit
) -> None:
    """The CRM repeats a 404; as soon as one of its requests names the session, the sale is credited, once."""
    deal = secrets.token_hex(8)
    unknown = {"session_id": f"not-{visit.session_id}", "deal_id": deal, "goal_value": 5}
    assert [short(hook.post(unknown)) for _ in range(2)] == [NOT_FOUND] * 2

    assert short(hook.post(unknown | {"session_id": visit.session_id})) == visit.updated

    assert [goal["value"] for goal in shared.goals(visit.session_id)] == [5]
    assert short(hook.post(unknown)) == visit.updated


def test_idempotency_key_of_an_array_covers_all_its_items(hook: Server, shared: Tables, visit: Visit) -> None:
    """One header cannot make several deals one event; sent again, none of them counts again."""
    sent = [{"session_id": visit.session_id, "goal_value": value} for value in (1, 2, 2)]
    label = {"Idempotency-Key": secrets.token_hex(8)}
    replies = [hook.post(sent, headers=label) for _ in range(2)]

    assert replies[0].body == replies[1].body
    assert [goal["value"] for goal in shared.goals(visit.session_id)] == [1, 2, 2]


def test_array_without_ids_counts_equal_items_and_no_replay(
    hook: Server, shared: Tables, visit: Visit
) -> None:
    """Its author listed two purchases; the tool that sends the list again did not make four of them."""
    sent = [{"session_id": visit.session_id, "goal_value": value} for value in (3, 3)]
    for _ in range(2):
        assert hook.post(sent).status == 200

    assert [goal["value"] for goal in shared.goals(visit.session_id)] == [3, 3]


def test_every_other_part_of_the_document_stays_to_the_byte(
    hook: Server, shared: Tables, visit: Visit
) -> None:
    """People's dashboards read what their script wrote, in numbers as it wrote them."""
    shared.conn.execute(SET_DOCUMENT, [OWN_DOCUMENT, visit.row])
    before = shared.one(REST, visit.row)

    assert short(hook.post({"session_id": visit.session_id, "goal_value": 1})) == visit.updated

    assert shared.one(REST, visit.row) == before
    assert shared.one(FLAG, visit.row) is True
    assert [goal["value"] for goal in shared.goals(visit.session_id)[2:]] == [1]


EMPTY = ["null", "{}", '{"target_actions": null}', '{"target_actions": {"yandex_goals_triggered": null}}']
STRANGE = ["[1]", '"x"', '{"target_actions": []}', '{"target_actions": {"yandex_goals_triggered": {"a": 1}}}']


@pytest.mark.parametrize("document", EMPTY + STRANGE)
def test_document_of_any_shape_is_answered_and_none_is_broken(
    hook: Server, shared: Tables, visit: Visit, document: str
) -> None:
    """Where something else stands in the list's place it stays; the sale is in the ledger all the same."""
    shared.conn.execute(SET_DOCUMENT, [document, visit.row])

    assert short(hook.post({"session_id": visit.session_id, "deal_id": visit.session_id})) == visit.updated

    stands = shared.one("select analytics_data from public.user_analytics where id = %s", visit.row)
    assert kinds(shared, visit.session_id) == ["matched"]
    assert (stands == json.loads(document)) is (document in STRANGE)
    assert ("crm_offline" in json.dumps(stands)) is (document in EMPTY)


def test_200_webhooks_at_once_leave_200_goals(hook: Server, shared: Tables, visit: Visit) -> None:
    """The race that the Edge Function lost: read, append, write."""
    sent: list[dict[str, object]] = [
        {"session_id": visit.session_id, "goal_value": value} for value in range(200)
    ]

    replies = post_many(hook, sent, at_once=50)

    assert [short(reply) for reply in replies if isinstance(reply, Reply)] == [visit.updated] * 200
    assert sorted(goal["value"] for goal in shared.goals(visit.session_id)) == list(range(200))


def test_one_webhook_50_times_at_once_counts_once(hook: Server, shared: Tables, visit: Visit) -> None:
    """A sender that times out and repeats does so while the first try still runs."""
    sent: dict[str, object] = {"session_id": visit.session_id, "goal_value": 5}

    replies = post_many(hook, [sent] * 50, at_once=50)

    assert [short(reply) for reply in replies if isinstance(reply, Reply)] == [visit.updated] * 50
    assert len(shared.goals(visit.session_id)) == 1
