"""Platforms credit a conversion by its moment; a wrong zone moves it to another day's campaign."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from closedloop.domain.moment import read_day, read_moment, start_of
from closedloop.errors import CallerError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")
moments = st.datetimes(min_value=datetime(2000, 1, 2), max_value=datetime(2025, 12, 30))  # noqa: DTZ001 - zones follow


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-08T12:20:00.000Z", "2025-03-08T12:20:00+00:00"),
        ("2025-03-08T12:20:00.123456789Z", "2025-03-08T12:20:00.123456+00:00"),
        ("2025-03-08T15:20:00+03:00", "2025-03-08T15:20:00+03:00"),
        ("2025-03-08T15:20:00 03:00", "2025-03-08T15:20:00+03:00"),
        ("2025-03-08T15:20+0300", "2025-03-08T15:20:00+03:00"),
        ("2025-03-08T05:20-07", "2025-03-08T05:20:00-07:00"),
        ("2025-03-08 15:20", "2025-03-08T15:20:00+03:00"),
        ("2025-03-08 15:20:00 UTC", "2025-03-08T15:20:00+00:00"),
        ("2025-03-08", "2025-03-08T00:00:00+03:00"),
        ("08.03.2025 15:20:00", "2025-03-08T15:20:00+03:00"),
        ("08.03.2025, 15:20", "2025-03-08T15:20:00+03:00"),
        ("8.3.2025", "2025-03-08T00:00:00+03:00"),
        ("Mar 8, 2025", "2025-03-08T00:00:00+03:00"),
        ("March 8, 2025 3:20 PM", "2025-03-08T15:20:00+03:00"),
        ("Mar 8, 2025 12:20 am", "2025-03-08T00:20:00+03:00"),
        ("8 Mar 2025", "2025-03-08T00:00:00+03:00"),
        ("Sat, 08 Mar 2025 12:20:00 GMT", "2025-03-08T12:20:00+00:00"),
        ("Sat Mar 08 2025 15:20:00 GMT+0300 (Moscow Standard Time)", "2025-03-08T15:20:00+03:00"),
        ("1741436400", "2025-03-08T12:20:00+00:00"),
        ("1741436400000", "2025-03-08T12:20:00+00:00"),
        ("1741436400.25", "2025-03-08T12:20:00.250000+00:00"),
        ("1.7414364e9", "2025-03-08T12:20:00+00:00"),
    ],
)
def test_moment_is_read_as_people_write_it(text: str, expected: str) -> None:
    """Each style was seen in an integrator; those without a zone are in the zone of the shop."""
    moment = read_moment(text, zone=MOSCOW, now=NOW)

    assert moment.isoformat() == expected


@pytest.mark.parametrize("text", ["08.03.2013 15:20", "2013-03-08 15:20"])
def test_local_time_has_the_offset_of_its_day(text: str) -> None:
    """Russia changed its zones in 2011 and 2014; old deals are imported too."""
    moment = read_moment(text, zone=MOSCOW, now=NOW)

    assert moment.utcoffset() == timedelta(hours=4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2025-03-30 02:30", "2025-03-30T02:30:00+01:00"), ("2025-10-26 02:30", "2025-10-26T02:30:00+02:00")],
)
def test_skipped_and_repeated_hours_are_read(text: str, expected: str) -> None:
    """Once a year a deal is closed in an hour that does not exist, or exists twice."""
    moment = read_moment(text, zone=ZoneInfo("Europe/Berlin"), now=NOW)

    assert moment.isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        "yesterday", "2025-13-01", "2025-02-30", "32.01.2025", "2025-03-08T25:00", "2025-03-08T15:20+03:99",
        "2025-03-08T15:20+99:00", "Foo 8, 2025", "13:00 PM", "Mar 8, 2025 13:00 PM", "08/03/2025",
        "٢٠٢٥-٠٣-٠٨",
        "", "17414364000000000", "1e99", "2025-03-08T15:20:60Z", "0000-01-01", "2025-03-08 15", "x" * 10_000,
    ],
)  # fmt: skip
def test_text_that_is_no_date_is_refused(text: str) -> None:
    """The sender sees the text that was not understood, under their own key."""
    with pytest.raises(CallerError) as caught:
        read_moment(text, zone=MOSCOW, now=NOW)

    assert caught.value.key == "occurred_at"
    assert caught.value.shown == text[:80]


@pytest.mark.parametrize(
    "text", ["1999-12-31T23:59:59Z", "0001-01-01T00:00+14:00", "20250308", "-5", "0", "2025"]
)
def test_moment_before_the_web_is_refused(text: str) -> None:
    """It is a date in an unknown style, or an empty field of a database."""
    with pytest.raises(CallerError, match="before the year 2000"):
        read_moment(text, zone=MOSCOW, now=NOW)


def test_moment_may_be_ahead_by_a_minute() -> None:
    """Clocks of CRMs run ahead of ours, and their deals still count."""
    moment = read_moment("2026-01-01T00:01:00Z", zone=MOSCOW, now=NOW)

    assert moment == NOW + timedelta(minutes=1)


@pytest.mark.parametrize("text", ["2026-01-01T00:01:01Z", "9999-12-31T23:59:59-14:00", "2026-01-01 03:02"])
def test_moment_in_the_future_is_refused(text: str) -> None:
    """Platforms refuse such rows, hours later and for the whole file."""
    with pytest.raises(CallerError, match="occurred_at is in the future"):
        read_moment(text, zone=MOSCOW, now=NOW)


@given(moments, st.integers(min_value=-14 * 60, max_value=14 * 60))
def test_iso_text_comes_back_with_its_offset(naive: datetime, minutes: int) -> None:
    """The instant and the wall clock of the sender are both kept."""
    told = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))

    moment = read_moment(told.isoformat(), zone=MOSCOW, now=NOW)

    assert moment == told
    assert moment.utcoffset() == told.utcoffset()


@given(
    moments,
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%b %d, %Y %I:%M:%S %p", "%d %B %Y %H:%M:%S"]),
)
@example(datetime(2008, 3, 30, 2), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ001 - skipped in Moscow
def test_local_text_comes_back_in_the_zone(naive: datetime, style: str) -> None:
    """Whatever style a CRM prints its local time in, it is the same instant."""
    told = naive.replace(microsecond=0)

    moment = read_moment(told.strftime(style), zone=MOSCOW, now=NOW)

    assert moment.replace(tzinfo=None) == told
    # Python calls an hour that summer time skips equal to nothing in another zone (PEP 495).
    assert moment.timestamp() == told.replace(tzinfo=MOSCOW).timestamp()


@given(moments)
def test_unix_seconds_and_milliseconds_are_one_instant(naive: datetime) -> None:
    """JavaScript counts in milliseconds, everything else in seconds."""
    told = naive.replace(tzinfo=UTC, microsecond=0)
    seconds = str(int(told.timestamp()))

    moments_read = {read_moment(text, zone=MOSCOW, now=NOW) for text in (seconds, f"{seconds}000")}

    assert moments_read == {told}


@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.+Z -]{0,20}", fullmatch=True))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    """The server never answers 500 for what a caller sent."""
    try:
        moment = read_moment(text, zone=MOSCOW, now=NOW)
    except CallerError:
        return

    assert moment.tzinfo is not None


def test_day_begins_in_the_time_zone_of_the_site() -> None:
    """Reports of a shop in Vladivostok begin seven hours before those of Moscow."""
    day = read_day("2026-11-01", key="from")

    assert day == date(2026, 11, 1)
    assert start_of(day, MOSCOW) == datetime(2026, 10, 31, 21, tzinfo=UTC)
    assert start_of(day, ZoneInfo("Asia/Vladivostok")) == datetime(2026, 10, 31, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "01.11.2026", "2026-11-31", "20261101", "1999-12-31", "9999-01-01"]
)
def test_wrong_day_is_refused_with_an_example(text: str) -> None:
    """Whoever typed it sees how a day is written."""
    with pytest.raises(CallerError) as caught:
        read_day(text, key="since")

    assert str(caught.value).startswith("since is no day such as 2026-11-01")
