"""A call is repeated while that may help, within the CRM's rate, and ends with what its owner has to do."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TypeVar, cast

import pytest

from closedloop.domain.deal import Deal
from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.outbound import Outbound
from closedloop.parse.base import Check, Conversation, CrmApi, DealPage, Refusal
from closedloop.stages.crm import TRIES, Authorize, CrmClient, no_headers
from fix_tools import free_port
from platforms.faults import Answer, Work
from platforms.receiver import Receiver

pytestmark = pytest.mark.usefixtures("quiet")

T = TypeVar("T")

# What the CRM of these tests means by a status.
MEANS = {
    401: Refusal(kind="token", sentence="the token has expired"),
    403: Refusal(kind="owner", sentence="the plan has no API"),
    404: Refusal(kind="gone", sentence="there is no such deal"),
    429: Refusal(kind="slower", sentence="too many calls"),
    502: Refusal(kind="again", sentence="the CRM is being restarted"),
    503: Refusal(kind="again", sentence="the CRM is closed for an hour", wait_s=3600),
}


class Api:
    """The adapter of an invented CRM: it asks for names, and its conversation returns the statuses."""

    name: str = "invented"

    def __init__(self, calls_per_second: float = 1000, burst: int = 100) -> None:
        self.calls_per_second: float = calls_per_second
        self.burst = burst

    def refusal(self, _request: Request, reply: Reply) -> Refusal | None:
        """Return what a status means."""
        return MEANS.get(reply.status)

    def ask(self, *names: str) -> Conversation[list[int]]:
        """Ask for some names, one after the other."""
        statuses: list[int] = []
        for name in names:
            reply = yield Request(method="GET", path=name)
            statuses.append(reply.status)
        return statuses

    def read_deals(self, deal_ids: Sequence[str]) -> Conversation[Mapping[str, Deal | None]]:
        """Know no deal."""
        yield from self.ask(*deal_ids)
        return {}

    def first_cursor(self, since: datetime) -> str:
        """Return a cursor."""
        return since.isoformat()

    def changed_deals(self, cursor: str) -> Conversation[DealPage]:
        """Know no change."""
        yield from self.ask("changed")
        return DealPage(deals=[], cursor=cursor, is_last=True)

    def check(self) -> Conversation[Sequence[Check]]:
        """Check nothing."""
        yield from self.ask("check")
        return []

    def write_fields(self, deal_id: str, fields: Mapping[str, str]) -> Conversation[None]:
        """Write nothing."""
        yield from self.ask(deal_id, *fields)


class Tokens:
    """Gives the headers `t1`, `t2` and so on, a new one whenever it is asked to renew."""

    def __init__(self) -> None:
        self.number = 1
        self.asked: list[bool] = []

    async def __call__(self, renew: bool) -> Mapping[str, str]:  # noqa: FBT001 - the shape of Authorize
        """Return the header."""
        self.asked.append(renew)
        self.number += renew
        return {"Authorization": f"t{self.number}"}


def with_client(
    base: str,
    use: Callable[[CrmClient], Awaitable[T]],
    *,
    api: Api | None = None,
    authorize: Authorize = no_headers,
    first_pause_s: float = 0.01,
) -> T:
    """Return what `use` returns, with a client that pauses a hundredth of a second at first."""

    async def run() -> T:
        outbound = Outbound(private=True)
        client = CrmClient(cast("CrmApi", api or Api()), base, outbound, authorize)
        client.first_pause_s = first_pause_s
        try:
            return await use(client)
        finally:
            await outbound.close()

    return asyncio.run(run())


def ask(receiver: Receiver, *names: str, authorize: Authorize = no_headers) -> list[int]:
    """Return the statuses that a conversation over some names saw."""
    api = Api()
    return with_client(
        receiver.url, lambda client: client.converse(api.ask(*names)), api=api, authorize=authorize
    )


def sent(receiver: Receiver) -> list[str]:
    """Return the statuses in the order of the calls, each with its path."""
    return [f"{call.path} {call.status}" for call in receiver.calls]


@pytest.mark.parametrize("status", [502, 429])
def test_call_is_repeated_until_it_is_answered(receiver: Receiver, status: int) -> None:
    """What stands behind it is done once: the conversation never sees the failures."""
    receiver.faults.answer(status, "b", times=TRIES - 1)

    assert ask(receiver, "a", "b", "c") == [200, 200, 200]

    assert sent(receiver) == ["/a 200", *[f"/b {status}"] * (TRIES - 1), "/b 200", "/c 200"]


def test_connection_that_is_cut_is_repeated(receiver: Receiver) -> None:
    """Networks fail more often than CRMs."""
    receiver.faults.drop(times=3)

    assert ask(receiver, "a") == [200]


@pytest.mark.parametrize("status", [502, 429])
def test_call_that_fails_every_time_is_given_up_with_the_reason(receiver: Receiver, status: int) -> None:
    """The deals go back to the list, and the next round tries again."""
    receiver.faults.answer(status, times=None)

    with pytest.raises(CrmAwayError, match=f"invented did not take the call: {MEANS[status].sentence}"):
        ask(receiver, "a", "b")

    assert sent(receiver) == [f"/a {status}"] * TRIES


def test_crm_that_is_not_there_is_away() -> None:
    """The sentence names the host: the path may be a secret."""
    api = Api()
    base = f"http://127.0.0.1:{free_port()}/secret"

    with pytest.raises(CrmAwayError) as caught:
        with_client(base, lambda client: client.converse(api.ask("a")), api=api)

    assert "127.0.0.1 cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_pauses_grow_from_try_to_try(receiver: Receiver) -> None:
    """A CRM that comes back must not be met by everybody at once and again at once."""
    receiver.faults.answer(502, times=4)
    api = Api()

    with_client(receiver.url, lambda client: client.converse(api.ask("a")), api=api, first_pause_s=0.02)

    moments = [call.at for call in receiver.calls]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert [pause >= 0.8 * 0.02 * 2**number for number, pause in enumerate(pauses)] == [True] * 4


def test_long_pause_is_not_waited_for(receiver: Receiver) -> None:
    """The deals are due again when the CRM says; meanwhile others get the connection."""
    receiver.faults.answer(503)

    with pytest.raises(CrmAwayError) as caught:
        ask(receiver, "a")

    assert caught.value.retry_after == 3600
    assert len(receiver.calls) == 1


def test_person_who_waits_is_told_sooner(receiver: Receiver) -> None:
    """A command does not stand still for a minute; that it was too fast is worth the wait."""
    api = Api()

    async def once(client: CrmClient) -> list[int]:
        client.tries = 1
        receiver.faults.answer(429, times=3)
        statuses = await client.converse(api.ask("a"))
        receiver.faults.answer(502)
        with pytest.raises(CrmAwayError):
            await client.converse(api.ask("b"))
        return statuses

    assert with_client(receiver.url, once, api=api) == [200]
    assert sent(receiver) == ["/a 429", "/a 429", "/a 429", "/a 200", "/b 502"]


def test_expired_token_is_renewed_once_and_then_kept(receiver: Receiver) -> None:
    """The call after it goes with the new one, and asks for no other."""
    tokens = Tokens()
    receiver.react = lambda request: 200 if request.headers["authorization"] == "t2" else 401

    assert ask(receiver, "a", "b", authorize=tokens) == [200, 200]

    assert tokens.asked == [False, True, False]
    assert sent(receiver) == ["/a 401", "/a 200", "/b 200"]


def test_new_token_that_is_refused_too_is_its_owners_affair(receiver: Receiver) -> None:
    """A loop of renewals would burn one refresh token after the other."""
    tokens = Tokens()
    receiver.react = lambda _: 401

    with pytest.raises(CrmRefusedError, match="the token has expired"):
        ask(receiver, "a", authorize=tokens)

    assert tokens.asked == [False, True]


def test_token_is_not_renewed_for_what_it_is_not_to_blame_for(receiver: Receiver) -> None:
    """A restart of the CRM in the middle is one thing, an expired token another."""
    tokens = Tokens()
    receiver.faults.answer(401)
    receiver.faults.answer(502)

    assert ask(receiver, "a", authorize=tokens) == [200]

    assert tokens.asked == [False, True, False]


def test_refusal_that_only_the_owner_can_mend_stops_at_once(receiver: Receiver) -> None:
    """Calls that go on after it block the API of the whole account."""
    receiver.faults.answer(403)

    with pytest.raises(CrmRefusedError, match="the plan has no API"):
        ask(receiver, "a", "b")

    assert sent(receiver) == ["/a 403"]


def test_object_that_is_gone_is_an_answer(receiver: Receiver) -> None:
    """One deleted deal is no trouble of the other forty-nine."""
    receiver.faults.answer(404, "b")

    assert ask(receiver, "a", "b", "c") == [200, 404, 200]


def test_rate_of_the_crm_is_kept(receiver: Receiver) -> None:
    """Whoever is refused too often is shut out: no span may have more calls than burst and rate allow."""
    api = Api(calls_per_second=40, burst=3)
    names = [f"n{number}" for number in range(12)]

    async def many(client: CrmClient) -> None:
        await asyncio.gather(*(client.converse(api.ask(name)) for name in names))

    with_client(receiver.url, many, api=api)

    moments = [call.at for call in receiver.calls]
    assert len(moments) == 12
    for first, begin in enumerate(moments):
        for count, end in enumerate(moments[first:], start=1):
            assert count <= 3 + 40 * (end - begin) + 1
    assert moments[-1] - moments[0] < 2


def test_calls_go_one_at_a_time(receiver: Receiver) -> None:
    """Limits are per account, and an answer that is overtaken would look like the newer one."""
    api = Api()
    inside: list[int] = []
    most: list[int] = []

    def crowded(work: Work) -> Answer:
        inside.append(1)
        most.append(len(inside))
        receiver.faults.closing.wait(0.01)
        inside.pop()
        return work()

    receiver.faults.order(crowded, times=None)

    async def many(client: CrmClient) -> None:
        await asyncio.gather(*(client.converse(api.ask("a", "b")) for _ in range(6)))

    with_client(receiver.url, many, api=api)

    assert most == [1] * 12
