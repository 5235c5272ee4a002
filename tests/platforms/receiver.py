"""A receiver of webhooks that answers as a test wants, for tests of what a fake sends."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from platforms.faults import Answer
from platforms.http import Platform, Request


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
