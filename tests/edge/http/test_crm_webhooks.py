"""Webhooks of CRMs are believed by a key or a token, kept and answered at once, and read afterwards."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from closedloop.edge.http.crm_webhooks import PATH
from closedloop.stages import clock
from fix_flow import Tables
from fix_postgres import Cluster, MakeCluster
from fix_server import KEY, MakeServer, Reply, Server
from fix_tools import free_port, wait_until
from platforms.amocrm_bodies import Account, webhook_body
from platforms.amocrm_data import Event as AmoEvent
from platforms.amocrm_data import Lead
from platforms.bitrix24_data import DEAL, Event
from platforms.bitrix24_events import Queue
from platforms.clocks import Clock

OTHER_KEY = "other-key-0123456789abcdef"
TOKEN = "demoapplicationtoken000000000001"  # noqa: S105 - invented
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ANSWERS_WITHIN_S = 1.5  # amoCRM hangs up after two seconds

# Nobody answers there: what a webhook is about must not be waited for.
CONFIG = """
[sites.default.bitrix24]
rest_url = "env:BITRIX24_REST_URL"
member_id = "00112233445566778899aabbccddeeff"
private_address = true

[sites.default.amocrm]
account_id = "30000001"

[sites.other]
webhook_keys = ["env:OTHER_KEY"]

[sites.other.bitrix24]
application_token = "env:TOKEN"
"""


@pytest.fixture(scope="module")
def crm(postgres: Cluster, scratch: Path) -> Iterator[Server]:
    """Give a server with two sites; the second believes the token of its portal."""
    name = postgres.create_database()
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
    (folder / "closedloop.toml").write_text(CONFIG)
    environment = {
        "BITRIX24_REST_URL": f"http://127.0.0.1:{free_port()}/rest/1/demowebhookcode0/",
        "OTHER_KEY": OTHER_KEY,
        "TOKEN": TOKEN,
    }
    arguments = ("--config", str(folder / "closedloop.toml"))
    made = Server(folder, postgres.url(name), environment, arguments)
    made.start()
    yield made
    made.close()
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def kept(crm: Server) -> Iterator[Tables]:
    """Give its tables."""
    assert crm.database_url is not None
    opened = Tables(crm.database_url)
    yield opened
    opened.conn.close()


def bitrix24(*, ago: int = 0, deal_id: int = 662, **other: str) -> bytes:
    """Return an event of a portal, sent so many seconds ago; `other` are fields of its queue."""
    now = Clock()
    now.set(clock.now())
    now.forward(-ago)
    return Queue(now, **other).event_body(Event("ONCRMDEALUPDATE", DEAL, deal_id))  # type: ignore[arg-type]


def amocrm(account_id: int = 30000001) -> bytes:
    """Return an event of an account."""
    lead = Lead(30100001, 1_700_000_000, 1_700_000_000)
    return webhook_body(Account(id=account_id), [AmoEvent("leads", "update", lead)], {})


BODIES: Mapping[str, Callable[[], bytes]] = {"bitrix24": bitrix24, "amocrm": amocrm}


def send(
    server: Server,
    path: str,
    body: bytes,
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
) -> Reply:
    """Send a webhook, and see that the answer is quick, and text or JSON as its label says."""
    started = clock.elapsed()
    reply = server.request(
        method, path, query=query, headers={**FORM, **(headers or {})}, key=None, content=body
    )
    assert clock.elapsed() - started < ANSWERS_WITHIN_S
    if reply.status == 200:
        assert (reply.headers["content-type"], reply.body) == ("text/plain;charset=UTF-8", b"ok")
    else:
        assert reply.headers["content-type"] == "application/json"
        assert set(reply.json()) == {"error"}
    return reply


def counted(server: Server, source: str, outcome: str) -> float:
    """Return how many webhooks were counted so."""
    name = f'closedloop_webhooks_total{{outcome="{outcome}",source="{source}"}} '
    lines = server.get("/metrics", key=None).body.decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("source", ["bitrix24", "amocrm"])
@pytest.mark.parametrize(
    ("behind", "query", "headers"),
    [
        ("", f"key={KEY}", {}),
        ("", f"token={KEY}", {}),
        ("", f"a=1&api_key={KEY}", {}),
        ("", "", {"X-Webhook-Key": KEY}),
        ("", "", {"Authorization": f"Bearer {KEY}"}),
        (f"/{KEY}", "", {}),
        (f"/{KEY}/", "", {}),
        (f"/{KEY}/deals/won", "session_id=x", {}),
    ],
)
def test_key_may_come_in_every_way_that_a_crm_has(
    crm: Server, kept: Tables, source: str, behind: str, query: str, headers: dict[str, str]
) -> None:
    """Neither CRM can set a header; some proxies take queries away, some people have a header to give."""
    before = counted(crm, source, "accepted")

    reply = send(crm, f"/webhooks/default/{source}{behind}", BODIES[source](), query=query, headers=headers)

    assert reply.status == 200
    assert counted(crm, source, "accepted") == before + 1
    last = "select source from closedloop.webhook order by webhook_id desc limit 1"
    assert kept.one(last) == source


@pytest.mark.parametrize("source", ["bitrix24", "amocrm"])
@pytest.mark.parametrize(
    ("behind", "query"), [("", ""), ("", "key=wrong"), ("", f"key={OTHER_KEY}"), (f"/{OTHER_KEY}", "")]
)
def test_without_the_key_of_its_own_site_nothing_is_kept(
    crm: Server, kept: Tables, source: str, behind: str, query: str
) -> None:
    """Anybody can post to an address; one site's key opens no other."""
    rows, before = kept.one("select count(*) from closedloop.webhook"), counted(crm, source, "forged")

    reply = send(crm, f"/webhooks/default/{source}{behind}", BODIES[source](), query=query)

    assert reply.status == 403
    assert counted(crm, source, "forged") == before + 1
    assert kept.one("select count(*) from closedloop.webhook") == rows


def test_token_of_the_portal_is_enough(crm: Server) -> None:
    """Its outgoing webhooks send it by themselves, and a foreign one does not open."""
    path = "/webhooks/other/bitrix24"

    assert send(crm, path, bitrix24()).status == 200
    assert send(crm, path, bitrix24(application_token=TOKEN[::-1])).status == 403
    assert send(crm, path, bitrix24(application_token=TOKEN[::-1]), query=f"key={OTHER_KEY}").status == 403


@pytest.mark.parametrize(
    ("source", "body", "outcome"),
    [
        ("bitrix24", bitrix24(member_id="ff" * 16), "foreign"),
        ("bitrix24", bitrix24(ago=2 * 3600), "stale"),
        ("amocrm", amocrm(30000099), "foreign"),
    ],
)
def test_what_is_not_ours_or_not_new_is_refused_and_counted(
    crm: Server, source: str, body: bytes, outcome: str
) -> None:
    """A test portal with the same address in it; a recording that somebody plays back."""
    before = counted(crm, source, outcome)

    assert send(crm, f"/webhooks/default/{source}", body, query=f"key={KEY}").status == 403

    assert counted(crm, source, outcome) == before + 1


@pytest.mark.parametrize(
    ("path", "method", "status", "word"),
    [
        ("/webhooks/unknown/bitrix24", "POST", 404, "There is no site unknown here."),
        ("/webhooks/default/bitrix24", "GET", 405, "a CRM sends POST"),
        ("/webhooks/default/amocrm", "PUT", 405, "a CRM sends POST"),
    ],
)
def test_wrong_address_or_method_is_told(crm: Server, path: str, method: str, status: int, word: str) -> None:
    """The owner opens the address in a browser first, or has misspelled the site."""
    body = b"" if method == "GET" else bitrix24()

    reply = send(crm, path, body, query=f"key={KEY}", method=method)

    assert reply.status == status
    assert word in reply.json()["error"]
    assert reply.headers.get("allow") == ("POST" if status == 405 else None)


def test_crm_that_is_not_known_has_no_address(crm: Server) -> None:
    """Nobody would ever read what is sent there."""
    assert crm.post(b"x", path="/webhooks/default/hubspot", query=f"key={KEY}", key=None).status == 404


@pytest.mark.parametrize("source", ["bitrix24", "amocrm"])
def test_body_of_a_megabyte_is_kept_and_no_larger_one(crm: Server, source: str) -> None:
    """A card with hundreds of fields is told whole; what is larger is no webhook."""
    path, large = f"/webhooks/default/{source}", BODIES[source]() + b"&x="

    whole = large + b"x" * (1024 * 1024 - len(large))

    assert send(crm, path, whole, query=f"key={KEY}").status == 200
    assert send(crm, path, whole + b"x", query=f"key={KEY}").status == 413


@pytest.mark.parametrize("source", ["bitrix24", "amocrm"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"event=%ff", b"\xff\xfe\x00", b"event=1&event[a]=2"])
def test_unreadable_body_is_kept_when_the_key_is_right(
    crm: Server, kept: Tables, source: str, body: bytes
) -> None:
    """It is authentic, and refused too often a CRM stops sending; its reason is for the owner."""
    rows = kept.one("select count(*) from closedloop.webhook")

    assert send(crm, f"/webhooks/default/{source}", body, query=f"key={KEY}").status == 200

    assert kept.one("select count(*) from closedloop.webhook") == rows + 1
    assert send(crm, f"/webhooks/default/{source}", body).status == 403


def test_nothing_secret_is_logged_or_kept_in_the_clear(crm: Server, kept: Tables) -> None:
    """Logs are sent to others; a copy of the database is in many hands."""
    for path, query in (
        (f"/webhooks/default/bitrix24/{KEY}", ""),
        ("/webhooks/default/bitrix24", f"token={KEY}&session_id=visitor-7"),
        ("/webhooks/default/bitrix24", f"key={OTHER_KEY}"),
        ("/webhooks/other/bitrix24", ""),
    ):
        send(crm, path, bitrix24(deal_id=77_000_077), query=query)
    wait_until(lambda: not kept.one(WAITING), what="all are worked on")

    rows = kept.conn.execute(b"select w::text from closedloop.webhook w").fetchall()
    everything = crm.log() + json.dumps([row[0] for row in rows])
    secrets = [KEY, OTHER_KEY, TOKEN, "demowebhookcode0", "visitor-7"]
    assert [one for one in secrets if one in everything or one.encode().hex() in everything] == []


WAITING = "select count(*) from closedloop.webhook where outcome = 'waiting'"


def test_webhook_outlives_an_outage(own_cluster: MakeCluster, server: MakeServer) -> None:
    """Bitrix24 never asks twice: what was answered must not depend on a database that is there."""
    cluster = own_cluster(durable=False)
    url = cluster.url(cluster.create_database())
    one = server(database_url=url)
    cluster.stop()

    assert send(one, "/webhooks/default/bitrix24", bitrix24(), query=f"key={KEY}").status == 200
    assert counted(one, "bitrix24", "spooled") == 1
    cluster.start()

    wait_until(lambda: one.get("/readyz", key=None).status == 200, what="the database is back")
    opened = Tables(url)
    wait_until(lambda: opened.one("select count(*) from closedloop.webhook") == 1, what="it is kept")
    opened.conn.close()


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/webhooks/default/bitrix24", ("default", "bitrix24", None)),
        ("/webhooks/my-shop_2/amocrm/", ("my-shop_2", "amocrm", None)),
        ("/webhooks/default/bitrix24/k-1/a/b", ("default", "bitrix24", "k-1")),
        ("/webhooks/Default/bitrix24", None),
        ("/webhooks/default/tilda", None),
        ("/webhooks/default/bitrix24x", None),
        ("/x/webhooks/default/bitrix24", None),
    ],
)
def test_address_says_site_crm_and_perhaps_the_key(path: str, parts: tuple[str, ...] | None) -> None:
    """What is no such address belongs to others."""
    found = PATH.fullmatch(path)

    assert (found.groups() if found else None) == parts
