"""What answers on which address, whatever else is asked for, and that no request takes the server down."""

import socket

import psycopg
import pytest

from fix_server import HOOK, KEY, MakeServer, Server
from fix_tools import wait_until


def say(server: Server, *parts: bytes) -> bytes:
    """Send raw bytes and return what comes back until the server hangs up, or nothing when we do first."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def request(*lines: str, body: bytes = b"") -> bytes:
    """Return a raw request to the hook with the key, after which the connection ends."""
    head = [f"POST {HOOK} HTTP/1.1", "Host: x", f"X-Webhook-Key: {KEY}", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


@pytest.mark.parametrize(
    "path", ["/functions/v1/other", "/functions/v1", "/nowhere", "/healthz/x", "/%ff", "/.env"]
)
def test_unknown_address_is_404_and_nothing_else(hook: Server, path: str) -> None:
    """Scanners ask for everything; they learn nothing, and nobody is alarmed by a 500."""
    reply = hook.post({"session_id": "s-1"}, path=path)

    assert reply.status == 404
    assert b"Traceback" not in reply.body


def test_slash_at_the_end_of_the_hook_changes_nothing(hook: Server) -> None:
    """People paste addresses with one."""
    assert hook.post({"session_id": "nobody"}, path=f"{HOOK}/").body == b"Session not found"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"])
def test_pages_for_machines_are_read_only(hook: Server, path: str) -> None:
    """Nothing can be changed by them, so they need no key."""
    assert hook.get(path, key=None).status == 200
    assert hook.post(b"", path=path).status == 405


def test_sender_that_hangs_up_leaves_nothing_behind(hook: Server) -> None:
    """A CRM that times out is no error of ours; half a body is not a webhook."""
    with socket.create_connection(("127.0.0.1", hook.port)) as connection:
        connection.sendall(request("Content-Length: 100", "User-Agent: gone", body=b'{"session_id": "s-1"}'))

    assert hook.post({"session_id": "after"}).status == 404
    assert hook.database_url is not None
    with psycopg.connect(hook.database_url) as conn:
        bodies = conn.execute("select count(*) from closedloop.webhook where user_agent = 'gone'").fetchone()
    assert bodies == (0,)
    assert "hook_failed" not in hook.log()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # TLS on a plain port
        b"GET / HTTP/9.9\r\n\r\n",
        request("Content-Length: x"),
        request("Content-Length: -1"),
        request("Content-Length: 10", "Transfer-Encoding: chunked", body=b"zz\r\n"),
        request("Transfer-Encoding: chunked", body=b"zz\r\n"),
        b"POST " + HOOK.encode() + b" HTTP/1.1\r\n" + b"A: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ],
)
def test_broken_http_is_refused_and_harms_nobody(hook: Server, raw: bytes) -> None:
    """What comes from the open network is rarely HTTP."""
    try:
        answer = say(hook, raw)
    except OSError:
        answer = b""

    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert hook.get("/healthz", key=None).status == 200


@pytest.mark.parametrize("rest", [("Transfer-Encoding: chunked", b"5\r\nab"), ("Content-Length: 10", b"{}")])
def test_body_that_breaks_off_is_told_and_never_a_500(hook: Server, rest: tuple[str, bytes]) -> None:
    """A tool with a defect reads what is wrong with what it sent; a 5xx would blame us for it."""
    with socket.create_connection(("127.0.0.1", hook.port), timeout=10) as connection:
        connection.sendall(request(rest[0], body=rest[1]))
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b'{"error":"body ended before it was whole: send it again"}')


@pytest.mark.parametrize("size", [1, 7, 64])
def test_body_in_pieces_of_any_size_is_one_body(hook: Server, size: int) -> None:
    """Networks cut where they like."""
    body = b'{"session_id": "nobody", "goal_value": "5 000,00"}'
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    answer = say(hook, request("Transfer-Encoding: chunked"), chunked[:20], chunked[20:])

    assert answer.endswith(b"Session not found")


def test_request_in_flight_is_answered_when_the_server_is_asked_to_end(server: MakeServer) -> None:
    """A deployment must not cost the webhook that is just coming in."""
    made = server()
    sent = request("Content-Length: 24", body=b'{"session_id": "no"')
    with socket.create_connection(("127.0.0.1", made.port), timeout=20) as connection:
        connection.sendall(sent)
        wait_until(lambda: made.get("/healthz", key=None).status == 200, what="the server has seen it")
        connection.sendall(b"    }")
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 404")
    assert made.terminate() == 0
