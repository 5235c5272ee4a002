"""A hit of the tracker: the bytes of POST /collect to the facts of one visit (docs/reference/collect.md)."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import unquote_plus, urlsplit

import msgspec

from closedloop.domain.ids import CLICK_IDS, MAX_CLICK_ID, MESSENGER_CODE
from closedloop.domain.image import browser_time
from closedloop.domain.visit import Facts, Visit, messenger_code
from closedloop.errors import CallerError

MAX_BYTES = 64 * 1024
MAX_VIEWS = 20
MAX_FACTS = 100  # of one kind in one view
MAX_TEXT = 1000
MAX_PARAMS = 2000
OLDEST = timedelta(days=7)
_OLDEST_MS = OLDEST / timedelta(milliseconds=1)

_ID = re.compile(r"[!-~]{8,128}")
_MISSING = re.compile(r"missing required field `(\w+)`")
_VIEW = re.compile(r"[0-9A-Za-z_-]{1,40}")
_CLIENT_ID = re.compile(r"[0-9]{5,20}")
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_CLICK_NAMES = frozenset(CLICK_IDS)
_MARK = re.compile(r"utm_[a-z_]{1,30}")
# Not ours to keep: the mark of organic traffic, and parameters with an e-mail address in them.
_UNWANTED = re.compile(r"(?<=[?&])(?:ysclid=[^&#]*|[^=&#]*=[^&#]*(?:@|%40)[^&#]*)&?", re.IGNORECASE)
_COOKIES = {"_ga": "ga_uid", "_ga_": "ga_session", "_fbp": "fbp", "_fbc": "fbc"}


class WireView(msgspec.Struct, kw_only=True):
    """One page view as the tracker tells it."""

    p: str
    u: str = ""
    r: str = ""
    t: str = ""
    a: float = 0
    n: Any = None
    s: list[Any] = []
    g: list[Any] = []
    f: list[Any] = []


class WireHit(msgspec.Struct, kw_only=True):
    """One hit as the tracker tells it."""

    s: str = "default"
    i: str
    v: str
    d: float
    k: dict[str, Any] = {}
    b: Any = None
    f: list[WireView | None] | None = None
    h: list[WireView] = []
    x: int = 0


_decoder = msgspec.json.Decoder(WireHit)


class Clock:
    """Turns moments of the browser's clock into ours: only differences are believed."""

    def __init__(self, sent: float, received_at: datetime) -> None:
        self.sent = sent
        self.received_at = received_at
        self.texts: dict[float, str] = {}  # a view tells its moment more than once

    def at(self, told: object) -> datetime:
        """Return the moment; the arrival for one that is no number, older than a week or in the future."""
        if not isinstance(told, int | float):
            return self.received_at
        age = self.sent - told
        if not 0 <= age <= _OLDEST_MS:
            return self.received_at
        return self.received_at - timedelta(milliseconds=age)

    def text(self, told: object) -> str:
        """Return the moment as the document has it."""
        if not isinstance(told, int | float):
            return browser_time(self.received_at)
        known = self.texts.get(told)
        if known is None:
            known = self.texts[told] = browser_time(self.at(told))
        return known


def read_hit(body: bytes, *, received_at: datetime, bot: str | None = None) -> Visit:
    """Return the facts of one hit. Raises CallerError that names the key by its place, such as `h[0].u`.

    `bot` is what the request itself says of its sender. Texts are cut, lists too; what is only odd in a
    list is left out, since a page may give its goals any name.
    """
    hit = decode(body)
    session_id, visitor = checked_id("i", hit.i), checked_id("v", hit.v)
    if len(hit.h) > MAX_VIEWS:
        raise CallerError("h", f"has more than {MAX_VIEWS} views")
    clock = Clock(hit.d, received_at)
    for index, view in enumerate(hit.h):
        if not _VIEW.fullmatch(view.p):
            raise CallerError(f"h[{index}].p", "is not an id of up to 40 letters and digits", shown=view.p)
    if hit.x:
        return Visit(
            site=hit.s,
            session_id=session_id,
            visitor=visitor,
            began_at=received_at,
            received_at=received_at,
            withdrawn=True,
        )
    touches = {view.p: touch for view in hit.h if (touch := read_touch(view, clock)) is not None}
    kept = [None if view is None else as_touch(view, clock, read_marks(view.u)) for view in hit.f or ()]
    return Visit(
        site=hit.s,
        session_id=session_id,
        visitor=visitor,
        began_at=clock.at(min(view.a for view in hit.h)) if hit.h else received_at,
        received_at=received_at,
        ids={**read_ids(hit.k, session_id), **first_click(touches.values())},
        first_touch=kept[0] if kept else None,
        last_touch=kept[1] if len(kept) > 1 else None,
        touches=touches,
        pages={view.p: read_page(view, clock) for view in hit.h},
        seconds=dict(pair for view in hit.h for pair in read_seconds(view)),
        forms=dict(pair for view in hit.h for pair in read_forms(view, clock)),
        goals=dict(pair for view in hit.h for pair in read_goals(view, clock)),
        bot="driven" if hit.b else bot,
    )


def decode(body: bytes) -> WireHit:
    """Return the decoded hit. A title that was cut in the middle of an emoji loses that half."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        if missing := _MISSING.search(str(error)):
            raise CallerError(missing[1], "is missing") from error
        problem, _, place = str(error).partition(" - at `$")
        raise CallerError(place.rstrip("`").lstrip(".") or "body", f"is wrong: {problem}") from error
    except RecursionError as error:
        raise CallerError("body", "is nested too deep") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        mended = _HALF_PAIR.sub(b"", body)
        if mended != body:
            return decode(mended)
        raise CallerError("body", f"is not JSON: {error}") from error


def checked_id(key: str, told: str) -> str:
    """Return an id of a session or a visitor. Raises CallerError."""
    if not _ID.fullmatch(told):
        raise CallerError(key, "is not an id of 8 to 128 characters", shown=told)
    return told


def short(text: object, limit: int = MAX_TEXT) -> str:
    """Return what is kept of a text; nothing of what is none."""
    if not isinstance(text, str):
        return ""
    kept = text if len(text) <= limit else text[:limit]
    return kept.replace("\0", "") if "\0" in kept else kept


def address(text: str) -> str:
    """Return a page's address as it is kept."""
    kept = short(text)
    if "?" not in kept or not any(sign in kept for sign in ("@", "%40", "clid=", "CLID=")):
        return kept
    return _UNWANTED.sub("", kept).rstrip("?&")


def read_ids(told: dict[str, Any], session_id: str) -> dict[str, str]:
    """Return the ids of the document that the visitor is known by."""
    found: dict[str, str] = {}
    for name, value in told.items():
        if name in _COOKIES and (text := short(value, MAX_CLICK_ID)):
            found[_COOKIES[name]] = text
    client_id = told.get("ym_uid")
    if isinstance(client_id, str) and _CLIENT_ID.fullmatch(client_id):
        found["ym_uid"] = client_id
    if MESSENGER_CODE in told and told[MESSENGER_CODE] == messenger_code(session_id):
        found[MESSENGER_CODE] = told[MESSENGER_CODE]
    return found


def first_click(touches: Iterable[Facts]) -> dict[str, str]:
    """Return the click ids of the first touch that has any."""
    for touch in touches:
        found = {name: value for name, value in touch["marks"].items() if name in _CLICK_NAMES}
        if found:
            return found
    return {}


def read_marks(url: str) -> dict[str, str]:
    """Return utm marks and click ids of an address, by their lower-case names; the first of equal ones."""
    found: dict[str, str] = {}
    if "?" not in url:
        return found
    query = url.partition("?")[2].partition("#")[0]
    for part in query.split("&"):
        name, _, value = part.partition("=")
        name = name.lower()
        if value and (name in _CLICK_NAMES or _MARK.fullmatch(name)):
            found.setdefault(name, short(unquote_plus(value), MAX_CLICK_ID))
    return found


def read_touch(view: WireView, clock: Clock) -> Facts | None:
    """Return the touch that a view is: it came from outside or carries marks; None for a step inside.

    A page that is only shown again, by a reload or the way back, is none either.
    """
    marks = read_marks(view.u)
    if view.n or (not marks and (not view.r or host_of(view.r) == host_of(view.u))):
        return None
    return as_touch(view, clock, marks)


def as_touch(view: WireView, clock: Clock, marks: dict[str, str]) -> Facts:
    """Return a view as a touch of the document."""
    outside = view.r and host_of(view.r) != host_of(view.u)
    return {
        "url": address(view.u),
        "referrer": address(view.r) if outside else "",
        "at": clock.text(view.a),
        "marks": marks,
    }


def host_of(url: str) -> str:
    """Return the host of an address without `www.`, empty when there is none."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def read_page(view: WireView, clock: Clock) -> Facts:
    """Return a view as a page of the document."""
    return {
        "url": address(view.u),
        "referrer": address(view.r),
        "title": short(view.t, 300),
        "at": clock.text(view.a),
    }


def read_seconds(view: WireView) -> Iterable[tuple[str, float]]:
    """Yield how long a view was seen each time, in seconds, a day at most."""
    for index, told in enumerate(view.s[:MAX_FACTS]):
        if isinstance(told, int | float) and told >= 0:
            yield f"{view.p}.{index}", round(min(told / 1000, 86_400), 1)


def read_forms(view: WireView, clock: Clock) -> Iterable[tuple[str, Facts]]:
    """Yield the forms that were sent from a view."""
    for index, told in enumerate(rows_of(view.f)):
        form, at, transaction = [*told, None, None, None][:3]
        sent = {"form": short(form, 100), "at": clock.text(at)}
        if short(transaction):
            sent["transaction"] = short(transaction, 100)
        yield f"{view.p}.{index}", sent


def read_goals(view: WireView, clock: Clock) -> Iterable[tuple[str, Facts]]:
    """Yield the goals that were reached on a view, in the shape of the contract."""
    for index, told in enumerate(rows_of(view.g)):
        goal, at, params = [*told, None, None, None][:3]
        if not short(goal):
            continue
        fits = isinstance(params, dict) and len(msgspec.json.encode(params)) <= MAX_PARAMS
        name = f"{view.p}.{index}"
        yield (
            name,
            {
                "goal": short(goal, 255),
                "timestamp": clock.text(at),
                "params": storable(params) if fits else {},
                "hit": name,
            },
        )


def rows_of(told: Sequence[Any]) -> Iterable[list[Any]]:
    """Yield the entries of a list that are lists, up to the limit; others keep their place as empty ones."""
    for one in told[:MAX_FACTS]:
        yield one if isinstance(one, list) else []


def storable(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON as PostgreSQL takes it: without NUL characters."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {storable(key): storable(inner) for key, inner in table.items()}
    if isinstance(value, list):
        return [storable(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return value
