"""How amoCRM delivers a webhook: two seconds to answer, up to five attempts, and switching off.

Source: docs/protocols/amocrm.md, 1.1 and 1.2.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from platforms.amocrm_bodies import Generation
from platforms.clocks import Clock
from platforms.sender import post, target_of

ANSWER_S = 2.0
MINUTE = 60
# Before the second, third, fourth and fifth attempt.
PAUSES_S = (5 * MINUTE, 15 * MINUTE, 15 * MINUTE, 60 * MINUTE)
# Attempts up to this one follow any failure; later ones only what the receiver's server is to blame for.
ANY_FAILURE = 3
INVALID_PERIOD_S = 120 * MINUTE
MAX_INVALID = 100


@dataclass
class Webhook:
    """One subscription; `invalid` are the moments of the invalid answers of the last two hours."""

    id: int
    destination: str
    settings: list[str]
    created: int
    updated: int
    disabled: bool = False
    invalid: deque[int] = field(default_factory=deque[int])


class Attempt(NamedTuple):
    """One attempt: when, by the account's clock, and the status; 0 is no answer in time."""

    at: int
    status: int


@dataclass
class Delivery:
    """One body on its way to one webhook; `due` is None when it will not be tried again."""

    webhook: Webhook
    body: bytes
    due: int | None
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def is_delivered(self) -> bool:
        """Whether the last attempt was answered as it should be."""
        return bool(self.attempts) and is_valid(self.attempts[-1].status)


def is_valid(status: int) -> bool:
    """Return whether a status counts as success; a redirect does not."""
    return 100 <= status < 300


def is_repeated(number: int, status: int) -> bool:
    """Return whether another attempt follows attempt `number`, counted from 1, that ended with a status."""
    if is_valid(status) or number > len(PAUSES_S):
        return False
    return number < ANY_FAILURE or status == 499 or status >= 500


@dataclass
class Courier:
    """Delivers by an account's clock; `deliveries` are all that ever began, in order.

    `answer_s` is how long a receiver has, two seconds as in reality. `number` counts attempts: each has an id
    of its own, since nobody knows whether a repetition keeps the first one's.
    """

    clock: Clock
    answer_s: float = ANSWER_S
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    number: int = 0

    def begin(self, webhook: Webhook, body: bytes, generation: Generation) -> Delivery | None:
        """Deliver a body for the first time, None when the webhook is switched off."""
        if webhook.disabled:
            return None
        delivery = Delivery(webhook, body, self.clock.unix)
        self.deliveries.append(delivery)
        self.attempt(delivery, generation)
        return delivery

    def pass_time(self, span_s: float, generation: Generation) -> None:
        """Move the clock on, and make every attempt when it is due."""
        end = self.clock.unix + int(span_s)
        while True:
            waiting = [one for one in self.deliveries if one.due is not None and one.due <= end]
            if not waiting:
                break
            first = min(waiting, key=lambda one: one.due or 0)
            self.clock.set(max(first.due or 0, self.clock.unix))
            self.attempt(first, generation)
        self.clock.set(end)

    def attempt(self, delivery: Delivery, generation: Generation) -> None:
        """Post once, and say whether and when again; what was switched off meanwhile is given up."""
        webhook, now = delivery.webhook, self.clock.unix
        delivery.due = None
        if webhook.disabled:
            return
        status = self.post(webhook.destination, delivery.body, generation)
        delivery.attempts.append(Attempt(now, status))
        while webhook.invalid and webhook.invalid[0] <= now - INVALID_PERIOD_S:
            webhook.invalid.popleft()
        if not is_valid(status):
            webhook.invalid.append(now)
            webhook.disabled = len(webhook.invalid) > MAX_INVALID
        number = len(delivery.attempts)
        if is_repeated(number, status):
            delivery.due = now + PAUSES_S[number - 1]

    def post(self, url: str, body: bytes, generation: Generation) -> int:
        """Post a body with the headers of a generation and return the status."""
        self.number += 1
        headers = headers_of(generation, self.number, len(body))
        return post(url, target_of(url), headers, body, self.answer_s).status


def headers_of(generation: Generation, number: int, length: int) -> Sequence[tuple[str, str]]:
    """Return the headers of a webhook in their order."""
    if generation == "2016":
        return [
            ("User-Agent", "amoCRM-WebHook-client/1.0"),
            ("Accept", "*/*"),
            ("Connection", "close"),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(length)),
        ]
    return [
        ("User-Agent", "amoCRM-Webhooks/3.0"),
        ("Content-Length", str(length)),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Uber-Trace-Id", f"{number:016x}:{number:016x}:{number:016x}:1"),
        ("X-Amocrm-Requestid", f"{number:08x}-2222-4333-8444-555555555555"),
        ("Accept-Encoding", "gzip"),
    ]
