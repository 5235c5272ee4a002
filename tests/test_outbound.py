"""Calls go out as they were made, to public addresses only; what goes wrong names nothing but the host."""

import asyncio
import gzip
import json
from collections.abc import Callable

import pytest

from closedloop.domain.exchange import HttpReply, HttpRequest, Reply, Request
from closedloop.errors import CrmAwayError, OperatorError
from closedloop.outbound import MAX_REPLY_BYTES, Outbound, is_literal, is_public
from fix_tools import free_port
from platforms.faults import Answer
from platforms.receiver import Receiver

SECRET = "rest/1/secretcode"  # noqa: S105 - invented
READ = Request(method="GET", path="crm.deal.get.json")


def send(base: str, request: Request = READ, *, private: bool = True, total_s: float = 10) -> Reply:
    """Return the reply to one call below an address."""

    async def run() -> Reply:
        outbound = Outbound(private=private, total_s=total_s)
        try:
            return await outbound.send(base, request, {"Authorization": "Bearer demo"})
        finally:
            await outbound.close()

    return asyncio.run(run())


def test_query_and_body_are_sent_as_given(receiver: Receiver) -> None:
    """A filter may have one name several times, and texts are not only Latin."""
    query = [("filter[id][]", "1"), ("filter[id][]", "2 & 3"), ("name", "Анна+=%")]
    request = Request(
        method="PATCH", path="api/v4/leads/1", query=query, body={"имя": "Анна", "n": [1, None]}
    )

    reply = send(f"{receiver.url}/sub/", request)

    (call,) = receiver.calls
    assert reply.status == 200
    assert (call.method, call.path) == ("PATCH", "/sub/api/v4/leads/1")
    assert call.request.query == {"filter": {"id": ["1", "2 & 3"]}, "name": "Анна+=%"}
    assert json.loads(call.request.body) == {"имя": "Анна", "n": [1, None]}
    assert call.request.headers["content-type"] == "application/json"
    assert call.request.headers["authorization"] == "Bearer demo"


def test_call_without_a_body_sends_none(receiver: Receiver) -> None:
    """A GET with a body is refused by servers in front of a CRM."""
    send(receiver.url)

    (call,) = receiver.calls
    assert call.request.body == b""
    assert "content-type" not in call.request.headers


@pytest.mark.parametrize("status", [204, 404, 500])
def test_every_status_is_a_reply(receiver: Receiver, status: int) -> None:
    """What it means is the adapter's to say."""
    receiver.react = lambda _: status

    assert send(receiver.url) == Reply(status=status, body=b"")


def test_redirect_is_not_followed(receiver: Receiver) -> None:
    """It would carry the token to another host, and around the check of addresses."""
    elsewhere = (("Location", f"{receiver.url}/elsewhere"),)
    receiver.faults.order(lambda _: Answer(302, b"", "text/plain", elsewhere))

    assert send(receiver.url).status == 302
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "[fd00::1]", "0.0.0.0"),  # noqa: S104
        *("127.1", "2130706433", "127.0.0.1.", "0x7f000001", "１２７.0.0.1", "127。0。0。1"),  # noqa: RUF001
        "localhost",
    ],
)
def test_private_address_is_refused_in_every_spelling(receiver: Receiver, host: str) -> None:
    """Whoever may write a configuration must not read the machine's own network with it."""
    with pytest.raises(OperatorError, match="is in a private network: set private_address = true"):
        send(f"http://{host}:{receiver.port}/{SECRET}", private=False)

    assert receiver.calls == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_private_address_is_asked_where_it_is_meant(receiver: Receiver, host: str) -> None:
    """A portal in the office is a common thing."""
    assert send(f"http://{host}:{receiver.port}").status == 200


@pytest.mark.parametrize(
    ("host", "literal", "public"),
    [
        ("8.8.8.8", True, True),
        ("2001:4860:4860::8888", True, True),
        ("fe80::1%eth0", True, False),
        ("100.64.0.1", True, False),
        ("127.1", True, False),
    ],
)
def test_public_addresses_are_told_from_others(host: str, *, literal: bool, public: bool) -> None:
    """A public literal needs no resolver; all else is refused before a connection is made."""
    assert (is_literal(host), is_public(host)) == (literal, public)
    assert not is_literal("alfashop.amocrm.ru")


def test_slow_answer_ends_within_the_patience(receiver: Receiver) -> None:
    """A CRM that hangs must not hold up the deals of an hour."""
    receiver.faults.hold()

    with pytest.raises(CrmAwayError) as caught:
        send(f"{receiver.url}/{SECRET}", total_s=0.2)

    assert str(caught.value) == "127.0.0.1 did not answer within 0.2 s"


def dropped(receiver: Receiver) -> str:
    """Cut the connection in the middle of a call."""
    receiver.faults.drop(times=None)
    return receiver.url


def broken(receiver: Receiver) -> str:
    """Promise a packed body that is none."""
    headers = (("Content-Encoding", "gzip"),)
    receiver.faults.order(lambda _: Answer(200, b"{}", "text/plain", headers))
    return receiver.url


def closed(_: Receiver) -> str:
    """Give an address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("trouble", [dropped, broken, closed])
def test_call_that_fails_names_only_the_host(receiver: Receiver, trouble: Callable[[Receiver], str]) -> None:
    """The path of a webhook of Bitrix24 is a secret, and errors stand in logs."""
    base = trouble(receiver)

    with pytest.raises(CrmAwayError) as caught:
        send(f"{base}/{SECRET}")

    assert str(caught.value).startswith("127.0.0.1 cannot be reached: ")
    assert "secretcode" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".ru", "nowhere.invalid"])
def test_name_that_leads_nowhere_is_no_defect(host: str) -> None:
    """Names are mistyped."""
    with pytest.raises(CrmAwayError, match="cannot be reached"):
        send(f"http://{host}/{SECRET}", private=False)


def test_address_that_cannot_be_read_is_its_owners_mistake() -> None:
    """It is not shown: there may be a secret in it."""
    with pytest.raises(OperatorError) as caught:
        send(f"https://[alfashop/{SECRET}")

    assert "begins with https://" in str(caught.value)
    assert "secretcode" not in str(caught.value)


@pytest.mark.parametrize("is_packed", [True, False])
def test_reply_that_is_too_large_is_not_read_on(receiver: Receiver, *, is_packed: bool) -> None:
    """Memory is the server's, whatever the other side sends; packed, it is a small file."""
    large = b"\0" * (MAX_REPLY_BYTES + 1)
    body, headers = (gzip.compress(large), (("Content-Encoding", "gzip"),)) if is_packed else (large, ())
    receiver.faults.order(lambda _: Answer(200, body, "text/plain", headers))

    with pytest.raises(CrmAwayError, match="larger than 32 MiB"):
        send(receiver.url)


def test_reply_up_to_the_limit_is_whole(receiver: Receiver) -> None:
    """A page of 250 leads with all their fields is some megabytes."""
    body = b"0123456789abcdef" * (MAX_REPLY_BYTES // 16)
    receiver.faults.order(lambda _: Answer(200, body, "text/plain"))

    assert send(receiver.url).body == body


def test_cookies_are_forgotten(receiver: Receiver) -> None:
    """One account's session must not be the next call's."""
    receiver.faults.order(lambda _: Answer(200, b"", "text/plain", (("Set-Cookie", "user=1"),)))

    async def run() -> None:
        outbound = Outbound(private=True)
        for _ in range(2):
            await outbound.send(f"http://localhost:{receiver.port}", READ, {})
        await outbound.close()

    asyncio.run(run())

    assert [call.request.headers.get("cookie") for call in receiver.calls] == [None, None]


def test_host_that_no_name_can_be_is_no_connection() -> None:
    """An error that left here would end each round of its destination, for ever."""

    async def run() -> HttpReply:
        outbound = Outbound()
        try:
            return await outbound.exchange(HttpRequest(method="GET", url=f"https://{'a' * 64}.example/"))
        finally:
            await outbound.close()

    reply = asyncio.run(run())

    assert (reply.status, reply.sent) == (0, False)
