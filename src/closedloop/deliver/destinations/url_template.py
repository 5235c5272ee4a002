"""A call to any address with macros in it: postbacks of CPA networks, S2S goals, whatever has no own door.

Source: docs/protocols/destinations/vk-ads.md, 1 and 4.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from closedloop.deliver.addresses import address_mistake
from closedloop.deliver.answers import is_page, verdict_of, wait_of
from closedloop.deliver.base import Batch
from closedloop.deliver.events import EVENTS, event_of, goal_refused
from closedloop.deliver.fields import OnlyGoals, PrivateAddress, about
from closedloop.deliver.one_way import OneWay
from closedloop.deliver.template import fill, macros_in, sample, template_mistakes, values_of
from closedloop.domain.delivery import Outcome, Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest
from closedloop.domain.tables import nearest

AT_ONCE = 4
MAX_WINDOW_DAYS = 3650
LABELS: Mapping[str, str] = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "xml": "application/xml; charset=utf-8",
    "text": "text/plain; charset=utf-8",
}
# What an owner may say of an answer: all but what needs a second question.
_NEEDS_A_QUESTION = {Outcome.ACCEPTED_PENDING, Outcome.PARTIAL, Outcome.REAUTH}
MEANINGS = tuple(outcome.value for outcome in Outcome if outcome not in _NEEDS_A_QUESTION)
# 5xx and 408 are not here: the platform may have counted the call before it failed.
USUAL: Mapping[str, Outcome] = {
    "2xx": Outcome.ACCEPTED_UNVERIFIABLE,
    "3xx": Outcome.CONFIG_BLOCKED,
    "401": Outcome.AUTH_BLOCKED,
    "403": Outcome.AUTH_BLOCKED,
    "408": Outcome.UNKNOWN_OUTCOME,
    "410": Outcome.CONFIG_BLOCKED,
    "429": Outcome.THROTTLED,
    "4xx": Outcome.REJECT_RECORD,
}
_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx)", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = {"host", "content-length", "transfer-encoding", "connection"}
_KEY_IN_ADDRESS = re.compile(r"[?&;](?:\w*token|\w*secret|password|api[-_]?key)=[^&;{]", re.IGNORECASE)
_KEY_HEADER = re.compile(r"authorization|cookie|(?:.*[-_])?(?:token|secret|password|(?:api-?)?key)")


class UrlTemplateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is called, when, and what the answers mean."""

    url: Annotated[
        str,
        about(
            "Address",
            "The address with macros such as `{value}`; each is escaped.",
            example="https://cpa.example/postback?click={click_id:gclid}&order={order_id}&sum={value}",
        ),
    ]
    method: Annotated[
        Literal["GET", "POST", "PUT"],
        about("Method", "How the address is called; a body needs POST or PUT.", example="POST"),
    ] = "GET"
    headers: Annotated[
        dict[str, str],
        about(
            "Headers",
            "Headers by name, with macros; a key only as `{token}`.",
            example={"Authorization": "Bearer {token}"},
        ),
    ] = {}
    body: Annotated[
        str,
        about(
            "Body",
            "The body with macros; in JSON, only numbers may stand outside quotes.",
            example='{"order": "{order_id}", "sum": {value}}',
        ),
    ] = ""
    body_type: Annotated[
        Literal["json", "form", "xml", "text"],
        about("Kind of body", "Says how macros are escaped, and the Content-Type.", example="json"),
    ] = "json"
    token: Annotated[
        str,
        about("Token", "A secret that `{token}` stands for.", example="0f8a5c", secret=True),
    ] = ""
    only_goals: OnlyGoals = ()
    when: Annotated[
        Literal["first", "changes", "cancellations"],
        about(
            "When",
            "`first`: once for each conversion; `changes`: a new value, too; `cancellations`: all of it.",
            example="cancellations",
        ),
    ] = "first"
    events: Annotated[
        dict[str, str],
        about(
            "Words for events",
            "What `{event}` says in place of created, changed, cancelled and reinstated.",
            example={"created": "approved", "cancelled": "declined"},
        ),
    ] = {}
    window_days: Annotated[
        int,
        Meta(ge=0, le=MAX_WINDOW_DAYS),
        about("Window in days", "How long after the visit a sale is told; 0: for ever.", example=30),
    ] = 0
    success_text: Annotated[
        str,
        about("Sign of success", "A 2xx counts only if its body has this text in it.", example="OK"),
    ] = ""
    answers: Annotated[
        dict[str, str],
        about(
            "Meaning of answers",
            "What a status (`409`) or a class of them (`4xx`) means, in the words of the outcomes.",
            example={"409": "duplicate_ok"},
        ),
    ] = {}
    repeat_lost_answer: Annotated[
        bool,
        about(
            "Repeat after a lost answer",
            "The platform knows a repeated call for one, so a call whose answer was lost is made again.",
            example=True,
        ),
    ] = False
    private_address: PrivateAddress = False

    def templates(self) -> dict[str, str]:
        """Return all texts with macros, by key."""
        headers = {f"headers.{name}": value for name, value in self.headers.items()}
        return {"url": self.url, **headers, "body": self.body}

    def mistakes(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong with the texts, and with the words for events and answers; shows no secret."""
        if problem := address_mistake(self.url, private=self.private_address):
            yield "url", problem
        if _KEY_IN_ADDRESS.search(self.url):
            yield "url", "holds a secret in the file; write {token} and set token"
        for key, template in self.templates().items():
            for problem in template_mistakes(template, braces=key == "body"):
                yield key, problem
        yield from header_mistakes(self.headers)
        yield from body_mistakes(self)
        yield from token_mistakes(self)
        for word in self.events.keys() - set(EVENTS):
            yield f"events.{word}", f"is none of {', '.join(EVENTS)}{nearest(word, EVENTS)}"
        for status, meaning in self.answers.items():
            if not _STATUS.fullmatch(status):
                yield f"answers.{status}", "must be for a status such as 409, or for a class such as 4xx"
            if meaning not in MEANINGS:
                yield f"answers.{status}", f"must be one of {', '.join(MEANINGS)}{nearest(meaning, MEANINGS)}"


class UrlTemplate(OneWay):
    """A call to any address with macros in it: a postback of a CPA network, an S2S goal of VK Ads."""

    name = "url-template"
    settings: type[msgspec.Struct] = UrlTemplateSettings

    def terms(self, settings: UrlTemplateSettings) -> Terms:
        """Return the owner's window, counted from the visit, and whether a lost answer may be repeated."""
        window = timedelta(days=settings.window_days) if settings.window_days else None
        return Terms(
            window=window,
            counts_from="visit",
            at_once=AT_ONCE,
            repeat_lost_answer=settings.repeat_lost_answer,
        )

    def compile(self, sale: Sale, settings: UrlTemplateSettings) -> Sale | Skipped:
        """Return the sale, or why it is not told: its goal, what happened to it, or what it lacks."""
        event = event_of(sale)
        if refused := goal_refused(sale, settings.only_goals) or untold(event, settings.when):
            return refused
        values = values_of(sale, macros_in(*settings.templates().values()), words_of(sale, settings))
        missing = [name.rpartition(":")[2] for name, value in values.items() if value is None]
        return Skipped(reason=f"it has no {' and no '.join(missing)}") if missing else sale

    def encode(self, batch: Batch, settings: UrlTemplateSettings, now: datetime) -> HttpRequest:  # noqa: ARG002
        """Return the call for the one sale of the batch; nothing in it depends on `now`."""
        sale = batch.sales[0]
        values = values_of(sale, macros_in(*settings.templates().values()), words_of(sale, settings))
        headers = [(name, fill(value, "header", values)) for name, value in settings.headers.items()]
        has_label = any(name.lower() == "content-type" for name in settings.headers)
        if settings.body and not has_label:
            headers.append(("Content-Type", LABELS[settings.body_type]))
        return HttpRequest(
            method=settings.method,
            url=fill(settings.url, "url", values),
            headers=tuple(headers),
            body=fill(settings.body, settings.body_type, values).encode(),
        )

    def decode(self, batch: Batch, reply: HttpReply, settings: UrlTemplateSettings) -> Sequence[Verdict]:
        """Return what the owner says that this answer means, else what it usually means."""
        verdict = verdict_of(reply, outcome_of(reply, settings), hidden=[settings.token])
        return [verdict] * len(batch.sales)


def outcome_of(reply: HttpReply, settings: UrlTemplateSettings) -> Outcome:
    """Return what an answer means; whatever may have been counted and may not is unknown_outcome."""
    if reply.status == 0:
        return Outcome.UNKNOWN_OUTCOME if reply.sent else Outcome.RETRY_LATER
    exact, of_class = str(reply.status), f"{reply.status // 100}xx"
    if of_class == "2xx" and settings.success_text:
        if settings.success_text not in reply.body.decode("utf-8", "replace"):
            return Outcome.UNKNOWN_OUTCOME if is_page(reply) else Outcome.REJECT_RECORD
        return Outcome(settings.answers.get(exact, settings.answers.get(of_class, Outcome.CONFIRMED)))
    if told := settings.answers.get(exact, settings.answers.get(of_class)):
        return Outcome(told)
    if exact == "503" and wait_of(reply) is not None:
        return Outcome.THROTTLED
    return USUAL.get(exact, USUAL.get(of_class, Outcome.UNKNOWN_OUTCOME))


def untold(event: str | Skipped, when: str) -> Skipped | None:
    """Return why an event is none that this address is told of, None when it is."""
    if isinstance(event, Skipped):
        return event
    if when == "first" and event != "created":
        return Skipped(reason=f"it is {event}, and only its first state is told (when)")
    if when == "changes" and event == "cancelled":
        return Skipped(reason="it is cancelled, and cancellations are not told (when)")
    return None


def words_of(sale: Sale, settings: UrlTemplateSettings) -> dict[str, str]:
    """Return what `{event}` and `{token}` stand for."""
    event = event_of(sale)
    word = "changed" if isinstance(event, Skipped) else event
    return {"event": settings.events.get(word, word), "token": settings.token}


def header_mistakes(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with headers; one that is for keys and has no `{token}` is not shown."""
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OURS:
            yield f"headers.{name}", "is no header that may be set"
        elif not re.fullmatch(r"[ -~]*", value):
            yield f"headers.{name}", "must be Latin letters in one line"
        elif _KEY_HEADER.fullmatch(name.lower()) and "{token}" not in value:
            yield f"headers.{name}", "holds a secret in the file; write {token} and set token"


def body_mistakes(settings: UrlTemplateSettings) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the body: nobody reads one after GET, and it has to be what its kind says."""
    if settings.body and settings.method == "GET":
        yield "body", 'needs method = "POST" or "PUT"'
    if not settings.body or settings.body_type != "json":
        return
    try:
        msgspec.json.decode(sample(settings.body, "json"))
    except msgspec.DecodeError:
        yield "body", "is not JSON once it is filled in: only numbers may stand outside quotes"


def token_mistakes(settings: UrlTemplateSettings) -> Iterator[tuple[str, str]]:
    """Yield a token that is wanted and not there, or there and not wanted; never shows it."""
    is_wanted = "token" in macros_in(*settings.templates().values())
    if is_wanted and not settings.token:
        yield "token", "is missing: {token} stands for it"
    if settings.token and not is_wanted:
        yield "token", "is not used: write {token} where it belongs"
    if not re.fullmatch(r"[ -~]*", settings.token):
        yield "token", "must be Latin letters in one line"
