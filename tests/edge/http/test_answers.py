"""The answers of the contract, section 2, to the letter: CRMs of users compare them."""

import gzip
import json
from collections.abc import Iterator, Mapping

import httpx
import pytest

from closedloop.edge.http.answers import CORS, answer_error, answer_settled
from closedloop.errors import (
    BusyError,
    CallerError,
    DatabaseAwayError,
    DatabaseRefusedError,
    MissingIdError,
    TooLargeError,
    UnknownKeyError,
)
from fix_flow import Tables
from fix_server import HOOK, KEY, Reply, Server

TEXT = "text/plain;charset=UTF-8"
JSON = "application/json"
ROW = 1
WRONG_TYPE = "must be text or an integer and is"


@pytest.fixture(scope="module", autouse=True)
def tables(hook: Server) -> Iterator[Tables]:
    """Give the tables of this file's server; the session `s-1` is in row 1."""
    assert hook.database_url is not None
    opened = Tables(hook.database_url)
    assert opened.add_session("s-1") == ROW
    yield opened
    opened.conn.close()


def shape(reply: Reply) -> tuple[int, str, bytes]:
    """Return what a sender goes by."""
    return reply.status, reply.headers["content-type"], reply.body


def stored(tables: Tables) -> tuple[int, int]:
    """Return how many webhooks and conversions there are."""
    count = "select (select count(*) from closedloop.webhook), (select count(*) from closedloop.conversion)"
    row = tables.conn.execute(count).fetchone()
    assert row is not None
    return row[0], row[1]


def test_appended_goal_is_answered_with_its_session(hook: Server) -> None:
    """The answer of the Edge Function; `updated_session` is a number where the table's id is one."""
    reply = hook.post({"session_id": "s-1", "deal_id": "answer"})

    assert shape(reply) == (200, JSON, b'{"success":true,"updated_session":1}')


@pytest.mark.parametrize(
    "body", [b"", {}, {"session_id": None}, {"session_id": "", "ym_uid": "{{Lead.ym_uid}}"}]
)
def test_missing_identifier_is_answered_in_text(hook: Server, body: bytes | Mapping[str, object]) -> None:
    """A placeholder that the CRM left unfilled is no identifier."""
    assert shape(hook.post(body)) == (400, TEXT, b"Missing session_id or ym_uid")


def test_unknown_session_is_answered_in_text(hook: Server) -> None:
    """The words that automations of users branch by."""
    assert shape(hook.post({"session_id": "nobody"})) == (404, TEXT, b"Session not found")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"session_id": "s-1", "goal_value": 5 000}', "goal_value breaks the JSON at position 38"),
        (b'{"session_id": "s-1"', "session_id breaks the JSON at position 20"),
        (b'{"session_id": "s-\xff"}', "session_id is not UTF-8 at position 18"),
        (b"session_id=%ff", "session_id is not UTF-8 at position 0"),
        (b"[]", "body is an empty array"),
        ({"session_id": 1.5}, f"session_id {WRONG_TYPE} a number with a fraction or an exponent"),
        ({"session_id": {}}, f"session_id {WRONG_TYPE} an object"),
        ({"session_id": "a\0b"}, "session_id contains a NUL character"),
        ({"session_id": "s-1", "goal_value": "five"}, "goal_value is not a finite number: 'five'"),
        ({"session_id": "s-1", "goal_value": "NaN"}, "goal_value is not a finite number: 'NaN'"),
        ({"session_id": "s-1", "currency": "XYZ1"}, "currency is not an ISO 4217 currency code: 'XYZ1'"),
        ({"session_id": "s-1", "occurred_at": "2099-01-01"}, "occurred_at is in the future: '2099-01-01'"),
        ({"ym_uid": "12a"}, "ym_uid is not a whole number of digits only: '12a'"),
    ],
)  # fmt: skip
def test_mistake_of_the_sender_names_its_key(
    hook: Server, body: bytes | Mapping[str, object], sentence: str
) -> None:
    """Whoever maps the fields of a CRM sees the answer and nothing else of us."""
    reply = hook.post(body)

    assert reply.status == 400
    assert reply.headers["content-type"] == JSON
    assert reply.json() == {"error": sentence}


def test_array_is_answered_item_by_item_in_order(hook: Server) -> None:
    """Make and n8n match the results with what they sent by their places."""
    told = [
        {"session_id": "s-1", "deal_id": "a-1"},
        {"session_id": "no"},
        {"session_id": "s-1", "deal_id": "a-2"},
    ]
    reply = hook.post(told)

    updated = {"success": True, "updated_session": ROW}
    unmatched = {"success": False, "error": "Session not found"}
    assert (reply.status, reply.headers["content-type"]) == (200, JSON)
    assert reply.json() == {"success": True, "results": [updated, unmatched, updated]}


def test_array_of_one_is_answered_as_an_array(hook: Server) -> None:
    """A loop over the results must not depend on how many deals there were today."""
    reply = hook.post([{"session_id": "s-1", "deal_id": "a-3"}])

    assert reply.body == b'{"success":true,"results":[{"success":true,"updated_session":1}]}'


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"session_id": "s-1", "goal_value": "x"}, "item 2: goal_value is not a finite number: 'x'"),
        ({"goal_name": "paid"}, "item 2: Missing session_id or ym_uid"),
        ("s-1", "item 2: body is not a JSON object"),
        ({"session_id": "s-1", "site": "other"}, "item 2: site is not default, the site of the key: 'other'"),
    ],
)
def test_first_error_of_an_array_has_its_index(
    hook: Server, tables: Tables, bad: object, sentence: str
) -> None:
    """All or nothing: of an array with one bad item nothing is counted, and its place is told."""
    before = tables.goals("s-1")

    reply = hook.post([{"session_id": "s-1", "deal_id": "b-1"}, {"session_id": "s-1"}, bad])

    assert (reply.status, reply.headers["content-type"]) == (400, JSON)
    assert reply.json() == {"error": sentence, "index": 2}
    assert tables.goals("s-1") == before


def test_array_of_more_than_100_items_is_refused(hook: Server) -> None:
    """A hundred fit into a statement that holds up nobody."""
    one_too_many = hook.post([{"session_id": "s-1", "deal_id": f"c-{number}"} for number in range(101)])
    just_enough = hook.post([{"session_id": "s-1", "deal_id": f"c-{number}"} for number in range(100)])

    assert shape(one_too_many) == (400, JSON, b'{"error":"body is an array of more than 100 items"}')
    assert len(just_enough.json()["results"]) == 100


def test_head_answers_and_does_nothing(hook: Server, tables: Tables) -> None:
    """Monitors and link previews call any address that they see, with the key in it."""
    before = stored(tables)

    reply = hook.request("HEAD", query=f"key={KEY}&session_id=s-1&deal_id=head", key=None)

    assert (reply.status, reply.body) == (200, b"")
    assert stored(tables) == before


def test_preflight_is_answered_before_the_key(hook: Server) -> None:
    """Browsers send it without any credential; the answer is that of the Edge Function's template."""
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Headers": "authorization,x-client-info,apikey",
    }

    reply = hook.request("OPTIONS", headers=asked, key=None)

    assert shape(reply) == (200, TEXT, b"ok")
    assert reply.headers["access-control-allow-origin"] == "*"
    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "x-client-info", "apikey", "content-type", "x-webhook-key"} <= set(allowed)
    assert "POST" in reply.headers["access-control-allow-methods"]


def test_every_answer_may_be_read_across_origins(hook: Server) -> None:
    """A browser hides an answer without these headers from the script that sent the request."""
    replies = [
        hook.post({"session_id": "s-1", "deal_id": "cors"}),
        hook.post({"session_id": "nobody"}),
        hook.post({}),
        hook.post(b"{"),
        hook.post(b"", key=None),
        hook.request("PUT"),
        hook.post(b"x" * 70_000),
    ]

    assert [reply.status for reply in replies] == [200, 404, 400, 400, 401, 405, 413]
    assert {reply.headers["access-control-allow-origin"] for reply in replies} == {"*"}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "PROPFIND"])
def test_other_methods_are_refused_by_name(hook: Server, method: str) -> None:
    """A typing error in a tool's method field is told with what to choose instead."""
    reply = hook.request(method)

    assert reply.status == 405
    assert reply.headers["allow"] == "GET, POST, HEAD, OPTIONS"
    assert reply.json() == {"error": f"The method {method} is not known here; send POST or GET."}


@pytest.mark.parametrize("key", [KEY, None])
def test_body_above_64_kib_is_refused_by_its_length(hook: Server, key: str | None) -> None:
    """Whoever announces too much is refused before the key is looked for."""
    reply = hook.post(b"x" * (64 * 1024 + 1), key=key)

    assert shape(reply) == (413, JSON, b'{"error":"body is larger than 64 KiB"}')


def test_body_above_64_kib_in_chunks_is_refused_while_it_comes(hook: Server) -> None:
    """A body without a length could be endless."""
    chunks = (b"x" * 1000 for _ in range(1000))

    try:
        answer = httpx.post(hook.url + HOOK, content=chunks, headers={"X-Webhook-Key": KEY}, trust_env=False)
    except httpx.TransportError:
        return  # hung up on while it was still sending, which a client may or may not see as an answer
    assert answer.status_code == 413


def test_body_of_exactly_64_kib_is_read(hook: Server) -> None:
    """The limit is the contract's, not one below it."""
    body = b'{"session_id": "s-1", "deal_id": "large", "note": "'
    body += b"x" * (64 * 1024 - len(body) - 2) + b'"}'

    assert hook.post(body).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_compressed_body_is_refused_with_what_to_do(hook: Server, tables: Tables, encoding: str) -> None:
    """A few bytes of it could unpack to any size; its owner sees it among the refused."""
    body = gzip.compress(b'{"session_id": "s-1"}')

    reply = hook.post(body, headers={"Content-Encoding": encoding})

    sentence = "Content-Encoding must be left out: a compressed body is not read here"
    assert (reply.status, reply.json()) == (400, {"error": sentence})
    last = tables.one("select reason from closedloop.webhook order by webhook_id desc limit 1")
    assert last == sentence


@pytest.mark.parametrize(
    ("error", "status", "body", "outcome"),
    [
        (MissingIdError(), 400, "Missing session_id or ym_uid", "refused"),
        (CallerError("a", "is b"), 400, {"error": "a is b"}, "refused"),
        (TooLargeError("body", "is larger"), 413, {"error": "body is larger"}, "refused"),
        (UnknownKeyError("key", "is wrong"), 401, {"error": "key is wrong"}, "unauthorized"),
        (
            ZeroDivisionError("secret of ours"),
            500,
            {"error": "An error of ours; it is in the log."},
            "failed",
        ),
    ],
)
def test_error_becomes_the_answer_of_its_class(
    error: Exception, status: int, body: object, outcome: str
) -> None:
    """What is not ours gives nothing away: a sentence of the database may hold anything."""
    answer = answer_error(error)

    assert (answer.status, answer.outcome) == (status, outcome)
    assert (answer.body.decode() if isinstance(body, str) else json.loads(answer.body)) == body
    assert set(CORS) <= set(answer.headers)


@pytest.mark.parametrize(
    ("error", "seconds", "outcome"),
    [
        (DatabaseAwayError("password=x"), b"5", "spooled"),
        (BusyError("full", retry_after=2), b"2", "spooled"),
        (OSError(28, "No space left"), b"60", "lost"),
    ],
)
def test_outage_says_when_to_come_again(error: Exception, seconds: bytes, outcome: str) -> None:
    """503 with Retry-After is what makes a sender repeat instead of giving up."""
    answer = answer_error(error)

    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"] == seconds
    assert answer.outcome == outcome
    assert "x" not in json.loads(answer.body)["error"].split()
    assert ("kept" in json.loads(answer.body)["error"]) is True


def test_refused_row_is_our_fault_and_says_that_nothing_is_lost() -> None:
    """A trigger on the owner's own table stopped the goal; the conversion is in the ledger."""
    answer = answer_error(DatabaseRefusedError("violates a check"))

    assert answer.status == 500
    assert json.loads(answer.body)["error"].endswith("violates a check")


def test_answer_of_a_row_is_used_for_settled_conversions_only() -> None:
    """An array of nothing cannot be settled: the reader refuses it before."""
    with pytest.raises(IndexError):
        answer_settled([], None, is_array=False)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
