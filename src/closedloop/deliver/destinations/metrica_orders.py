"""Deals as orders of Yandex Metrica: created, paid, changed, cancelled; one order, one row, replaced whole.

The only door by which a sale can be taken back, and the one that Yandex Direct learns from.
Source: docs/protocols/destinations/yandex-metrica.md, 4.
"""

import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec

from closedloop.deliver.base import Batch
from closedloop.deliver.fields import PrivateAddress, about
from closedloop.deliver.hashing import metrica_email_md5, metrica_phone_md5
from closedloop.deliver.metrica import (
    HOST,
    BaseUrl,
    Counter,
    GoalId,
    Table,
    Token,
    access_mistakes,
    count,
    get,
    post,
    read_answer,
    rows,
    table,
    text,
)
from closedloop.deliver.metrica_counter import counter_request, judge_counter
from closedloop.deliver.metrica_file import cell, csv_bytes, form_of, price
from closedloop.deliver.metrica_sale import client_id, money_problem
from closedloop.domain.delivery import Outcome, Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest
from closedloop.domain.tables import nearest

CREATED = "IN_PROGRESS"
PAID = "PAID"
CANCELLED = "CANCELLED"
SPAM = "SPAM"
HEADER = (
    "id",
    "create_date_time",
    "client_ids",
    "emails_md5",
    "phones_md5",
    "order_status",
    "revenue",
    "currency",
)
# Which state of an order may follow which: a goal on the way never undoes a payment.
_RANKS = {CREATED: 0, PAID: 2, CANCELLED: 2, SPAM: 2}
_ON_THE_WAY = 1
_UPLOADS = "cdp/api/v1/counter/{counter}/last_uploadings"
_ORDERS = "cdp/api/v1/counter/{counter}/data/simple_orders"
_LISTED = 1000
_MOST_HALVINGS = 20


class MetricaOrdersSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How orders go to one counter."""

    counter: Counter
    token: Token
    timezone: Annotated[
        str,
        about(
            "Time zone",
            "The counter's time zone, as its settings in Metrica say: orders are dated in it.",
            example="Europe/Moscow",
        ),
    ] = "Europe/Moscow"
    created: Annotated[
        str,
        about(
            "Goal of a new deal",
            "Our goal for a deal that was created; its order is in progress.",
            example="deal_created",
        ),
    ] = "deal_created"
    paid: Annotated[
        str,
        about(
            "Goal of a paid deal",
            "Our goal for a deal whose money has come; its order is paid.",
            example="payment_success",
        ),
    ] = "payment_success"
    goals: Annotated[
        dict[str, GoalId],
        about(
            "Other goals",
            "Our goal and the identifier of a goal in Metrica of the type JavaScript event, or CANCELLED, "
            "SPAM or PAID. A goal that stands in none of the three is not sent.",
            example={"qualified": "good_lead", "deal_lost": "CANCELLED"},
        ),
    ] = {}
    base_url: BaseUrl = HOST
    private_address: PrivateAddress = False

    def mistakes(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong with the address and the time zone."""
        yield from access_mistakes(self)
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            zones = available_timezones()
            yield "timezone", f"is no time zone: {self.timezone[:80]!r}{nearest(self.timezone, zones)}"

    def status_of(self, goal: str) -> str | None:
        """Return the order's status for one of our goals, None when the goal is none of this destination."""
        return {**self.goals, self.created: CREATED, self.paid: PAID}.get(goal)


class MetricaOrders:
    """The destination `metrica-orders`."""

    name = "metrica-orders"
    settings: type[msgspec.Struct] = MetricaOrdersSettings

    def terms(self, settings: MetricaOrdersSettings) -> Terms:  # noqa: ARG002 - the same for all
        """Return the terms: 21 days from the visit for the first row, 111 for its changes; rows upsert.

        The margin is what processing and the wait for a batch take. Source: 4.3.
        """
        return Terms(
            window=timedelta(days=21),
            change_window=timedelta(days=111),
            counts_from="visit",
            margin=timedelta(hours=3, minutes=10),
            gather=timedelta(minutes=10),
            max_rows=1000,
            repeat_lost_answer=True,
            one_state_per_order=True,
            verdict_after=tuple(
                timedelta(minutes=some) for some in (5, 15, 30, 60, 120, 240, 480, 960, 1440)
            ),
        )

    def compile(self, sale: Sale, settings: MetricaOrdersSettings) -> Sale | Skipped:
        """Return the sale with the moment under which its order stands, or why no row is to be sent.

        After a file that was refused whole its rows go in smaller ones: `door` parts them, halved each time.
        """
        problem = _problem(sale, settings)
        if problem is not None:
            return Skipped(reason=problem)
        parts = 1 << min(sale.attempt, _MOST_HALVINGS)
        door = str(zlib.crc32(sale.order_id.encode(errors="replace")) % parts) if parts > 1 else ""
        return msgspec.structs.replace(sale, door=door, deal_created_at=_created_at(sale))

    def encode(self, batch: Batch, settings: MetricaOrdersSettings, now: datetime) -> HttpRequest:  # noqa: ARG002
        """Return the upload of one file, mode SAVE; of an order that stands twice only the newest state goes.

        Rows of one order are applied in random order. Source: 4.1.
        """
        zone = ZoneInfo(settings.timezone)
        newest = _newest(batch.sales, settings)
        content = csv_bytes(HEADER, (_row(sale, settings, zone) for sale in newest))
        query = {"merge_mode": "SAVE", "delimiter_type": "COMMA"}
        return post(settings, _ORDERS, query, form_of(content, f"{batch.batch_id}.csv"))

    def decode(self, batch: Batch, reply: HttpReply, settings: MetricaOrdersSettings) -> Sequence[Verdict]:
        """Return one verdict for all: what the API said of the file; it names no rows. Source: 4.2."""
        told = read_answer(reply, settings, is_upload=True)
        if isinstance(told, Verdict):
            return _for_all(batch, told)
        uploading = table(told.get("uploading"))
        reference = text(uploading.get("uploading_id"))
        if not reference:
            reason = "Metrica answered without the number of the upload"
            return _for_all(batch, Verdict(outcome=Outcome.UNKNOWN_OUTCOME, reason=reason))
        return _for_all(batch, _of_upload(uploading, reference, is_first=True))

    def ask(self, batch: Batch, reference: str, settings: MetricaOrdersSettings) -> HttpRequest | None:  # noqa: ARG002
        """Return the question for the latest uploads; None after a lost answer, as the rows go again."""
        if not reference:
            return None
        return get(settings, _UPLOADS, {"limit": _LISTED, "source": "API"})

    def learn(
        self, batch: Batch, reference: str, reply: HttpReply, settings: MetricaOrdersSettings
    ) -> Sequence[Verdict]:
        """Return what the list says of this upload; whatever hinders the question, it is still pending."""
        told = read_answer(reply, settings, is_upload=False)
        if isinstance(told, Verdict):
            pending = Verdict(outcome=Outcome.ACCEPTED_PENDING, reason=told.reason, reference=reference)
            return _for_all(batch, pending)
        listed = rows(told.get("uploadings"))
        found = next((one for one in listed if text(one.get("uploading_id")) == reference), None)
        return _for_all(batch, _of_upload(found or {}, reference))

    def check(self, settings: MetricaOrdersSettings, now: datetime) -> HttpRequest | None:  # noqa: ARG002
        """Return the question for the counter with its goals."""
        return counter_request(settings)

    def judge(self, reply: HttpReply, settings: MetricaOrdersSettings) -> Verdict:
        """Return confirmed, or what a person has to do about token, rights, time zone and goals."""
        goals = [one for one in settings.goals.values() if one not in _RANKS]
        return judge_counter(reply, settings, goals=goals, timezone=settings.timezone)


def _problem(sale: Sale, settings: MetricaOrdersSettings) -> str | None:
    status = settings.status_of(sale.goal)
    if status is None:
        return f"the goal {sale.goal} is none of those that this destination sends"
    known = sale.told.goal or sale.goal if sale.told else None
    if known is not None and _rank(status) < _rank(settings.status_of(known)):
        return f"the order stands further already, at {known}"
    if not sale.is_cancelled:
        return money_problem(sale) or _nobody(sale)
    if status in {CANCELLED, SPAM}:
        return "that the deal is no longer lost is told by its other goals"
    # What was tried without an answer may have come there.
    if known != sale.goal and not sale.attempt:
        return "it was cancelled before Metrica was told of it"
    return _nobody(sale)


def _rank(status: str | None) -> int:
    return _RANKS.get(status or "", _ON_THE_WAY)


def _nobody(sale: Sale) -> str | None:
    if client_id(sale) or any(_emails(sale)) or any(_phones(sale)):
        return None
    if sale.emails:
        return "there is no ClientID and no phone, and Metrica matches no e-mail that is not in Latin letters"
    return "nothing says whose order it is: there is no ClientID, no phone and no e-mail"


def _emails(sale: Sale) -> list[str]:
    return list(dict.fromkeys(filter(None, map(metrica_email_md5, sale.emails))))


def _phones(sale: Sale) -> list[str]:
    return list(dict.fromkeys(filter(None, map(metrica_phone_md5, sale.phones))))


def _created_at(sale: Sale) -> datetime:
    """Return the moment under which the order stands in Metrica, which never changes. Source: 4.1."""
    known = None if sale.told is None else sale.told.created_at
    return known or sale.deal_created_at or sale.occurred_at


def _row(sale: Sale, settings: MetricaOrdersSettings, zone: ZoneInfo) -> tuple[str, ...]:
    status = CANCELLED if sale.is_cancelled else settings.status_of(sale.goal) or CREATED
    return (
        _order(sale),
        f"{_created_at(sale).astimezone(zone):%Y-%m-%d %H:%M:%S}",
        client_id(sale),
        ",".join(_emails(sale)),
        ",".join(_phones(sale)),
        status,
        "0" if status in {CANCELLED, SPAM} else price(sale.value),
        sale.currency,
    )


def _order(sale: Sale) -> str:
    """Return the order's id as it stands in the file; without one repeated rows would pile up."""
    return cell(sale.order_id) or str(sale.conversion_id)


def _newest(sales: Sequence[Sale], settings: MetricaOrdersSettings) -> list[Sale]:
    """Return the sales in their order, of each order only its last state."""
    newest: dict[str, tuple[tuple[int, datetime, int], int]] = {}
    for index, sale in enumerate(sales):
        state = (_rank(settings.status_of(sale.goal)), sale.occurred_at, sale.revision)
        known = newest.get(_order(sale))
        if known is None or known[0] <= state:
            newest[_order(sale)] = state, index
    return [sales[index] for index in sorted(index for _, index in newest.values())]


def _of_upload(uploading: Table, reference: str, *, is_first: bool = False) -> Verdict:
    """Return what the state of an upload means; it is only believed to be good when it is asked for."""
    status = text(uploading.get("api_validation_status"))
    if status == "FAILED":
        return Verdict(outcome=Outcome.REJECT_RECORD, reason="Metrica refused the whole file (FAILED)")
    if status == "PASSED" and not is_first:
        elements = count(uploading.get("elements_count"))
        counted = "" if elements is None else f", {elements} rows"
        reason = f"Metrica took the file (PASSED{counted})"
        return Verdict(outcome=Outcome.CONFIRMED, reason=reason, reference=reference)
    reason = "Metrica has not looked at the file yet"
    return Verdict(outcome=Outcome.ACCEPTED_PENDING, reason=reason, reference=reference)


def _for_all(batch: Batch, verdict: Verdict) -> list[Verdict]:
    """Return the verdict for each sale; rows of a refused file go again in smaller ones, as they upsert."""
    if verdict.outcome is Outcome.REJECT_RECORD and len(batch.sales) > 1:
        reason = f"{verdict.reason}; its rows go again in smaller files"
        verdict = msgspec.structs.replace(verdict, outcome=Outcome.RETRY_LATER, reason=reason)
    return [verdict for _ in batch.sales]
