"""What the answers of all platforms have in common: how long they want to wait, what they say to people."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply

MAX_WAIT_S = 24 * 60 * 60.0
MAX_EXCERPT = 200
_READ_BYTES = 4096
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_HTML = re.compile(rb"\s*(?:<!doctype html|<html|<head|<body)", re.IGNORECASE)


def wait_of(reply: HttpReply) -> float | None:
    """Return for how many seconds a platform wants to be left alone, at most a day; None if it does not say.

    A date in Retry-After counts from the Date of the same answer, so that no clock of ours is needed.
    """
    told = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", told, re.ASCII):
        return min(float(told), MAX_WAIT_S)
    until, since = read_date(told), read_date(reply.headers.get("date", ""))
    if until is None or since is None:
        return None
    return min(max((until - since).total_seconds(), 0.0), MAX_WAIT_S)


def is_page(reply: HttpReply) -> bool:
    """Return whether a page for people came: it is of a proxy on the way, or of a wrong address."""
    return "html" in reply.headers.get("content-type", "").lower() or _HTML.match(reply.body) is not None


def words_of(reply: HttpReply, hidden: Iterable[str] = ()) -> str:
    """Return an answer for the journal: `"HTTP 500: Internal error"`, one line, nothing of `hidden` in it."""
    if reply.status == 0:
        return "no answer came" if reply.sent else "no connection"
    text = reply.body[:_READ_BYTES].decode("utf-8", "replace")
    for secret in filter(None, hidden):
        text = text.replace(secret, "***")
    if is_page(reply):
        title = _TITLE.search(text)
        text = title[1] if title else _TAG.sub(" ", text)
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    excerpt = " ".join(printable.split())[:MAX_EXCERPT]
    return f"HTTP {reply.status}: {excerpt}" if excerpt else f"HTTP {reply.status}"


def verdict_of(reply: HttpReply, outcome: Outcome, *, hidden: Iterable[str] = ()) -> Verdict:
    """Return a verdict in the platform's own words, with the wait that it asks for."""
    return Verdict(outcome=outcome, reason=words_of(reply, hidden), wait_s=wait_of(reply))


def read_date(text: str) -> datetime | None:
    """Return the moment in a header such as Date, None when it holds none."""
    try:
        told = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)
