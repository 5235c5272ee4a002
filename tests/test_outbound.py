"""The only way out: nothing private is reached unmeant, nothing secret told, nothing read without end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CrmAwayError, OperatorError
from closedloop.outbound import MAX_REPLY_BYTES, Outbound, is_literal, is_public
from fix_tools import free_port
from platforms.faults import Answer
from platforms.http import Platform
from platforms.http import Request as Asked

T = TypeVar("T")
ASK = Request(method="GET", path="api/v4/leads")


class Peer(Platform):
    """Answers with what the test puts into `reply`."""

    def __init__(self) -> None:
        self.reply = Answer(200, b'{"ok":true}')
        super().__init__()

    def answer(self, request: Asked) -> Answer:  # noqa: ARG002 - whatever was asked
        """Answer."""
        return self.reply


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give a server on loopback."""
    with Peer() as started:
        yield started


def with_outbound(use: Callable[[Outbound], Awaitable[T]], *, private: bool = True) -> T:
    """Return what `use` returns, with the connections closed after it."""

    async def run() -> T:
        outbound = Outbound(private=private)
        try:
            return await use(outbound)
        finally:
            await outbound.close()

    return asyncio.run(run())


def test_call_goes_out_as_it_was_given(peer: Peer) -> None:
    """Brackets and plus signs of a filter have to arrive."""
    request = Request(
        method="POST",
        path="rest/1/code/batch",
        query=[("filter[id][]", "1"), ("q", "a+b c")],
        body={"cmd": {"x": "crm.deal.get?id=662"}, "name": "Ё"},
    )

    reply = with_outbound(lambda outbound: outbound.send(f"{peer.url}/", request, {"X-Token": "t"}))

    assert reply == Reply(status=200, body=b'{"ok":true}')
    (call,) = peer.calls
    assert (call.method, call.path) == ("POST", "/rest/1/code/batch")
    assert call.request.query == {"filter": {"": "1"}, "q": "a+b c"} or call.request.query["q"] == "a+b c"
    assert call.request.headers["x-token"] == "t"
    assert call.request.headers["content-type"] == "application/json"
    assert '"name": "Ё"'.encode() in call.request.body


def test_redirect_is_a_reply_and_is_not_followed(peer: Peer) -> None:
    """A renamed portal is told to its owner; a POST that follows would become a GET."""
    peer.reply = Answer(302, b"", "text/html", (("Location", f"{peer.url}/elsewhere"),))

    assert with_outbound(lambda outbound: outbound.send(peer.url, ASK, {})).status == 302
    assert len(peer.calls) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "192.168.1.5"])
def test_private_address_is_refused_unless_it_is_meant(host: str) -> None:
    """A configured address is typed by people, and the metadata server answers everybody."""
    with pytest.raises(OperatorError, match="private"):
        with_outbound(lambda outbound: outbound.send(f"http://{host}:9/rest", ASK, {}), private=False)


def test_name_that_leads_into_a_private_network_is_refused(peer: Peer) -> None:
    """A name may lead anywhere, and elsewhere the next time."""
    base = f"http://localhost:{peer.port}"

    with pytest.raises(CrmAwayError):
        with_outbound(lambda outbound: outbound.send(base, ASK, {}), private=False)

    assert peer.calls == []


def test_server_that_is_away_is_named_by_its_host_only() -> None:
    """The path of an incoming webhook is a secret."""
    base = f"http://127.0.0.1:{free_port()}/rest/1/secretcode"

    with pytest.raises(CrmAwayError) as away:
        with_outbound(lambda outbound: outbound.send(base, ASK, {}))

    assert str(away.value) == "127.0.0.1 cannot be reached: ClientConnectorError"


def test_dropped_connection_is_away(peer: Peer) -> None:
    """Whether the work was done cannot be known."""
    peer.faults.drop(times=None)

    with pytest.raises(CrmAwayError):
        with_outbound(lambda outbound: outbound.send(peer.url, ASK, {}))


def test_reply_without_end_is_not_read(peer: Peer) -> None:
    """Memory is ours to keep."""
    peer.reply = Answer(200, b"x" * (MAX_REPLY_BYTES + 1))

    with pytest.raises(CrmAwayError, match="larger than"):
        with_outbound(lambda outbound: outbound.send(peer.url, ASK, {}))


@pytest.mark.parametrize(
    ("host", "literal", "public"),
    [
        ("8.8.8.8", True, True),
        ("10.1.2.3", True, False),
        ("::1", True, False),
        ("fe80::1%eth0", True, False),
        ("shop.example", False, None),
    ],
)
def test_addresses_are_told_from_names(host: str, *, literal: bool, public: bool | None) -> None:
    """The resolver is never asked about an address."""
    assert is_literal(host) == literal
    if public is not None:
        assert is_public(host) == public
