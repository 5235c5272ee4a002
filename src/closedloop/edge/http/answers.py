"""What the hook answers: status, body and headers for every case of the contract."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from closedloop.errors import (
    CallerError,
    DatabaseRefusedError,
    MissingIdError,
    TooLargeError,
    TransientError,
    UnknownKeyError,
)
from closedloop.store.sessions import SessionTable
from closedloop.store.settle import Settled

Headers = list[tuple[bytes, bytes]]

# As the Edge Function's template answers, with every header that a sender of ours may need.
CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-allow-headers",
        b"authorization, x-client-info, apikey, content-type, x-webhook-key, idempotency-key",
    ),
    (b"access-control-allow-methods", b"GET, POST, HEAD, OPTIONS"),
]
JSON: Headers = [(b"content-type", b"application/json"), *CORS]
TEXT: Headers = [(b"content-type", b"text/plain;charset=UTF-8"), *CORS]

NOT_FOUND = b"Session not found"
NO_CONTENT = 204


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer, and the word under which it is counted."""

    status: int
    headers: Headers
    body: bytes
    outcome: str


def answer_settled(settled: Sequence[Settled], table: SessionTable, *, is_array: bool) -> Answer:
    """Return the answer for recorded conversions; an unmatched one is recorded too.

    Alone it says 404, as the contract fixes; in an array it says so in its place.
    """
    if is_array:
        results = [result_of(one, table) for one in settled]
        body = msgspec.json.encode({"success": True, "results": results})
        return Answer(200, JSON, body, "accepted")
    one = settled[0]
    if one.recorded.session_row is None:
        return Answer(404, TEXT, NOT_FOUND, "unmatched")
    outcome = "repeated" if one.kind == "repeated" else "accepted"
    return Answer(200, JSON, msgspec.json.encode(result_of(one, table)), outcome)


def result_of(settled: Settled, table: SessionTable) -> dict[str, object]:
    """Return what is said of one conversion."""
    row = settled.recorded.session_row
    if row is None:
        return {"success": False, "error": NOT_FOUND.decode()}
    return {"success": True, "updated_session": table.row_id(row)}


def answer_error(error: Exception) -> Answer:
    """Return the answer for an error; one that is not ours becomes a sentence that gives nothing away."""
    for kind, answer in ANSWERS:
        if isinstance(error, kind):
            return answer(error)
    return Answer(500, JSON, sentence("An error of ours; it is in the log."), "failed")


def answer_missing_id(error: Exception) -> Answer:
    """Return the text that the contract fixes; in an array the index has to be told too, so JSON."""
    if getattr(error, "index", None) is not None:
        return answer_caller(error)
    return Answer(400, TEXT, str(error).encode(), "refused")


def answer_unknown_key(error: Exception) -> Answer:
    """Return 401 with what to send instead."""
    return Answer(401, [*JSON, (b"www-authenticate", b"Bearer")], sentence(str(error)), "unauthorized")


def answer_too_large(error: Exception) -> Answer:
    """Return 413; the rest of the body is not waited for."""
    return Answer(413, [*JSON, (b"connection", b"close")], sentence(str(error)), "refused")


def answer_caller(error: Exception) -> Answer:
    """Return 400 with the sentence that names the key, and the place in an array."""
    index = getattr(error, "index", None)
    place = {} if index is None else {"index": index}
    return Answer(400, JSON, msgspec.json.encode({"error": str(error), **place}), "refused")


def answer_transient(error: Exception) -> Answer:
    """Return 503 for a webhook that is in the spool."""
    text = "The database is away; the conversion is kept here and will be recorded. Repeating it is harmless."
    return Answer(503, retry(getattr(error, "retry_after", 5)), sentence(text), "spooled")


def answer_no_disk(_error: Exception) -> Answer:
    """Return 503 for a webhook that could not even be spooled."""
    text = "The database is away and the disk takes nothing: this was not kept. Send it again later."
    return Answer(503, retry(60), sentence(text), "lost")


def answer_refused_row(error: Exception) -> Answer:
    """Return 500 for a session whose row refuses its goal; the conversion itself is in the ledger."""
    text = f"The session's row refused the goal; the conversion is kept and the log says more: {error}"
    return Answer(500, JSON, sentence(text), "failed")


# The first class that fits answers.
ANSWERS: Sequence[tuple[type[Exception], Callable[[Exception], Answer]]] = (
    (MissingIdError, answer_missing_id),
    (UnknownKeyError, answer_unknown_key),
    (TooLargeError, answer_too_large),
    (CallerError, answer_caller),
    (TransientError, answer_transient),
    (DatabaseRefusedError, answer_refused_row),
    (OSError, answer_no_disk),
)


def retry(seconds: int, headers: Headers = JSON) -> Headers:
    """Return the headers of an answer that asks to come again."""
    return [*headers, (b"retry-after", str(seconds).encode())]


def sentence(text: str) -> bytes:
    """Return `{"error": text}`, the shape of every error that is ours."""
    return msgspec.json.encode({"error": text})


async def send_answer(send: Any, answer: Answer, method: str) -> None:  # noqa: ANN401 - ASGI
    """Send an answer whole; to HEAD without its body, and 204 without a length, as HTTP has it."""
    length = [(b"content-length", str(len(answer.body)).encode())] if answer.status != NO_CONTENT else []
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, *length]}
    )
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
