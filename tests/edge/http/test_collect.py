"""POST /collect through the real server: what is answered, what stands in the table, who is turned away."""

import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from closedloop.edge.http.collect import is_allowed
from fix_flow import Tables
from fix_postgres import Cluster, MakeCluster
from fix_server import MakeServer, Reply, Server
from fix_tools import wait_until

SENT = 1_795_000_000_000
PERSON = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def hit(session_id: str, name: str = "v1", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a hit with one view."""
    shown = {"p": name, "u": "https://shop.example/", "r": "", "a": SENT, **more.pop("view", {})}
    return {"s": "default", "i": session_id, "v": f"visitor-{session_id}", "d": SENT, "h": [shown], **more}


def send(server: Server, told: object, **headers: str) -> Reply:
    """Send a hit as a browser does."""
    labels = {"Content-Type": "text/plain;charset=UTF-8", "User-Agent": PERSON, **headers}
    return server.post(json.dumps(told), path="/collect", headers=labels, key=None)


def new_session() -> str:
    """Return the id of a new session."""
    return secrets.token_hex(8)


def test_hit_is_durable_before_its_answer(hook: Server, shared: Tables) -> None:
    """The visitor may phone the shop a second later."""
    session = new_session()

    reply = send(hook, hit(session, k={"ym_uid": "1712345678901234567"}))

    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    assert shared.document(session)["ids"]["ym_uid"] == "1712345678901234567"
    assert "bot" not in shared.document(session)["visit"]


def test_crm_finds_the_session_of_a_hit(hook: Server, shared: Tables) -> None:
    """A late hit of a page that is still open must not undo the goal."""
    session = new_session()
    send(hook, hit(session))

    assert hook.post({"session_id": session, "deal_id": session, "goal_value": 5}).status == 200
    send(hook, hit(session, "v2", view={"g": [["cart", SENT, None]]}))

    assert [goal["goal"] for goal in shared.goals(session)] == ["crm_conversion", "cart"]


def test_many_hits_of_one_session_at_once_are_all_kept(hook: Server, shared: Tables) -> None:
    """Tabs, retries and beacons of one visitor meet in one batch."""
    session = new_session()
    told = [hit(session, f"v{n}", view={"g": [[f"goal{n}", SENT, None]]}) for n in range(40)]

    with ThreadPoolExecutor(20) as threads:
        replies = [reply.status for reply in threads.map(partial(send, hook), [*told, *told])]

    assert replies == [204] * 80
    assert sorted(goal["goal"] for goal in shared.goals(session)) == sorted(f"goal{n}" for n in range(40))
    assert shared.one("select count(*) from public.user_analytics where session_id = %s", session) == 1


def test_session_of_another_visitor_is_403(hook: Server, shared: Tables) -> None:
    """A session id stands in every CRM; whoever reads it there must not write to it."""
    session = new_session()
    send(hook, hit(session))
    before = shared.document(session)

    reply = send(hook, {**hit(session, "v2", k={"ym_uid": "12345678"}), "v": "somebody-else"})

    assert reply.status == 403
    assert shared.document(session) == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "body is not JSON"),
        ('{"i": "session-1"}', "v is missing"),
        (json.dumps({**hit("session-1"), "s": "unknown"}), "s is not a site here"),
        (json.dumps({**hit("session-1"), "h": 5}), "h is wrong"),
    ],
)
def test_bad_hit_is_400_and_names_the_key(hook: Server, body: str, said: str) -> None:
    """The tracker does not send such a thing again."""
    reply = hook.post(body, path="/collect", key=None)

    assert reply.status == 400
    assert reply.json()["error"].startswith(said)


def test_large_body_is_413(hook: Server) -> None:
    """Somebody else's upload is not read to its end."""
    assert send(hook, hit("session-1", x="x" * 70_000)).status == 413


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("PUT", 405), ("OPTIONS", 204)])
def test_other_methods_change_nothing(hook: Server, method: str, status: int) -> None:
    """A browser asks first when the owner's own code sends JSON."""
    reply = hook.request(method, "/collect", key=None)

    assert reply.status == status
    assert "POST" in reply.headers["access-control-allow-methods"]


@pytest.mark.parametrize(
    ("labels", "bot"),
    [
        ({"User-Agent": "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)"}, "crawler"),
        ({"User-Agent": ""}, "crawler"),
        ({"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
    ],
)
def test_bot_is_marked_and_kept(hook: Server, shared: Tables, labels: dict[str, str], bot: str) -> None:
    """A robot that pays is a customer all the same; it only does not count as a visitor."""
    session = new_session()

    assert send(hook, hit(session), **labels).status == 204

    assert shared.document(session)["visit"]["bot"] == bot


def test_cookie_is_set_only_on_the_owners_own_host(hook: Server) -> None:
    """Safari keeps what a server sets for 400 days, what a script sets for seven."""
    session = new_session()
    own = {"Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"}

    cookie = send(hook, hit(session), **own).headers["set-cookie"]

    assert cookie.startswith(f"ta_user_id=visitor-{session}; Max-Age=34560000; Path=/; SameSite=Lax; Secure")
    assert "set-cookie" not in send(hook, hit(session), **{"Sec-Fetch-Site": "cross-site"}).headers
    assert "Max-Age=0" in send(hook, hit(session, x=1), **own).headers["set-cookie"]


def test_address_of_the_visitor_is_kept_nowhere(hook: Server, shared: Tables) -> None:
    """With an address a session is a person, by law."""
    session = new_session()

    send(hook, hit(session), **{"X-Forwarded-For": "8.8.4.4"})

    assert "8.8.4.4" not in json.dumps(shared.document(session)) + hook.log()


def test_flood_from_one_address_stops_nobody_else(hook: Server) -> None:
    """One broken page in a loop must not cost the others their visits."""
    session = new_session()
    told = [hit(session)] * 450

    with ThreadPoolExecutor(20) as threads:
        flood = partial(send, hook, **{"X-Forwarded-For": "8.8.8.8"})
        replies = [reply.status for reply in threads.map(flood, told)]

    assert set(replies) == {204, 429}
    assert send(hook, hit(new_session()), **{"X-Forwarded-For": "9.9.9.9"}).status == 204


ORIGINS = '[sites.default]\norigins = ["https://shop.example"]\n'


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://shop.example", 204),
        ("https://www.shop.example", 204),
        ("https://other.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_hosts_are_turned_away(server: MakeServer, origin: str, status: int) -> None:
    """A copy of the shop's page on another host would spoil its numbers."""
    one = server(config=ORIGINS)

    reply = send(one, hit(new_session()), Origin=origin)

    assert reply.status == status
    assert status == 204 or "origins of site default" in reply.json()["error"]


@pytest.mark.parametrize(
    ("origin", "listed", "allowed"),
    [
        ("https://shop.example", (), True),
        ("", (), True),
        ("", ("https://shop.example",), False),
        ("http://shop.example:8080", ("https://www.shop.example",), True),
        ("https://shop.example.evil.example", ("https://shop.example",), False),
        ("https://[", ("https://shop.example",), False),
        ("null", ("null",), False),
    ],
)
def test_origin_is_compared_by_its_host(origin: str, listed: tuple[str, ...], allowed: bool) -> None:  # noqa: FBT001
    """The bare domain and www. are one shop; a longer name that begins alike is not."""
    assert is_allowed(origin, listed) is allowed


def test_names_can_be_changed(server: MakeServer) -> None:
    """Blockers' lists know the usual names."""
    one = server(config='[tracker]\nscript = "s.js"\ncollect = "c"\n')

    script = one.get("/s.js", key=None)

    assert script.status == 200
    assert b'"c"' in script.body or b"'c'" in script.body
    assert one.post(json.dumps(hit(new_session())), path="/c", key=None).status == 204


def test_database_that_is_away_is_503_and_comes_back(own_cluster: MakeCluster, server: MakeServer) -> None:
    """The tracker keeps the hit and sends it again."""
    cluster: Cluster = own_cluster()
    one = server(database_url=cluster.url(cluster.create_database()))
    session = new_session()
    cluster.stop()

    wait_until(lambda: send(one, hit(session)).status == 503, what="the outage is noticed")
    assert "retry-after" in send(one, hit(session)).headers
    cluster.start()
    wait_until(lambda: send(one, hit(session)).status == 204, what="the database is back")


def test_acknowledged_hits_survive_a_kill(server: MakeServer, database: str) -> None:
    """204 means that it stands on the disk."""
    one = server()
    stop = threading.Event()
    acknowledged: list[str] = []

    def keep_sending(number: int) -> None:
        count = 0
        while not stop.is_set():
            session = f"session-{number}-{count}"
            count += 1
            try:
                if send(one, hit(session)).status == 204:
                    acknowledged.append(session)
            except OSError:
                return
            except Exception:  # noqa: BLE001 - the client's own errors, when the server is gone
                return

    threads = [threading.Thread(target=keep_sending, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) > 300, what="some hundreds of hits")
    one.kill()
    stop.set()
    for thread in threads:
        thread.join()

    opened = Tables(database)
    stored = {
        row[0] for row in opened.conn.execute("select session_id from public.user_analytics").fetchall()
    }
    opened.conn.close()
    assert set(acknowledged) <= stored
