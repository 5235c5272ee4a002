"""Which answers of Bitrix24 are no success, and what has to be done about each; sends nothing."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import cast

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.base import Refusal
from closedloop.parse.rest.answers import Json, Table, inside, number, read_object, table
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, Failure, read_batch, read_failure

# The time of work is summed up over ten minutes.
_LONGEST_WAIT_S = 600
_SHOWN = 120

_NEW_WEBHOOK = (
    "make a new incoming webhook with the permission CRM in Bitrix24 (Developer resources) "
    "and put its address into rest_url"
)
_SENTENCES = {
    "REDIRECTED": "the portal has moved to another address; put its new address into rest_url",
    "NO_AUTH_FOUND": f"the code in rest_url was deleted, edited or has expired; {_NEW_WEBHOOK}",
    "INVALID_CREDENTIALS": f"the code in rest_url is not accepted; {_NEW_WEBHOOK}",
    "INSUFFICIENT_SCOPE": "the webhook lacks the permission CRM; tick it in the webhook's settings",
    "USER_ACCESS_ERROR": f"whoever made the webhook may not use the API; as an administrator {_NEW_WEBHOOK}",
    "ALLOWED_ONLY_INTRANET_USER": f"whoever made the webhook is no employee; as an employee {_NEW_WEBHOOK}",
    "ACCESS_DENIED": (
        "whoever made the webhook may not see or change this object; give them the rights "
        f"in the settings of the CRM, or as an administrator {_NEW_WEBHOOK}"
    ),
    "PLAN": "the portal's plan has no REST API, or its subscription has ended; renew it in Bitrix24",
    "INVALID_REQUEST": "the portal is called without https; write rest_url with https://",
    "ERROR_METHOD_NOT_FOUND": (
        "the portal does not know what is asked of it; check that rest_url ends with the webhook's code "
        "and that the webhook has the permission CRM"
    ),
    "PORTAL_DELETED": "the portal is closed or was deleted; put the address of another into rest_url",
    "OVERLOAD_LIMIT": "the API of this portal was blocked by hand; ask the support of Bitrix24 to unblock it",
    "EXPIRED_TOKEN": f"the access token has expired; {_NEW_WEBHOOK}, whose code needs no renewal",
}
_AGAIN = frozenset({"INTERNAL_SERVER_ERROR", "ERROR_UNEXPECTED_ANSWER"})
_LIMITS = {
    "QUERY_LIMIT_EXCEEDED": "Bitrix24 was asked too often",
    "OPERATION_TIME_LIMIT": "Bitrix24 has worked too long for this webhook in the last ten minutes",
}
_WORDS_OF_PLANS = ("plan", "subscription", "commercial", "тариф", "подписк")
_WORDS_OF_RIGHTS = ("access denied", "доступ запрещен", "доступ запрещён")
_BY_STATUS = {HTTPStatus.UNAUTHORIZED: "NO_AUTH_FOUND", HTTPStatus.NOT_FOUND: "ERROR_METHOD_NOT_FOUND"}


def refusal_of(request: Request, reply: Reply) -> Refusal | None:
    """Return why an answer of Bitrix24 is no success, None when it is one.

    An error in a body counts under any status. In a batch it counts for the whole when it will pass (limits,
    failures of the portal) and when it is of a command that must not fail. An answer that lacks a command
    is no success, so that nothing takes silence for an empty list.
    Source: docs/protocols/bitrix24.md, 5.4 and 5.5.
    """
    if reply.status in range(300, 400):
        return _owner("REDIRECTED")
    told = read_object(reply.body)
    if told is not None and "error" in told:
        return _of_failure(read_failure(told), reply.status, _waits(told))
    if reply.status not in range(200, 300):
        return _of_status(reply.status, "")
    if told is None or "result" not in told:
        return _unreadable()
    return _of_batch(request, reply, _waits(told)) if request.path == "batch" else None


def _of_batch(request: Request, reply: Reply, waits: Sequence[float]) -> Refusal | None:
    answers = read_batch(reply)
    if any(name not in answers.results and name not in answers.failures for name in _commands(request)):
        return _unreadable()
    for name, failure in answers.failures.items():
        refusal = _of_failure(failure, HTTPStatus.BAD_REQUEST, waits)
        if refusal.kind in ("again", "slower", "token") or not name.startswith(OPTIONAL):
            return refusal
    return None


def _of_failure(failure: Failure, status: int, waits: Sequence[float]) -> Refusal:
    code = _code(failure)
    if failure.is_absence:
        return Refusal(kind="gone", sentence="Bitrix24 says that this object is not there")
    if code in _LIMITS:
        wait_s = max(waits, default=_LONGEST_WAIT_S) if code == "OPERATION_TIME_LIMIT" else 1
        return Refusal(kind="slower", sentence=_LIMITS[code], wait_s=wait_s)
    if code in _AGAIN:
        return Refusal(kind="again", sentence=f"Bitrix24 failed: {_shown(failure)}", wait_s=1)
    return _owner(code) if code in _SENTENCES else _of_status(status, _shown(failure))


def _code(failure: Failure) -> str:
    """Return the code by which an error is known: some have none, one code has two meanings."""
    code, description = failure.code.upper(), failure.description.lower()
    if not code.strip("0") and any(word in description for word in _WORDS_OF_RIGHTS):
        return "ACCESS_DENIED"
    if code == "ACCESS_DENIED" and any(word in description for word in _WORDS_OF_PLANS):
        return "PLAN"
    return code


def _of_status(status: int, shown: str) -> Refusal:
    what = f"Bitrix24 answered {status}" + (f": {shown}" if shown else "")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Refusal(kind="slower", sentence=what, wait_s=1)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Refusal(kind="again", sentence=what, wait_s=1)
    for known, code in _BY_STATUS.items():
        if status == known:
            return _owner(code)
    return Refusal(
        kind="owner", sentence=f"{what}; check rest_url and the rights of whoever made the webhook"
    )


def _owner(code: str) -> Refusal:
    kind = "token" if code == "EXPIRED_TOKEN" else "owner"
    return Refusal(kind=kind, sentence=f"Bitrix24: {_SENTENCES[code]}")


def _unreadable() -> Refusal:
    return Refusal(kind="again", sentence="Bitrix24 answered something else than asked for", wait_s=1)


def _commands(request: Request) -> Iterable[str]:
    told = (request.body or {}).get("cmd")
    return cast("dict[str, str]", told) if isinstance(told, dict) else ()


def _waits(told: Table) -> list[float]:
    """Return the seconds until times of work are forgotten, by the portal's own clock."""
    every = [told.get("time"), *table(inside(told, "result", "result_time")).values()]
    return [wait for times in every if (wait := _wait(times)) is not None]


def _wait(times: Json) -> float | None:
    reset, finish = number(inside(times, "operating_reset_at")), number(inside(times, "finish"))
    if reset is None or finish is None:
        return None
    return float(min(max(reset - finish, Decimal(1)), Decimal(_LONGEST_WAIT_S)))


def _shown(failure: Failure) -> str:
    return " ".join(f"{failure.code} {failure.description}".split())[:_SHOWN]
