"""What the hook answers: status, body and headers for every case of the contract."""

from collections.abc import Sequence

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


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer, and the word under which it is counted."""

    status: int
    headers: Headers
    body: bytes
    outcome: str


def answer_settled(settled: Sequence[Settled], table: SessionTable, *, is_array: bool) -> Answer:
    """Return the answer for recorded conversions; an unmatched one is recorded too, but says 404 when alone."""
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
    if isinstance(error, MissingIdError) and error.index is None:
        return Answer(400, TEXT, str(error).encode(), "refused")
    if isinstance(error, UnknownKeyError):
        headers = [*JSON, (b"www-authenticate", b"Bearer")]
        return Answer(401, headers, sentence(str(error)), "unauthorized")
    if isinstance(error, TooLargeError):
        return Answer(413, [*JSON, (b"connection", b"close")], sentence(str(error)), "refused")
    if isinstance(error, CallerError):
        index = {} if error.index is None else {"index": error.index}
        return Answer(400, JSON, msgspec.json.encode({"error": str(error), **index}), "refused")
    if isinstance(error, TransientError):
        text = "The database is away; the conversion is kept here and will be recorded. Repeating it is harmless."
        return Answer(503, retry(error.retry_after), sentence(text), "spooled")
    if isinstance(error, OSError):
        text = "The database is away and the disk is full: nothing was kept. Send it again later."
        return Answer(503, retry(60), sentence(text), "lost")
    if isinstance(error, DatabaseRefusedError):
        text = f"The session's row refused the goal; the conversion is kept and an operator was told: {error}"
        return Answer(500, JSON, sentence(text), "failed")
    return Answer(500, JSON, sentence("An error of ours; it is in the log."), "failed")


def retry(seconds: int) -> Headers:
    """Return the headers of an answer that asks to come again."""
    return [*JSON, (b"retry-after", str(seconds).encode())]


def sentence(text: str) -> bytes:
    """Return `{"error": text}`, the shape of every error that is ours."""
    return msgspec.json.encode({"error": text})


