"""Sales whose visitor Metrica knows, and a driver that brings them to the fake Metrica."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

import fix_destinations
from closedloop.deliver.base import Batch, Destination
from closedloop.domain.delivery import FINAL, Outcome, Sale, Skipped, Told, Verdict, deadline
from closedloop.domain.exchange import HttpReply
from fix_destinations import send
from platforms.metrica import Metrica

BATCH_ID = fix_destinations.batch().batch_id
YM_UID = "1741000000123456789"
YCLID = "17410000001234567890"
ENDS = FINAL | {Outcome.PARTIAL, Outcome.REAUTH, Outcome.AUTH_BLOCKED, Outcome.CONFIG_BLOCKED}
LAST_LOOK = timedelta(hours=1)
TRIES = 40


def sale(**more: Any) -> Sale:  # noqa: ANN401 - any field
    """Return the sale of a paid deal of 5000 roubles that nobody's session was found for."""
    usual: dict[str, Any] = {"value": Decimal(5000), "ids": {"ym_uid": YM_UID}, "visited_at": None}
    return fix_destinations.sale(**{**usual, **more})


def told(**more: Any) -> Told:  # noqa: ANN401 - any field
    """Return what a destination took of that sale."""
    return fix_destinations.told(**{"value": Decimal(5000), **more})


def batch(*sales: Sale) -> Batch:
    """Return these sales as they are sent, that sale when there are none."""
    return fix_destinations.batch(*(sales or (sale(),)))


def reply(status: int = 200, **told: object) -> HttpReply:
    """Return an answer of Metrica."""
    return HttpReply(status=status, body=msgspec.json.encode(told))


class Driver:
    """Sends, asks and repeats as the engine does, by the fake's clock; keeps what was told of each order."""

    def __init__(self, metrica: Metrica, destination: Destination, settings: Any) -> None:  # noqa: ANN401 - any destination's
        self.metrica = metrica
        self.destination = destination
        self.settings = settings
        self.terms = destination.terms(settings)
        self.told: dict[str, Told] = {}
        self.batches = 0

    def compile(self, one: Sale) -> Sale | str:
        """Return the sale as it is sent, or why it is not."""
        whole = msgspec.structs.replace(one, told=self.told.get(one.order_id))
        last = deadline(whole, self.terms)
        if last is not None and last <= self.metrica.clock.now:
            return "too late"
        found = self.destination.compile(whole, self.settings)
        return found.reason if isinstance(found, Skipped) else found

    def deliver(self, *sales: Sale) -> list[Verdict]:
        """Return the last verdict for each of some sales of one door."""
        ready = [found for one in sales if isinstance(found := self.compile(one), Sale)]
        assert len(ready) == len(sales)
        return self.send(ready, tries=TRIES)

    def send(self, sales: Sequence[Sale], tries: int) -> list[Verdict]:
        """Send a batch until it ends; rows of a refused one go again by their doors."""
        batch = self.batch(sales)
        verdicts = self.exchange(batch)
        looks = iter(self.terms.verdict_after)
        while verdicts[0].outcome not in ENDS and tries:
            tries -= 1
            match verdicts[0].outcome:
                case Outcome.ACCEPTED_PENDING:
                    verdicts = self.ask(batch, verdicts[0].reference, next(looks, LAST_LOOK))
                case Outcome.UNKNOWN_OUTCOME if self.terms.repeat_lost_answer:
                    verdicts = self.exchange(batch)
                case Outcome.UNKNOWN_OUTCOME:
                    verdicts = self.ask(batch, "", self.terms.ask_lost_after)
                case _:
                    return self.again(batch, tries)
        for one, verdict in zip(sales, verdicts, strict=True):
            self.keep(one, verdict)
        return list(verdicts)

    def again(self, batch: Batch, tries: int) -> list[Verdict]:
        """Compile sales anew, one attempt later, and send them by their doors."""
        self.metrica.pass_time(timedelta(minutes=1))
        doors: dict[str, list[Sale]] = {}
        for one in batch.sales:
            found = self.compile(msgspec.structs.replace(one, attempt=one.attempt + 1))
            assert isinstance(found, Sale)
            doors.setdefault(found.door, []).append(found)
        verdicts = {
            one.order_id: verdict
            for some in doors.values()
            for one, verdict in zip(some, self.send(some, tries), strict=True)
        }
        return [verdicts[one.order_id] for one in batch.sales]

    def exchange(self, batch: Batch) -> Sequence[Verdict]:
        """Send a batch once."""
        reply = send(self.destination.encode(batch, self.settings, self.metrica.clock.now))
        return self.destination.decode(batch, reply, self.settings)

    def ask(self, batch: Batch, reference: str, wait: timedelta) -> Sequence[Verdict]:
        """Ask for a batch after some time."""
        self.metrica.pass_time(wait)
        request = self.destination.ask(batch, reference, self.settings)
        assert request is not None
        return self.destination.learn(batch, reference, send(request), self.settings)

    def batch(self, sales: Sequence[Sale]) -> Batch:
        """Return a batch with a name of its own."""
        self.batches += 1
        return Batch(batch_id=f"{self.batches:032x}", sales=sales)

    def keep(self, one: Sale, verdict: Verdict) -> None:
        """Keep what was taken."""
        if verdict.outcome in {Outcome.CONFIRMED, Outcome.PARTIAL}:
            self.told[one.order_id] = Told(
                value=one.value,
                currency=one.currency,
                is_cancelled=one.is_cancelled,
                revision=one.revision,
                goal=one.goal,
                created_at=one.deal_created_at,
            )
