"""Receivers of webhooks, for tests of what is sent: of a CRM's forms, of signed events and postbacks."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qsl

from standardwebhooks import Webhook

from platforms.faults import Answer
from platforms.http import Platform, Request

# How far off a stamp may be (docs/protocols/destinations/standard-webhooks.md, 1).
TOLERANCE_S = 300


class Receiver(Platform):
    """Answers 200 to everything, or what `react` says; `bodies` and `calls` have what came, in order."""

    def __init__(self) -> None:
        self.react: Callable[[Request], int] = lambda _: 200
        super().__init__()

    def answer(self, request: Request) -> Answer:
        """Take one webhook."""
        return Answer(self.react(request), b"", "text/plain")

    @property
    def bodies(self) -> list[dict[str, str]]:
        """The forms that came, their names as they were: `{"data[FIELDS][ID]": "662"}`."""
        return [dict(parse_qsl(call.request.body.decode(), keep_blank_values=True)) for call in self.calls]


@dataclass(frozen=True)
class Attempt:
    """One try to deliver one message, and by how many of its signatures it was believed."""

    message_id: str
    stamp: int
    signatures: tuple[str, ...]
    body: bytes
    path: str
    believed: int


class SignedReceiver(Platform):
    """Answers by the path, and keeps each attempt to deliver a signed message.

    `/200`, `/302`, `/400`, `/410`, `/500` answer so; `/429?after=120` and `/503?after=120` say for how long;
    `/slow?s=40` answers late, `/flaky?fail=2` fails so often for each message, `/reset` answers nothing.
    A message that is not signed by `secret` within five minutes of `now` is answered 401 on every path but
    those of unsigned postbacks, which begin with `/open`.

    Source: docs/protocols/destinations/standard-webhooks.md, 6.
    """

    def __init__(self, secret: str) -> None:
        self.oracle = Webhook(secret)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: TID251 - a server has its own clock
        self.attempts: list[Attempt] = []
        self.failed: Counter[str] = Counter()
        self.closing = threading.Event()
        super().__init__()
        self.faults.drop("/reset", times=None, done=True)

    def close(self) -> None:
        """Let nobody wait any longer, and end."""
        self.closing.set()
        super().close()

    def work(self, request: Request) -> Answer:
        """Answer; a slow path holds up no other."""
        if "s" in request.query:
            self.closing.wait(float(str(request.query["s"])))
        return super().work(request)

    def answer(self, request: Request) -> Answer:
        """Keep one attempt and answer by its path."""
        path = request.path.removeprefix("/open")
        if path == request.path:
            attempt = self.attempt(request)
            self.attempts.append(attempt)
            if not attempt.believed:
                return Answer(HTTPStatus.UNAUTHORIZED, b"signature is wrong", "text/plain")
        match path.strip("/"):
            case "flaky":
                return self.flaky(request)
            case "slow" | "reset" | "":
                return Answer(HTTPStatus.OK)
            case status:
                headers = [("Retry-After", str(request.query["after"]))] if "after" in request.query else []
                headers += [("Location", "/200")] if status == "302" else []
                return Answer(int(status), b"", "text/plain", tuple(headers))

    def flaky(self, request: Request) -> Answer:
        """Fail as often as is wished for this message, then take it."""
        message = request.headers.get("webhook-id", request.target)
        self.failed[message] += 1
        fails = self.failed[message] <= int(str(request.query.get("fail", 1)))
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR if fails else HTTPStatus.OK)

    def attempt(self, request: Request) -> Attempt:
        """Return the attempt, its signatures checked over the bytes as they came."""
        stamp = int(request.headers.get("webhook-timestamp", 0))
        message = request.headers.get("webhook-id", "")
        signatures = tuple(request.headers.get("webhook-signature", "").split())
        right = self.oracle.sign(message, datetime.fromtimestamp(stamp, UTC), request.body.decode())
        is_fresh = abs(self.now().timestamp() - stamp) <= TOLERANCE_S
        return Attempt(
            message_id=message,
            stamp=stamp,
            signatures=signatures,
            body=request.body,
            path=request.path,
            believed=signatures.count(right) if is_fresh else 0,
        )

    def check_attempts(self) -> None:
        """Assert of each message that it had one body, and a signature of its own at each stamp."""
        for message in {attempt.message_id for attempt in self.attempts}:
            tries = [attempt for attempt in self.attempts if attempt.message_id == message]
            assert len({attempt.body for attempt in tries}) == 1, f"{message} came with another body"
            stamps = [attempt.stamp for attempt in tries]
            assert stamps == sorted(stamps), f"{message} went back in time"
            signed = {(attempt.stamp, attempt.signatures) for attempt in tries}
            assert len(signed) == len(set(stamps)), f"{message} was signed otherwise at one instant"
