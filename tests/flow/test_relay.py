"""The relay for Supabase Edge Functions, in a real Deno before the real server: nothing lost, or changed."""

import contextlib
import socket
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import httpx
import psycopg
import pytest

from fix_server import HOOK, KEY, MakeServer, Reply, Server
from fix_tools import REPOSITORY, free_port, wait_until

RELAY = REPOSITORY / "supabase" / "functions" / "crm-conversion-hook" / "index.ts"
DENO = Path(sysconfig.get_path("scripts")) / "deno"

# Supabase calls a function without the first part of its address.
PATH = "/crm-conversion-hook"
ANON_KEY = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"
SIXTY_FOUR_KIB = 64 * 1024

# The headers that two servers cannot have in common, or that belong to one connection.
OWN_HEADERS = {"date", "server", "connection"}


class Sent(NamedTuple):
    """One request of a CRM."""

    method: str = "POST"
    query: str = ""
    headers: Mapping[str, str] = {"X-Webhook-Key": KEY}
    body: bytes = b""


CASES = {
    "json": Sent(
        headers={"X-Webhook-Key": KEY, "Content-Type": "application/json"}, body=b'{"session_id": "s-1"}'
    ),
    "form": Sent(
        headers={"X-Webhook-Key": KEY, "Content-Type": "application/x-www-form-urlencoded"},
        body=b"session_id=s-1&goal_value=5+000%2C00",
    ),
    "robot": Sent(
        query=f"key={KEY}&session_id=s-1&goal_value=5000%7CRUB", headers={}, body=b"document_id[2]=DEAL_662"
    ),
    "get": Sent(
        "GET", query=f"session_id=s-1&key={KEY}&goal_name=%D0%BE%D0%BF%D0%BB%D0%B0%D1%82%D0%B0", headers={}
    ),
    "anon key beside ours": Sent(
        headers={"Authorization": f"Bearer {ANON_KEY}", "apikey": KEY}, body=b'{"session_id": "s-1"}'
    ),
    "unmatched": Sent(body=b"session_id=nobody"),
    "placeholder": Sent(body=b'{"session_id": "{{Lead.session_id}}"}'),
    "byte order mark": Sent(body=b'\xef\xbb\xbf{"session_id": "s-1"}'),
    "not text": Sent(body=b"session_id=\xff\x00\xfe"),
    "broken json": Sent(body=b'{"session_id": "s-1", "goal_value":,}'),
    "array": Sent(body=b'[{"session_id": "s-1"}, {"session_id": "nobody"}]'),
    "anon key alone": Sent(headers={"Authorization": f"Bearer {ANON_KEY}"}, body=b'{"session_id": "s-1"}'),
    "no key": Sent(headers={}, body=b'{"session_id": "s-1"}'),
    "largest": Sent(body=b"session_id=s-1&padding=".ljust(SIXTY_FOUR_KIB, b"x")),
    "too large": Sent(body=b"x" * (SIXTY_FOUR_KIB + 1)),
    "far too large": Sent(body=b"x" * (20 * SIXTY_FOUR_KIB)),
    "preflight": Sent(
        "OPTIONS", headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    ),
    "head": Sent("HEAD", headers={}),
    "wrong method": Sent("PUT", body=b"session_id=s-1"),
}


class StartRelay(Protocol):
    """What `relay` gives: the address of a running relay, as `relay(closedloop_url)`."""

    def __call__(self, closedloop_url: str, *, key: str | None = None) -> str:
        """Start one; `key` is its CLOSEDLOOP_KEY."""
        ...


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[StartRelay]:
    """Give relays, each in a Deno of its own without any access but to the network and its settings."""
    with contextlib.ExitStack() as cleanup:

        def start(closedloop_url: str, *, key: str | None = None) -> str:
            port = free_port()
            program = [
                str(DENO),
                "run",
                "--no-remote",
                "--no-prompt",
                "--allow-net",
                "--allow-env",
                str(RELAY),
            ]
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={
                    "PATH": "/usr/bin:/bin",
                    "DENO_DIR": str(tmp_path / "deno"),
                    "DENO_NO_UPDATE_CHECK": "1",
                    "DENO_SERVE_ADDRESS": f"tcp:127.0.0.1:{port}",
                    "CLOSEDLOOP_URL": closedloop_url,
                    **({} if key is None else {"CLOSEDLOOP_KEY": key}),
                },
            )
            cleanup.callback(process.wait)
            cleanup.callback(process.kill)
            wait_until(lambda: listens(port), what="the relay takes connections")
            return f"http://127.0.0.1:{port}"

        yield start


def listens(port: int) -> bool:
    """Return whether a loopback port takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def send(address: str, sent: Sent) -> Reply:
    """Send one request to an address and return the whole answer."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        target = f"{address}?{sent.query}" if sent.query else address
        answer = client.request(sent.method, target, headers=sent.headers, content=sent.body or None)
    return Reply(answer.status_code, answer.headers, answer.content)


def common_headers(reply: Reply) -> dict[str, str]:
    """Return the headers that have to be equal on both ways."""
    return {name: value for name, value in reply.headers.items() if name not in OWN_HEADERS}


def add_session(server: Server, session_id: str) -> None:
    """Put one session into the table, as a site's script would."""
    assert server.database_url is not None
    with psycopg.connect(server.database_url) as conn:
        conn.execute("insert into public.user_analytics (session_id) values (%s)", [session_id])


def rows(server: Server, query: bytes) -> list[tuple[object, ...]]:
    """Return the rows of a query in the server's database."""
    assert server.database_url is not None
    with psycopg.connect(server.database_url) as conn:
        return conn.execute(query).fetchall()


@pytest.mark.parametrize("sent", CASES.values(), ids=CASES)
def test_relay_answers_as_closedloop_itself(server: MakeServer, relay: StartRelay, sent: Sent) -> None:
    """A CRM that cannot leave the old address must not notice that another server answers."""
    closedloop = server()
    add_session(closedloop, "s-1")
    address = relay(closedloop.url)

    direct = send(closedloop.url + HOOK, sent)
    relayed = send(address + PATH, sent)

    assert (relayed.status, relayed.body) == (direct.status, direct.body)
    assert common_headers(relayed) == common_headers(direct)


@pytest.mark.parametrize("case", ["json", "form", "robot", "get", "byte order mark"])
def test_relay_passes_requests_unchanged(server: MakeServer, relay: StartRelay, case: str) -> None:
    """A changed byte would make a repetition count as a second purchase, and break signatures."""
    closedloop = server()
    add_session(closedloop, "s-1")
    address = relay(f"{closedloop.url}/")

    send(address + PATH, CASES[case])
    send(closedloop.url + HOOK, CASES[case])

    assert len(rows(closedloop, b"select from closedloop.conversion")) == 1
    assert (
        len(rows(closedloop, b"select distinct method, length(query), content_type from closedloop.webhook"))
        == 1
    )


def test_relay_records_in_the_session(server: MakeServer, relay: StartRelay) -> None:
    """The goal is what the owner looks for in the table, whichever way it came."""
    closedloop = server()
    add_session(closedloop, "s-1")

    answer = send(relay(closedloop.url) + PATH, CASES["json"])

    assert answer.json()["success"] is True
    listed = b"select analytics_data #>> '{target_actions,yandex_goals_triggered,0,goal}'"
    goals = rows(closedloop, listed + b" from public.user_analytics")
    assert goals == [("crm_conversion",)]


def test_relay_adds_its_key_for_a_crm_without_one(server: MakeServer, relay: StartRelay) -> None:
    """Some senders can neither set a header nor add anything to the old address."""
    closedloop = server()

    answer = send(relay(closedloop.url, key=KEY) + PATH, Sent(headers={}, body=b"session_id=nobody"))

    assert (answer.status, answer.body) == (404, b"Session not found")


def test_relay_leaves_the_callers_key_alone(server: MakeServer, relay: StartRelay) -> None:
    """Of several sites behind one relay each keeps the key that its CRM sends."""
    closedloop = server()

    answer = send(relay(closedloop.url, key="another-sites-key") + PATH, CASES["unmatched"])

    assert answer.status == 404


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:9", "", "no address at all"])
def test_relay_asks_to_come_again_when_closedloop_is_away(relay: StartRelay, wrong: str) -> None:
    """A CRM that repeats on 503 loses nothing, and one that shows errors shows where to look."""
    answer = send(relay(wrong) + PATH, CASES["json"])

    assert answer.status == 503
    assert answer.headers["retry-after"].isdigit()
    assert "closedloop cannot be reached" in answer.json()["error"]


def test_relay_type_checks(tmp_path: Path) -> None:
    """Supabase's editor marks what Deno's checker does not take, and nobody deploys a red file."""
    done = subprocess.run(
        [DENO, "check", "--no-remote", RELAY],
        env={"PATH": "/usr/bin:/bin", "DENO_DIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
