"""ClientIDs are the only thread from a CRM back to a visit, and spreadsheets and scripts round them."""

from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from closedloop.domain.ids import YmUid, read_ym_uid, rounded_interval
from closedloop.errors import CallerError

long_ids = st.integers(min_value=10**17, max_value=10**20 - 1)


def holds(interval: tuple[str, str] | None, number: int) -> bool:
    """Tell whether an interval of texts holds a number."""
    return interval is not None and int(interval[0]) <= number <= int(interval[1])


@given(long_ids)
def test_double_of_an_id_leads_back_to_it(number: int) -> None:
    """A backend that kept the id in a float prints its exact integer, and the visit must still be found."""
    rounded = str(int(float(number)))
    assume(len(rounded) == len(str(number)))

    interval = rounded_interval(rounded)

    assert holds(interval, number)


@given(long_ids)
@example(1741000000123456789)
def test_number_of_javascript_leads_back_to_its_id(number: int) -> None:
    """n8n, Make and Zapier code print the shortest digits of a double: the most frequent damage."""
    rounded = str(int(Decimal(repr(float(number)))))
    assume(len(rounded) == len(str(number)))

    interval = rounded_interval(rounded)

    assert holds(interval, number)


@given(long_ids, st.booleans())
def test_fifteen_digits_of_a_spreadsheet_lead_back_to_the_id(number: int, is_cut: bool) -> None:  # noqa: FBT001
    """Excel leaves fifteen digits and fills up with zeros; versions differ in rounding and cutting."""
    unit = 10 ** (len(str(number)) - 15)
    rounded = str((number if is_cut else number + unit // 2) // unit * unit)
    assume(len(rounded) == len(str(number)))

    interval = rounded_interval(rounded)

    assert holds(interval, number)


@given(long_ids, st.integers(min_value=1, max_value=17))
def test_scientific_text_leads_back_to_its_id(number: int, decimals: int) -> None:
    """A column that is too narrow exports `1.7E+18`; it says little, but never the wrong visitors only."""
    text = f"{float(number):.{decimals}E}"
    assume(int(Decimal(text)) < 10 ** len(str(number)))

    told = read_ym_uid(text)

    assert holds(told.interval, number)


@given(long_ids)
def test_bounds_have_as_many_digits_as_the_id(number: int) -> None:
    """The database compares them as text, where 9 is more than 10."""
    for text in (str(int(float(number))), str(number // 10**6 * 10**6), f"{number:.3e}"):
        interval = rounded_interval(text)
        digits = len(read_ym_uid(text).digits) if len(str(int(Decimal(text)))) <= 20 else 0

        assert interval is None or digits == 0 or {len(interval[0]), len(interval[1])} == {digits}


@pytest.mark.parametrize(
    "text", ["1741000000123456789", "9007199254740992", "1712345678", "007", "0", "x", ""]
)
def test_unrounded_id_has_no_interval(text: str) -> None:
    """Looking for neighbours of an intact id would credit strangers."""
    interval = rounded_interval(text)

    assert interval is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("1741000000123456800", "1741000000123456640", "1741000000123456896"),
        ("1741000000123456768", "1741000000123456640", "1741000000123456896"),
        ("1741000000123460000", "1741000000123455000", "1741000000123469999"),
        ("1.7E+18", "1650000000000000000", "1750000000000000000"),
        ("1,7E+18", "1650000000000000000", "1750000000000000000"),
        ("1000000000000000000", "1000000000000000000", "1000000000000009999"),
    ],
)
def test_rounded_id_has_the_interval_of_its_rounding(text: str, low: str, high: str) -> None:
    """The width decides whether exactly one session fits, so each kind of rounding has its own."""
    interval = rounded_interval(text)

    assert interval is not None
    assert int(interval[0]) <= int(low)
    assert int(interval[1]) >= int(high)
    assert int(interval[1]) - int(interval[0]) <= 2 * (int(high) - int(low))


@pytest.mark.parametrize("text", ["1741000000123456789", "00", "1", "99999999999999999999"])
def test_digits_are_kept_as_they_came(text: str) -> None:
    """Twenty digits do not fit 64 bits, and a leading zero is part of the id."""
    told = read_ym_uid(text)

    assert told.digits == text


def test_scientific_text_becomes_its_digits() -> None:
    """The id is looked up as digits, whatever a spreadsheet made of it."""
    told = read_ym_uid("1.7E+18")

    assert told == YmUid(digits="1" + "7" + "0" * 17, interval=rounded_interval("1.7E+18"))


@pytest.mark.parametrize(
    "text",
    ["-5", "1.5", "1.5e0", "five", "٣", "1 2", "1e30", "1e-3", "0e5", "123456789012345678901", "", "²"],
)
def test_other_texts_are_refused_by_their_key(text: str) -> None:
    """A field mapped wrongly shows at once, instead of as conversions that match nobody."""
    with pytest.raises(CallerError) as caught:
        read_ym_uid(text)

    assert caught.value.key == "ym_uid"
    assert caught.value.shown == text


def test_too_long_id_is_told_as_such() -> None:
    """The sentence says what is wrong with digits that look right."""
    with pytest.raises(CallerError, match="more than 20 digits"):
        read_ym_uid("1" * 21)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """The server never answers 500 for what a caller sent."""
    try:
        told = read_ym_uid(text)
    except CallerError:
        return

    assert told.digits.isascii()
    assert told.digits.isdigit()
    assert len(told.digits) <= 20
