"""What a destination is: pure functions from conversions to requests, and from replies to verdicts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from closedloop.domain.delivery import Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Sales that go in one request. `batch_id` is stored before it is sent, and is the same on every try."""

    batch_id: str  # 32 hexadecimal digits
    sales: Sequence[Sale]


class Destination(Protocol):
    """One platform. Its settings are one struct that carries all that a form, a check and a reference need.

    Each field is `Annotated[str, Meta(title="Counter", description="…", examples=["12345678"],
    extra={"secret": True})]`; one without a default is required.

    Everything is pure: conversions, settings and an instant in, requests out; an answer in, one verdict for
    each sale out, in their order.
    """

    name: str
    settings: type[msgspec.Struct]

    def terms(self, settings: Any) -> Terms:  # noqa: ANN401 - of the class in `settings`
        """Return the terms of this destination as it is configured."""
        ...

    def compile(self, sale: Sale, settings: Any) -> Sale | Skipped:  # noqa: ANN401
        """Return the sale as the platform can express it, after `sale.told`; or why nothing is to be sent.

        The rule by which a door is chosen (yclid or ClientID, click id or contacts) is decided here.
        """
        ...

    def encode(self, batch: Batch, settings: Any, now: datetime) -> HttpRequest:  # noqa: ANN401
        """Return the request; the same batch gives the same body."""
        ...

    def decode(self, batch: Batch, reply: HttpReply, settings: Any) -> Sequence[Verdict]:  # noqa: ANN401
        """Return a verdict for each sale of the batch, whatever came back: HTML, half a body, nothing."""
        ...

    def ask(self, batch: Batch, reference: str, settings: Any) -> HttpRequest | None:  # noqa: ANN401
        """Return the question after an accepted batch, or after one whose answer was lost (`reference` "").

        None when this platform cannot be asked.
        """
        ...

    def learn(self, batch: Batch, reference: str, reply: HttpReply, settings: Any) -> Sequence[Verdict]:  # noqa: ANN401
        """Return what the answer to `ask` says of each sale; accepted_pending while it is not known.

        After a lost answer retry_later says that the platform has never got the batch.
        """
        ...

    def check(self, settings: Any, now: datetime) -> HttpRequest | None:  # noqa: ANN401
        """Return the platform's own way to try token and settings, None when it has none."""
        ...

    def judge(self, reply: HttpReply, settings: Any) -> Verdict:  # noqa: ANN401
        """Return what the answer to `check` says: confirmed, or what a person has to do."""
        ...
