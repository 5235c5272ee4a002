"""Deals as offline conversions of Yandex Metrica: one more goal on a visit, by ClientID, click or purchase.

Append only: what Metrica has once it never gives back, and the same row again counts again.
Source: docs/protocols/destinations/yandex-metrica.md, 2.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from closedloop.deliver.base import Batch
from closedloop.deliver.fields import PrivateAddress, about
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
from closedloop.deliver.metrica_sale import client_id, digits, money_problem
from closedloop.domain.delivery import Outcome, Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest

CLIENT, USER, CLICK, PURCHASE = "ClientId", "UserId", "Yclid", "PurchaseId"
_UPLOAD = "management/v1/counter/{counter}/offline_conversions/upload"
_UPLOADING = "management/v1/counter/{counter}/offline_conversions/uploading/"
_UPLOADINGS = "management/v1/counter/{counter}/offline_conversions/uploadings"
_LISTED = 10_000
_LONGEST_ID = 255
# Metrica refuses what has not happened yet by its own clock.
_PAST = timedelta(seconds=1)


class MetricaConversionsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How offline conversions go to one counter."""

    counter: Counter
    token: Token
    goals: Annotated[
        dict[str, GoalId],
        Meta(min_length=1),
        about(
            "Goals",
            "Our goal and the identifier of a goal in Metrica of the type JavaScript event. A goal that does "
            "not stand here is not sent.",
            example={"payment_success": "deal_paid"},
        ),
    ]
    first: Annotated[
        Literal["yclid", "ClientId"],
        about(
            "Goes first by",
            "yclid gives a sale to the click that brought the visitor, ClientId to the visit before it. The "
            "other one is used where the first is not known.",
            example="yclid",
        ),
    ] = "yclid"
    user_id: Annotated[
        bool,
        about(
            "The site sets UserID",
            "The site calls setUserID with the visitor's id that our tracker gave.",
            example=True,
        ),
    ] = False
    base_url: BaseUrl = HOST
    private_address: PrivateAddress = False

    def mistakes(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong with the address."""
        yield from access_mistakes(self)


class MetricaConversions:
    """The destination `metrica-conversions`."""

    name = "metrica-conversions"
    settings: type[msgspec.Struct] = MetricaConversionsSettings

    def terms(self, settings: MetricaConversionsSettings) -> Terms:  # noqa: ARG002 - the same for all
        """Return the terms: 21 days from the visit to the processing, of which up to three hours are lost.

        A lost answer is looked up after a quarter of an hour, and never repeated blindly. Source: 2.3 to 2.5.
        """
        minutes = (15, 30, 60, 90, 120, 180, 240, 360, 480, 720, 1440)
        return Terms(
            window=timedelta(days=21),
            counts_from="visit",
            margin=timedelta(hours=3, minutes=10),
            hold=timedelta(hours=1),
            gather=timedelta(minutes=10),
            max_rows=10_000,
            repeat_lost_answer=False,
            ask_lost_after=timedelta(minutes=15),
            verdict_after=tuple(timedelta(minutes=some) for some in minutes),
            attempts=96,  # a day of looking for a lost upload, before a person has to
        )

    def compile(self, sale: Sale, settings: MetricaConversionsSettings) -> Sale | Skipped:
        """Return the sale with the column of its id as `door`, or why no row is to be sent.

        A file holds one kind of id, so that of a file in which nothing matched all that is known is wrong.
        """
        problem = _problem(sale, settings)
        if problem is not None:
            return Skipped(reason=problem)
        door = next((door for door in _doors(settings) if _id_of(sale, door)), "")
        if not door:
            wanted = ", ".join(_doors(settings))
            return Skipped(reason=f"nothing says whose visit it was: none of {wanted} is known")
        return msgspec.structs.replace(sale, door=door)

    def encode(self, batch: Batch, settings: MetricaConversionsSettings, now: datetime) -> HttpRequest:
        """Return the upload of one file; `comment` is the batch's id, by which a lost upload is found.

        A row that lies in the future by its CRM's clock is dated a second before `now`: the only ones
        whose bytes depend on it.
        """
        doors = list(dict.fromkeys(sale.door for sale in batch.sales))
        header = [*doors, "Target", "DateTime", "Price", "Currency"]
        content = csv_bytes(header, (_row(sale, doors, settings, now) for sale in batch.sales))
        return post(settings, _UPLOAD, {"comment": batch.batch_id}, form_of(content, f"{batch.batch_id}.csv"))

    def decode(
        self, batch: Batch, reply: HttpReply, settings: MetricaConversionsSettings
    ) -> Sequence[Verdict]:
        """Return one verdict for all: Metrica counts rows and names none. Source: 2.2.

        Fewer rows than were sent is partial and final: nobody can tell which would count twice.
        """
        told = read_answer(reply, settings, is_upload=True)
        if isinstance(told, Verdict):
            return _for_all(batch, told)
        uploading = table(told.get("uploading"))
        if not text(uploading.get("id")):
            reason = "Metrica answered without the number of the upload"
            return _for_all(batch, Verdict(outcome=Outcome.UNKNOWN_OUTCOME, reason=reason))
        return _for_all(batch, _of_upload(uploading, len(batch.sales)))

    def ask(self, batch: Batch, reference: str, settings: MetricaConversionsSettings) -> HttpRequest | None:  # noqa: ARG002
        """Return the question for this upload, or for all after a lost answer: it is found by its comment."""
        if not reference:
            return get(settings, _UPLOADINGS, {"limit": _LISTED, "offset": 0})
        return get(settings, _UPLOADING + cell(reference), {})

    def learn(
        self, batch: Batch, reference: str, reply: HttpReply, settings: MetricaConversionsSettings
    ) -> Sequence[Verdict]:
        """Return what is said of this upload; whatever hinders the question never lets rows go again.

        After a lost answer only a whole list without the batch says that Metrica has never got it.
        """
        told = read_answer(reply, settings, is_upload=False)
        if isinstance(told, Verdict):
            return _for_all(batch, _unknown(reference, told.reason))
        if reference:
            uploading = table(told.get("uploading"))
            if text(uploading.get("id")) != reference:
                return _for_all(batch, _unknown(reference, "Metrica answered about another upload"))
            return _for_all(batch, _of_upload(uploading, len(batch.sales)))
        return _for_all(batch, _found(batch, told))

    def check(self, settings: MetricaConversionsSettings, now: datetime) -> HttpRequest | None:  # noqa: ARG002
        """Return the question for the counter with its goals."""
        return counter_request(settings)

    def judge(self, reply: HttpReply, settings: MetricaConversionsSettings) -> Verdict:
        """Return confirmed, or what a person has to do about token, rights and goals."""
        return judge_counter(reply, settings, goals=list(settings.goals.values()))


def _problem(sale: Sale, settings: MetricaConversionsSettings) -> str | None:
    if sale.goal not in settings.goals:
        return f"the goal {sale.goal} is none of those that this destination sends"
    if sale.told is not None:
        change = "a cancellation" if sale.is_cancelled else "a change"
        return f"Metrica cannot be told {change} of an offline conversion: it keeps what it was told first"
    if sale.is_cancelled:
        return "it was cancelled before Metrica was told of it"
    return money_problem(sale)


def _doors(settings: MetricaConversionsSettings) -> list[str]:
    """Return the columns of ids by preference. Source: yandex-metrica.md, 10: one goal, one of them."""
    certain = [CLICK, CLIENT] if settings.first == "yclid" else [CLIENT, CLICK]
    return [*certain, *([USER] if settings.user_id else []), PURCHASE]


def _id_of(sale: Sale, door: str) -> str:
    match door:
        case "ClientId":
            return client_id(sale)
        case "Yclid":
            return digits(sale.ids.get("yclid", ""))
        case "UserId":
            return cell(sale.ids.get("user_id", ""))[:_LONGEST_ID]
        case _:
            return cell(sale.ids.get("purchase_id", ""))[:_LONGEST_ID]


def _row(
    sale: Sale, doors: Sequence[str], settings: MetricaConversionsSettings, now: datetime
) -> tuple[str, ...]:
    at = min(sale.occurred_at, now - _PAST)
    money = (price(sale.value), sale.currency) if sale.value else ("", "")
    ids = (_id_of(sale, door) if door == sale.door else "" for door in doors)
    return (*ids, settings.goals[sale.goal], str(int(at.timestamp())), *money)


def _of_upload(uploading: Table, sent: int) -> Verdict:
    """Return what the counts and the state of an upload mean. Source: 2.2 and 2.3."""
    reference, taken = text(uploading.get("id")), count(uploading.get("line_quantity"))
    if taken == 0:
        return Verdict(outcome=Outcome.REJECT_RECORD, reason="Metrica refused every row", reference=reference)
    if taken is not None and taken < sent:
        reason = (
            f"Metrica took {taken} of {sent} rows and does not say which; none goes again, as those it has "
            "would count twice; its report Offline conversions names the others"
        )
        return Verdict(outcome=Outcome.PARTIAL, reason=reason, reference=reference)
    status = text(uploading.get("status"))
    if status == "LINKAGE_FAILURE":
        reason = f"Metrica found no visit for any of {sent} rows (LINKAGE_FAILURE)"
        return Verdict(outcome=Outcome.NOT_MATCHED, reason=reason, reference=reference)
    if status == "PROCESSED":
        return _of_counts(uploading, sent, reference)
    reason = f"Metrica works on it ({status})"
    return Verdict(outcome=Outcome.ACCEPTED_PENDING, reason=reason, reference=reference)


def _of_counts(uploading: Table, sent: int, reference: str) -> Verdict:
    names = {
        "linked_quantity": "linked to visits",
        "user_not_found_quantity": "without a visitor",
        "goal_not_found_quantity": "with a goal that the counter has not",
    }
    known = {name: count(uploading.get(name)) for name in names}
    told = [f"{number} {names[name]}" for name, number in known.items() if number is not None]
    reason = f"Metrica is done with {sent} rows (PROCESSED)" + "".join(f", {one}" for one in told)
    outcome = Outcome.NOT_MATCHED if known["linked_quantity"] == 0 else Outcome.CONFIRMED
    return Verdict(outcome=outcome, reason=reason, reference=reference)


def _found(batch: Batch, told: Table) -> Verdict:
    listed = told.get("uploadings")
    if not isinstance(listed, list):
        return _unknown("", "Metrica answered without the list of uploads")
    for one in rows(listed):
        if text(one.get("comment")) == batch.batch_id and text(one.get("id")):
            return _of_upload(one, len(batch.sales))
    if len(listed) >= _LISTED:
        return _unknown("", "Metrica lists more uploads than it shows: this one may be among the others")
    reason = "no answer came, and Metrica has no such upload: it goes again"
    return Verdict(outcome=Outcome.RETRY_LATER, reason=reason)


def _unknown(reference: str, reason: str) -> Verdict:
    """Return that nothing was learned: an upload that is there is pending, one that may be is unknown."""
    outcome = Outcome.ACCEPTED_PENDING if reference else Outcome.UNKNOWN_OUTCOME
    return Verdict(outcome=outcome, reason=reason, reference=reference)


def _for_all(batch: Batch, verdict: Verdict) -> list[Verdict]:
    return [verdict for _ in batch.sales]
