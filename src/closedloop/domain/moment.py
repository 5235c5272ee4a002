"""Dates as people and programs write them; what has no zone is read in the site's."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from closedloop.errors import CallerError

TOLERANCE = timedelta(minutes=1)  # clocks of senders run ahead
_EARLIEST_YEAR = 2000
_LATEST_YEAR = 9000  # days are added to it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 10**11  # as seconds this would be the year 5138, as milliseconds it is 1973
_UNREADABLE_FROM = 10**14
_MAX_TEXT = 100
_NOT_A_DATE = "is not a date that can be read"
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UNIX = re.compile(r"-?[0-9]{1,17}(?:\.[0-9]{1,9})?(?:[eE]\+?[0-9]{1,2})?")
_TIME = (
    r"(?:(?:t|,?\ +)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?)?\ ?(?P<half>[ap]m)?\ ?(?P<utc>z|utc|gmt)?"
    # A blank in place of the sign is a plus that was not escaped in a query.
    r"(?:(?P<sign>[-+]|\ (?=[0-9]{2}:))(?P<offset>[0-9]{2}(?::?[0-9]{2})?))?(?:\ \([^()]*\))?)?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6},?\ )?"
_STYLES = [
    re.compile(date + _TIME, re.IGNORECASE | re.ASCII)
    for date in (
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})",
        r"(?P<day>[0-9]{1,2})\.(?P<month>[0-9]{1,2})\.(?P<year>[0-9]{4})",
        _WEEKDAY + r"(?P<month>[a-z]{3,9})\.?\ (?P<day>[0-9]{1,2}),?\ (?P<year>[0-9]{4})",
        _WEEKDAY + r"(?P<day>[0-9]{1,2})\ (?P<month>[a-z]{3,9})\.?,?\ (?P<year>[0-9]{4})",
    )
]


def read_moment(text: str, *, zone: ZoneInfo, now: datetime, key: str = "occurred_at") -> datetime:
    """Return the moment in `text` with a fixed offset: the one given, else that of `zone` on that day.

    Read are ISO 8601 (`"2025-03-08T12:20:00.000Z"`, `"2025-03-08 15:20"`, `"2025-03-08"`), Unix seconds
    and milliseconds (in UTC), `"08.03.2025 15:20:00"`, `"Mar 8, 2025"` and `"8 Mar 2025"`. A local time
    that a change of clocks skips or repeats is read with the offset before the change.
    Raises CallerError for anything else, before the year 2000, or later than `now` by over a minute.
    Source: docs/protocols/integrators.md, 2.
    """
    moment = _unix(text, key) if _UNIX.fullmatch(text) else _written(text, zone, key)
    if moment.year < _EARLIEST_YEAR:
        raise CallerError(key, f"is before the year {_EARLIEST_YEAR}", shown=text)
    if moment > now + TOLERANCE:
        raise CallerError(key, "is in the future", shown=text)
    return moment


def read_day(text: str, *, key: str) -> date:
    """Return the day in `"2026-11-01"`. Raises CallerError for anything else, and before the year 2000."""
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or not _EARLIEST_YEAR <= day.year <= _LATEST_YEAR:
        raise CallerError(key, "is no day such as 2026-11-01", shown=text)
    return day


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the moment at which a day begins in a time zone."""
    return datetime.combine(day, time(), zone)


def _unix(text: str, key: str) -> datetime:
    seconds = Decimal(text.upper())
    if seconds < 0:
        raise CallerError(key, f"is before the year {_EARLIEST_YEAR}", shown=text)
    if seconds >= _UNREADABLE_FROM:
        raise CallerError(key, _NOT_A_DATE, shown=text)
    if seconds >= _MILLISECONDS_FROM:
        seconds /= 1000
    return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))


def _written(text: str, zone: ZoneInfo, key: str) -> datetime:
    matches = (style.fullmatch(text) for style in _STYLES) if len(text) <= _MAX_TEXT else ()
    match = next((match for match in matches if match is not None), None)
    try:
        if match is not None:
            return _placed(match, zone)
    except (ValueError, OverflowError):
        pass
    raise CallerError(key, _NOT_A_DATE, shown=text)


def _placed(match: re.Match[str], zone: ZoneInfo) -> datetime:
    naive = datetime(  # noqa: DTZ001 - the zone follows in the next lines
        int(match["year"]),
        _month(match["month"]),
        int(match["day"]),
        _hour(match["hour"], match["half"]),
        int(match["minute"] or 0),
        int(match["second"] or 0),
        int((match["fraction"] or "0").ljust(6, "0")[:6]),
    )
    if naive.year < _EARLIEST_YEAR - 1:  # far from the ends of the calendar, where offsets overflow
        return naive.replace(tzinfo=UTC)
    if match["offset"] is not None:
        return naive.replace(tzinfo=_fixed(match["sign"], match["offset"]))
    if match["utc"] is not None:
        return naive.replace(tzinfo=UTC)
    offset = naive.replace(tzinfo=zone).utcoffset() or timedelta()
    return naive.replace(tzinfo=timezone(offset))


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    return next((number for number, name in enumerate(_MONTHS, start=1) if name.startswith(text.lower())), 0)


def _hour(text: str | None, half: str | None) -> int:
    hour = int(text or 0)
    if half is None:
        return hour
    if not 1 <= hour <= 12:  # noqa: PLR2004 - the face of a clock
        raise ValueError(text)
    return hour % 12 + (12 if half.lower() == "pm" else 0)


def _fixed(sign: str, offset: str) -> timezone:
    hours, minutes = int(offset[:2]), int(offset[2:].removeprefix(":") or 0)
    if minutes > 59:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(offset)
    east = timedelta(hours=hours, minutes=minutes)
    return timezone(-east if sign == "-" else east)
