"""Which answers of amoCRM are no success, and what has to be done about each; sends nothing."""

from http import HTTPStatus

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.base import Refusal
from closedloop.parse.rest.answers import inside, read_object, text

_SHOWN = 160
_OK = range(200, 300)
_SENTENCES = {
    HTTPStatus.UNAUTHORIZED: (
        "the access token has expired or was revoked; make a new long-lived token in the settings "
        "of the integration and put it into access_token"
    ),
    HTTPStatus.PAYMENT_REQUIRED: "the account is not paid for; pay for it in amoCRM",
    HTTPStatus.FORBIDDEN: (
        "the API is closed to us: whoever made the token lacks rights, a list of addresses keeps this server "
        "out, or the API of the account is blocked; look at the rights, then ask the support of amoCRM"
    ),
    HTTPStatus.NOT_FOUND: "there is nothing at this address; check base_url, https://SUBDOMAIN.amocrm.ru",
}


def refusal_of(request: Request, reply: Reply) -> Refusal | None:
    """Return why an answer of amoCRM is no success, None when it is one.

    204 is one: nothing was found. So is 404 for one lead, which is not there. An answer that is not what was
    asked for is none, so that nothing takes it for an empty list. Source: docs/protocols/amocrm.md, 4.
    """
    status = reply.status
    if status == HTTPStatus.NO_CONTENT or (status == HTTPStatus.NOT_FOUND and is_one_lead(request)):
        return None
    if status in _OK:
        told = read_object(reply.body) or {}
        is_asked_for = "_embedded" in told or "id" in told
        return None if is_asked_for else _again("amoCRM answered something else than asked for")
    if status in range(300, 400):
        return _owner("the account has moved to another address; put its new address into base_url")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Refusal(kind="slower", sentence="amoCRM was asked too often", wait_s=1)
    return _of_failure(request, reply)


def is_one_lead(request: Request) -> bool:
    """Tell a question for one lead from all others."""
    return request.method == "GET" and request.path.removeprefix("api/v4/leads/").isdecimal()


def _of_failure(request: Request, reply: Reply) -> Refusal:
    status, shown = reply.status, _shown(reply)
    is_absent = status == HTTPStatus.NOT_FOUND or shown.lower().endswith("not found")
    if request.method == "PATCH" and is_absent:
        return Refusal(kind="gone", sentence="amoCRM says that this lead is not there")
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return _again("amoCRM took too long for one page; later ones are smaller")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return _again(f"amoCRM answered {status}{shown}")
    for known, sentence in _SENTENCES.items():
        if status == known:
            kind = "token" if known is HTTPStatus.UNAUTHORIZED else "owner"
            return Refusal(kind=kind, sentence=f"amoCRM: {sentence}")
    return _owner(f"it answered {status}{shown}; check the settings of this site's amocrm")


def _shown(reply: Reply) -> str:
    """Return what amoCRM says of an error, its parts in one line."""
    told = read_object(reply.body)
    parts = [text(inside(told, "title")), text(inside(told, "detail"))]
    errors = inside(told, "validation-errors")
    if isinstance(errors, list):
        for error in errors:
            found = inside(error, "errors")
            parts += [text(inside(one, "detail")) for one in found] if isinstance(found, list) else []
    line = " ".join(" ".join(parts).split())[:_SHOWN]
    return f": {line}" if line else ""


def _owner(sentence: str) -> Refusal:
    return Refusal(kind="owner", sentence=f"amoCRM: {sentence}")


def _again(sentence: str) -> Refusal:
    return Refusal(kind="again", sentence=sentence, wait_s=1)
