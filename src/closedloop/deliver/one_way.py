"""What a destination does that is only told and can never be asked."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from closedloop.deliver.answers import verdict_of
from closedloop.deliver.base import Batch
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest


class OneWay:
    """The half of a Destination that is the same wherever there is nothing to ask."""

    def ask(self, batch: Batch, reference: str, settings: Any) -> HttpRequest | None:  # noqa: ANN401, ARG002
        """Return None: nobody answers questions."""
        return None

    def learn(
        self,
        batch: Batch,
        reference: str,  # noqa: ARG002
        reply: HttpReply,
        settings: Any,  # noqa: ANN401, ARG002
    ) -> Sequence[Verdict]:
        """Return that nothing is known: no question was asked."""
        return [verdict_of(reply, Outcome.UNKNOWN_OUTCOME)] * len(batch.sales)

    def check(self, settings: Any, now: datetime) -> HttpRequest | None:  # noqa: ANN401, ARG002
        """Return None: there is no way to try the settings but to tell a sale."""
        return None

    def judge(self, reply: HttpReply, settings: Any) -> Verdict:  # noqa: ANN401, ARG002
        """Return that nothing is known: nothing was tried."""
        return verdict_of(reply, Outcome.UNKNOWN_OUTCOME)
