"""Plays a conversation with a CRM against whatever answers its requests; sends nothing anywhere."""

from collections.abc import Callable
from typing import TypeVar

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.base import Conversation, CrmApi

Result = TypeVar("Result")
MAX_REQUESTS = 1000


def play(api: CrmApi, conversation: Conversation[Result], answer: Callable[[Request], Reply]) -> Result:
    """Return what a conversation was about; every answer must be one that the API takes for a success."""
    try:
        request = next(conversation)
        for _ in range(MAX_REQUESTS):
            reply = answer(request)
            refusal = api.refusal(request, reply)
            assert refusal is None, (request, refusal)
            request = conversation.send(reply)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    raise AssertionError(f"the conversation does not end: {request}")
