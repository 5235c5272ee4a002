"""What both doors to Yandex Metrica share: requests with a token, and what every refusal means.

Decides on `error_type`, never on the HTTP status: 403 alone means three things.
Source: docs/protocols/destinations/yandex-metrica.md, 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Protocol, TypeAlias
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from closedloop.deliver.addresses import address_mistake
from closedloop.deliver.answers import read_date, wait_of, words_of
from closedloop.deliver.fields import about
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest

HOST = "https://api-metrika.yandex.net"
_SHOWN = 200
_CALMED_DOWN = 420  # what the English page says in place of 429
_HOUR_S = 3600.0
_END = r"$(?!\n)"  # a line end behind a token would break the header that it stands in

Counter: TypeAlias = Annotated[
    str,
    Meta(pattern=f"^[0-9]{{1,12}}{_END}"),
    about(
        "Counter", "The number of the counter of Yandex Metrica that stands on the site.", example="12345678"
    ),
]
Token: TypeAlias = Annotated[
    str,
    Meta(pattern=f"^[!-~]+{_END}"),
    about(
        "Token",
        "OAuth token with metrika:read and metrika:write, of an account that may edit the counter.",
        example="y0_AgAAAA",
        secret=True,
    ),
]
BaseUrl: TypeAlias = Annotated[
    str,
    about("Address", "Where the API of Yandex Metrica is; another one only for a proxy.", example=HOST),
]
GoalId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
Table: TypeAlias = Mapping[str, Json]


class Access(Protocol):
    """The settings that every call needs."""

    @property
    def counter(self) -> str:
        """The counter's number."""
        ...

    @property
    def token(self) -> str:
        """The OAuth token."""
        ...

    @property
    def base_url(self) -> str:
        """Where the API is."""
        ...

    @property
    def private_address(self) -> bool:
        """Whether it may be in a private network."""
        ...


_OUTCOMES = {
    "backend_error": Outcome.RETRY_LATER,
    "conflict": Outcome.RETRY_LATER,
    "quota_requests_by_uid": Outcome.THROTTLED,
    "quota_requests_by_ip": Outcome.THROTTLED,
    "quota_parallel_requests": Outcome.THROTTLED,
    "quota_requests_by_counter_id": Outcome.THROTTLED,
    "quota_delegate_requests": Outcome.THROTTLED,
    "quota_grants_requests": Outcome.THROTTLED,
    "invalid_token": Outcome.REAUTH,
    "unauthorized": Outcome.REAUTH,
    "access_denied": Outcome.CONFIG_BLOCKED,
    "counter_in_connect": Outcome.CONFIG_BLOCKED,
    "not_found": Outcome.CONFIG_BLOCKED,
    "limit_exceeded": Outcome.CONFIG_BLOCKED,
    "not_acceptable": Outcome.CONFIG_BLOCKED,
    "invalid_parameter": Outcome.REJECT_RECORD,
    "missing_parameter": Outcome.REJECT_RECORD,
    "invalid_json": Outcome.REJECT_RECORD,
    "invalid_uploading": Outcome.REJECT_RECORD,
    "query_error": Outcome.REJECT_RECORD,
    "too_much_rows": Outcome.REJECT_RECORD,
    "filter_limits": Outcome.REJECT_RECORD,
}
# For errors of a kind that is not on the page.
_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: Outcome.REAUTH,
    HTTPStatus.FORBIDDEN: Outcome.CONFIG_BLOCKED,
    HTTPStatus.NOT_FOUND: Outcome.CONFIG_BLOCKED,
    HTTPStatus.REQUEST_TIMEOUT: Outcome.RETRY_LATER,
    HTTPStatus.CONFLICT: Outcome.RETRY_LATER,
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.THROTTLED,
    _CALMED_DOWN: Outcome.THROTTLED,
    HTTPStatus.SERVICE_UNAVAILABLE: Outcome.RETRY_LATER,
}
_WAITS = {"quota_requests_by_ip": 2.0, "quota_parallel_requests": 5.0}
_HINTS = {
    "invalid_token": "make a new token and put it into the settings",
    "unauthorized": "make a new token and put it into the settings",
    "access_denied": "let its account edit the counter, and give the token metrika:read and metrika:write",
    "counter_in_connect": "the counter belongs to an organisation, which has to let the account in",
    "not_found": "look at the counter's number",
}


def access_mistakes(access: Access) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the address, by key."""
    if problem := address_mistake(access.base_url, private=access.private_address):
        yield "base_url", problem
    elif "?" in access.base_url:
        yield "base_url", "must not have a part after ?"


def get(access: Access, path: str, query: Mapping[str, str | int]) -> HttpRequest:
    """Return a question; `path` is below the host, `{counter}` in it is the counter's number."""
    return HttpRequest(method="GET", url=_url(access, path, query), headers=(_authorization(access),))


def post(access: Access, path: str, query: Mapping[str, str | int], form: tuple[str, bytes]) -> HttpRequest:
    """Return an upload of a form, which is its content type and its body."""
    kind, body = form
    headers = (_authorization(access), ("Content-Type", kind))
    return HttpRequest(method="POST", url=_url(access, path, query), headers=headers, body=body)


def read_answer(reply: HttpReply, access: Access, *, is_upload: bool) -> Table | Verdict:
    """Return the JSON object of a success, or the verdict that anything else is.

    An upload that may have been stored, as nothing legible came back, is an unknown_outcome; a question
    is asked again later. The verdict's reason never holds the token.
    """
    lost = Outcome.UNKNOWN_OUTCOME if is_upload else Outcome.RETRY_LATER
    if reply.status == 0:
        if not reply.sent:
            return Verdict(outcome=Outcome.RETRY_LATER, reason="Metrica could not be reached")
        return Verdict(outcome=lost, reason="Metrica did not answer")
    told = read_object(reply.body)
    if told is None:
        return _of_no_json(reply, access, lost)
    is_refusal = reply.status not in range(200, 300) or "errors" in told
    return _refusal(reply, told, access, lost) if is_refusal else told


def read_object(body: bytes) -> Table | None:
    """Return the JSON object of a body, None when it is something else."""
    try:
        told: Json = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return told if isinstance(told, Mapping) else None


def table(node: Json) -> Table:
    """Return an object as it is, and an empty one for everything else."""
    return node if isinstance(node, Mapping) else {}


def rows(node: Json) -> list[Table]:
    """Return the objects of a list in their order, none when it is no list."""
    return [one for one in node if isinstance(one, Mapping)] if isinstance(node, list) else []


def text(node: Json) -> str:
    """Return a text or a whole number as text, everything else as an empty one."""
    return str(node) if isinstance(node, str | int) and not isinstance(node, bool) else ""


def count(node: Json) -> int | None:
    """Return a whole number that is not negative, None for everything else."""
    is_count = isinstance(node, int) and not isinstance(node, bool) and node >= 0
    return node if is_count and isinstance(node, int) else None


def _refusal(reply: HttpReply, told: Table, access: Access, lost: Outcome) -> Verdict:
    first = table(next(iter(rows(told.get("errors"))), None))
    kind = text(first.get("error_type"))
    status = reply.status
    if status in range(200, 300):
        status = count(told.get("code")) or status
    message = text(first.get("message")) or text(told.get("message"))
    outcome = lost if kind == "timeout" else _OUTCOMES.get(kind) or _of_status(status, lost)
    said = f"{message} ({kind or status})".strip()
    hint = f": {_HINTS[kind]}" if kind in _HINTS else ""
    reason = " ".join(f"Metrica: {said}".replace(access.token, "…").split())[:_SHOWN] + hint
    wait_s = _wait_s(kind, reply) if outcome is Outcome.THROTTLED else None
    return Verdict(outcome=outcome, reason=reason, wait_s=wait_s)


def _of_status(status: int, lost: Outcome) -> Outcome:
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    return Outcome.REJECT_RECORD if status in range(400, 500) else lost


def _of_no_json(reply: HttpReply, access: Access, lost: Outcome) -> Verdict:
    """Return what the page of a proxy means, or a body that broke off: only the status is left of it."""
    reason = f"not Metrica's answer, {words_of(reply, [access.token])}"
    if reply.status in (HTTPStatus.TOO_MANY_REQUESTS, _CALMED_DOWN):
        return Verdict(outcome=Outcome.THROTTLED, reason=reason, wait_s=_wait_s("", reply))
    is_refused = reply.status in range(300, 500) or reply.status == HTTPStatus.SERVICE_UNAVAILABLE
    return Verdict(outcome=Outcome.RETRY_LATER if is_refused else lost, reason=reason)


def _wait_s(kind: str, reply: HttpReply) -> float:
    usual = _until_midnight_s(reply.headers) if kind == "quota_requests_by_uid" else _WAITS.get(kind, 60.0)
    return max(usual, wait_of(reply) or 0.0)


def _until_midnight_s(headers: Mapping[str, str]) -> float:
    """Return how long it is until 00:00 GMT by the answer's own date, an hour when it has none."""
    told = read_date(headers.get("date", ""))
    if told is None:
        return _HOUR_S
    at = told.astimezone(UTC)
    midnight = datetime.combine(at.date() + timedelta(days=1), datetime.min.time(), UTC)
    return (midnight - at).total_seconds()


def _url(access: Access, path: str, query: Mapping[str, str | int]) -> str:
    asked = f"?{urlencode(query)}" if query else ""
    return f"{access.base_url.rstrip('/')}/{path.format(counter=access.counter)}{asked}"


def _authorization(access: Access) -> tuple[str, str]:
    return "Authorization", f"OAuth {access.token}"
