"""Calls to a CRM keep its rate, are repeated where that is right, and stop where a person has to act."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import pytest

from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.outbound import Outbound
from closedloop.parse.base import Conversation, CrmApi, Refusal
from closedloop.stages import clock
from closedloop.stages.crm import TRIES, CrmClient
from platforms.faults import Answer
from platforms.http import Platform
from platforms.http import Request as Asked

pytestmark = pytest.mark.usefixtures("quiet")

ASK = Request(method="GET", path="leads")


class Api:
    """A CRM whose answers say in words what they are."""

    name = "testcrm"
    calls_per_second = 1000.0
    burst = 1000

    def refusal(self, request: Request, reply: Reply) -> Refusal | None:  # noqa: ARG002 - the protocol's
        """Return what the body says."""
        kind = reply.body.decode()
        return None if kind == "ok" else Refusal(kind=kind, sentence=f"it said {kind}")


class Peer(Platform):
    """Says the next of `words`, the last one for ever."""

    def __init__(self) -> None:
        self.words = ["ok"]
        super().__init__()

    def answer(self, request: Asked) -> Answer:  # noqa: ARG002 - whatever was asked
        """Answer."""
        word = self.words.pop(0) if len(self.words) > 1 else self.words[0]
        return Answer(200, word.encode(), "text/plain")


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """Give the CRM; pauses between tries are short."""
    monkeypatch.setattr("closedloop.stages.crm.FIRST_PAUSE_S", 0.001)
    with Peer() as started:
        yield started


def conversation() -> Conversation[bytes]:
    """Ask one thing."""
    reply = yield ASK
    return reply.body


def talk(
    peer: Peer,
    *,
    api: Api | None = None,
    times: int = 1,
    renewed: list[bool] | None = None,
) -> list[bytes]:
    """Return what so many conversations at once come to."""

    async def authorize(renew: bool) -> Mapping[str, str]:  # noqa: FBT001 - the shape of Authorize
        if renewed is not None:
            renewed.append(renew)
        return {"X-Token": "t"}

    async def run() -> list[bytes]:
        outbound = Outbound(private=True)
        client = CrmClient(cast("CrmApi", api or Api()), peer.url, outbound, authorize)
        try:
            return await asyncio.gather(*(client.converse(conversation()) for _ in range(times)))
        finally:
            await outbound.close()

    return asyncio.run(run())


@pytest.mark.parametrize("words", [["again", "ok"], ["slower", "again", "ok"]])
def test_what_may_be_repeated_is(peer: Peer, words: list[str]) -> None:
    """Limits are shared with programs that we do not know."""
    peer.words = words

    assert talk(peer) == [b"ok"]


def test_connection_that_breaks_is_tried_again(peer: Peer) -> None:
    """Networks do."""
    peer.faults.drop()

    assert talk(peer) == [b"ok"]
    assert len(peer.calls) == 2


def test_crm_that_never_takes_the_call_is_away_after_some_tries(peer: Peer) -> None:
    """The deal is put off, and asked for later."""
    peer.words = ["again"]

    with pytest.raises(CrmAwayError, match="it said again"):
        talk(peer)
    assert len(peer.calls) == TRIES


def test_token_is_renewed_once(peer: Peer) -> None:
    """A second refusal is no matter of its age."""
    renewed: list[bool] = []
    peer.words = ["token", "ok"]

    assert talk(peer, renewed=renewed) == [b"ok"]
    assert renewed == [False, True]

    peer.words = ["token"]
    with pytest.raises(CrmRefusedError, match="it said token"):
        talk(peer)


def test_refusal_that_needs_a_person_is_not_repeated(peer: Peer) -> None:
    """Going on leads to a block of the whole account."""
    peer.words = ["owner"]

    with pytest.raises(CrmRefusedError, match="it said owner"):
        talk(peer)
    assert len(peer.calls) == 1


def test_object_that_is_gone_is_an_answer(peer: Peer) -> None:
    """The conversation knows what it means."""
    peer.words = ["gone"]

    assert talk(peer) == [b"gone"]


def test_calls_go_one_at_a_time_and_no_faster_than_the_limit(peer: Peer) -> None:
    """Seven a second is the limit of the whole account."""
    api = Api()
    api.calls_per_second, api.burst = 50.0, 5
    at: list[float] = []
    inner: Callable[[Asked], Answer] = peer.answer
    running = [0, 0]

    def watched(request: Asked) -> Answer:
        at.append(clock.elapsed())
        running[0] += 1
        running[1] = max(running)
        try:
            return inner(request)
        finally:
            running[0] -= 1

    peer.answer = watched  # type: ignore[method-assign]

    assert talk(peer, api=api, times=15) == [b"ok"] * 15
    assert at[-1] - at[0] > 9 / api.calls_per_second
    assert running[1] == 1
