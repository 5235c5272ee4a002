"""Tilda's webhook through the real server, and the whole way from the form to the goal."""

import json
import secrets
from urllib.parse import urlencode

import pytest

from closedloop.edge.http.webhooks import site_in
from fix_flow import Tables
from fix_postgres import MakeCluster
from fix_server import KEY, MakeServer, Reply, Server
from fix_tools import wait_until

PATH = "/webhooks/default/tilda"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def send(server: Server, fields: dict[str, str], *, query: str = f"key={KEY}", path: str = PATH) -> Reply:
    """Send a form as Tilda does."""
    return server.post(urlencode(fields), path=path, query=query, headers=FORM, key=None)


def person() -> dict[str, str]:
    """Return the fields of a new visitor's form."""
    number = secrets.randbelow(9 * 10**6) + 10**6
    return {
        "Name": "Анна",
        "Phone": f"+7 (900) {number}",
        "session_id": f"session-{number}",
        "tranid": f"7000001:{number}",
        "formid": "form1",
    }


def test_lead_is_kept_and_answered_as_tilda_wants(hook: Server, shared: Tables) -> None:
    """Anything but 200 and Tilda comes again, then writes a mail to the owner."""
    told = person()

    reply = send(hook, told)

    assert (reply.status, reply.body) == (200, b"ok")
    query = "select form_id from closedloop.lead where transaction_id = %s"
    assert shared.one(query, told["tranid"]) == "form1"


def test_second_attempt_is_no_second_lead(hook: Server, shared: Tables) -> None:
    """Tilda repeats after a minute when the first answer did not come."""
    told = person()

    assert [send(hook, told).status for _ in range(3)] == [200] * 3

    assert shared.one("select count(*) from closedloop.lead where transaction_id = %s", told["tranid"]) == 1


def test_deal_without_a_session_is_found_by_the_phone(hook: Server, shared: Tables) -> None:
    """The CRM lost the hidden field; the manager typed the phone in another way."""
    told = person()
    shared.add_session(told["session_id"])
    send(hook, told)

    reply = hook.post({"phone": told["Phone"].replace("+7 (900) ", "8900"), "deal_id": told["tranid"]})

    assert reply.status == 200
    assert len(shared.goals(told["session_id"])) == 1


def test_deal_before_its_lead_and_session_finds_both(hook: Server, shared: Tables) -> None:
    """The CRM's own receiver is called first, the form's webhook second, the tracker's hit last."""
    told = person()
    assert hook.post({"phone": told["Phone"], "deal_id": told["tranid"]}).status == 404
    send(hook, told)

    shared.add_session(told["session_id"])

    wait_until(lambda: len(shared.goals(told["session_id"])) == 1, what="the late match", wait_s=15)


@pytest.mark.parametrize(
    ("query", "headers", "fields"),
    [
        (f"key={KEY}", {}, {}),
        (f"token={KEY}", {}, {}),
        ("", {"X-Webhook-Key": KEY}, {}),
        ("", {"Authorization": f"Bearer {KEY}"}, {}),
        ("", {}, {"X-API-Key": KEY}),
        ("", {}, {"any name": f"Bearer {KEY}"}),
    ],
)
def test_key_may_come_in_every_way(
    hook: Server, query: str, headers: dict[str, str], fields: dict[str, str]
) -> None:
    """Tilda has a setting for each, and owners use all of them."""
    told = urlencode(person() | fields)

    assert hook.post(told, path=PATH, query=query, headers={**FORM, **headers}, key=None).status == 200


@pytest.mark.parametrize("fields", [{"test": "test"}, {"Name": "x"}])
@pytest.mark.parametrize("query", ["", "key=wrong"])
def test_without_the_key_nothing_is_taken(
    hook: Server, shared: Tables, fields: dict[str, str], query: str
) -> None:
    """The owner sees in Tilda at once that the key is missing."""
    before = shared.one("select count(*) from closedloop.webhook")

    reply = send(hook, fields, query=query)

    assert reply.status == 401
    assert "key" in reply.json()["error"]
    assert shared.one("select count(*) from closedloop.webhook") == before


def test_connection_test_is_answered_and_not_kept(hook: Server, shared: Tables) -> None:
    """Tilda asks once when the receiver is connected."""
    before = shared.one("select count(*) from closedloop.webhook")

    assert send(hook, {"test": "test"}).status == 200
    assert send(hook, {"test": "test", "api_key": KEY}, query="").status == 200

    assert shared.one("select count(*) from closedloop.webhook") == before


def test_contacts_key_and_foreign_cookies_stand_nowhere(hook: Server, shared: Tables) -> None:
    """Whoever copies the database has nobody's phone."""
    told = person() | {"COOKIES": "secretcookie=1; _ym_uid=1712345678901234567", "my key": KEY}

    send(hook, told, query="")

    everything = json.dumps(
        [str(row) for table in ("lead", "webhook", "identity") for row in rows_of(shared, table)]
    )
    plain = [told["Phone"], f"7900{told['Phone'][-7:]}", "secretcookie", KEY]
    assert [one for one in plain if one in everything + hook.log()] == []
    assert shared.one("select ym_uid from closedloop.lead where transaction_id = %s", told["tranid"])


def rows_of(shared: Tables, name: str) -> list[object]:
    """Return the rows of one of our tables as text, bytes in hexadecimal digits."""
    query = f"select t::text from closedloop.{name} t"  # noqa: S608 - a constant
    rows = shared.conn.execute(query.encode()).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/webhooks/unknown/tilda", "POST", 404),
        (PATH, "GET", 405),
        (PATH, "PUT", 405),
        ("/webhooks/x", "POST", 404),
    ],
)
def test_wrong_address_is_told(hook: Server, path: str, method: str, status: int) -> None:
    """A misspelled site would lose every lead in silence."""
    assert hook.request(method, path, query=f"key={KEY}", key=None).status == status


@pytest.mark.parametrize("body", [b"{", b"[1]", b"Name=%ff", b'{"Name": NaN'])
def test_broken_body_is_400(hook: Server, body: bytes) -> None:
    """Whatever a caller sends is answered with a sentence."""
    reply = hook.post(body, path=PATH, query=f"key={KEY}", key=None)

    assert reply.status == 400
    assert reply.json()["error"]


def test_body_of_a_megabyte_is_read(hook: Server) -> None:
    """A long order with many goods is a large form."""
    assert send(hook, person() | {"Textarea": "x" * 900_000}).status == 200
    assert send(hook, person() | {"Textarea": "x" * 1_100_000}).status == 413


def test_lead_outlives_an_outage(own_cluster: MakeCluster, server: MakeServer) -> None:
    """Tilda gives up after two minutes; the database may take longer."""
    cluster = own_cluster()
    url = cluster.url(cluster.create_database())
    one = server(database_url=url)
    cluster.stop()
    told = person()

    assert send(one, told).status == 200
    cluster.start()

    wait_until(lambda: one.get("/readyz", key=None).status == 200, what="the database is back")
    opened = Tables(url)
    query = "select count(*) from closedloop.lead where transaction_id = %s"
    wait_until(lambda: opened.one(query, told["tranid"]) == 1, what="the lead from the spool")
    opened.conn.close()


def test_site_stands_in_the_address() -> None:
    """Each site has its own keys; the name in the address says whose form it is."""
    assert [site_in(path) for path in (PATH, "/webhooks/my-shop/tilda/", "/webhooks/A/tilda", "/")] == [
        "default",
        "my-shop",
        "",
        "",
    ]
