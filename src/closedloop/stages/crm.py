"""Talks with one CRM: keeps its rate and its token, repeats what may be repeated; knows no CRM by name."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Self, TypeVar

import structlog
from aiolimiter import AsyncLimiter

from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.parse.base import Conversation, CrmApi, Refusal
from closedloop.stages import clock
from closedloop.telemetry import CRM_CALLS

if TYPE_CHECKING:
    from closedloop.outbound import Outbound  # it takes some megabytes that a server without a CRM can spare

Result = TypeVar("Result")

TRIES = 6
# Where somebody waits: a CRM that is away is said after seconds, and not after a minute.
FEW_TRIES = 3
AWAY_S = 60
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0

log = structlog.get_logger()

# Gives the headers of authorization; asked with True it gets a new token first.
Authorize = Callable[[bool], Awaitable[Mapping[str, str]]]


async def no_headers(_renew: bool) -> Mapping[str, str]:  # noqa: FBT001 - the shape of Authorize
    """Authorize by the address itself, as Bitrix24's incoming webhooks do."""
    return {}


class CrmClient:
    """One CRM of one site. Calls go one at a time: limits are per account, and order is worth more."""

    def __init__(
        self, api: CrmApi, base: str, outbound: "Outbound", authorize: Authorize = no_headers
    ) -> None:
        self.api = api
        self.base = base
        self.outbound = outbound
        self.authorize = authorize
        self.limiter = AsyncLimiter(api.burst, api.burst / api.calls_per_second)
        self.one_at_a_time = asyncio.Lock()
        self.tries = TRIES  # of a call that fails
        self.first_pause_s = FIRST_PAUSE_S  # doubled before each further try

    def impatient(self) -> Self:
        """Return the same client, with its rate and its token, for somebody who waits for the answer."""
        copied = copy.copy(self)
        copied.tries = FEW_TRIES
        return copied

    async def converse(self, conversation: Conversation[Result]) -> Result:
        """Return what a conversation is about, once all its requests were answered.

        Raises CrmAwayError when the CRM does not answer in the end, CrmRefusedError when a person must act.
        """
        try:
            request = next(conversation)
            while True:
                reply = await self.call(request)
                request = conversation.send(reply)
        except StopIteration as stop:
            result: Result = stop.value
            return result

    async def call(self, request: Request) -> Reply:
        """Return the reply that is a success, or says that this one object is gone."""
        renew = False
        reason = ""
        for attempt in range(TRIES):
            reply, refusal = await self.once(request, renew=renew)
            if refusal is None or refusal.kind == "gone":
                return reply
            if refusal.kind == "owner" or (refusal.kind == "token" and renew):
                raise CrmRefusedError(refusal.sentence)
            renew = refusal.kind == "token"
            reason = refusal.sentence
            if attempt + 1 >= (TRIES if refusal.kind == "slower" else self.tries):
                break
            if not renew:
                await self.pause(refusal, attempt)
        raise CrmAwayError(f"{self.api.name} did not take the call: {reason}", retry_after=AWAY_S)

    async def once(self, request: Request, *, renew: bool) -> tuple[Reply, Refusal | None]:
        """Return the reply to one try, and why it is no success."""
        async with self.one_at_a_time:
            headers = await self.authorize(renew)
            await self.limiter.acquire()
            try:
                reply = await self.outbound.send(self.base, request, headers)
            except CrmAwayError as error:
                CRM_CALLS.labels(self.api.name, "away").inc()
                return Reply(status=0, body=b""), Refusal(kind="again", sentence=str(error))
        refusal = self.api.refusal(request, reply)
        CRM_CALLS.labels(self.api.name, "answered" if refusal is None else refusal.kind).inc()
        return reply, refusal

    async def pause(self, refusal: Refusal, attempt: int) -> None:
        """Wait before the next try: as long as the CRM says, else longer each time."""
        pause = max(refusal.wait_s, clock.jitter(min(self.first_pause_s * 2**attempt, MAX_PAUSE_S)))
        if pause > MAX_PAUSE_S:
            raise CrmAwayError(refusal.sentence, retry_after=int(pause))
        log.info("crm_waits", crm=self.api.name, reason=refusal.sentence, pause_s=round(pause, 1))
        await asyncio.sleep(pause)
