"""Amounts go to advertising platforms as they are read here; a wrong point is a thousandfold bid."""

# ruff: noqa: RUF001 - roubles are written in Cyrillic

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.money import decimal_text, read_amount, read_currency, read_number
from closedloop.errors import CallerError

STYLES = [
    (" ", ","),
    (" ", "."),
    ("\u00a0", ","),
    ("\u202f", ","),
    ("\u2009", "."),
    ("'", "."),
    ("\u2019", "."),
    (",", "."),
    (".", ","),
    ("", ","),
    ("", "."),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5000", "5000"),
        ("5000.00", "5000"),
        ("5,000.00", "5000"),
        ("5.000,00", "5000"),
        ("5 000,00", "5000"),
        ("1\u00a0245\u202f000,50", "1245000.50"),
        ("1.100,50", "1100.50"),
        ("1,245.50", "1245.50"),
        ("1,100", "1100"),
        ("1.100", "1100"),
        ("1.100.000", "1100000"),
        ("5000,5", "5000.5"),
        ("1.1e3", "1100"),
        ("5000.0", "5000"),
        ("1'000'000.25", "1000000.25"),
        ("-5", "-5"),
        ("+5", "5"),
        ("\u22125", "-5"),
        ("-0", "0"),
        (".5", "0.5"),
        ("0.500", "0.500"),
        ("1234.567", "1234.567"),
        ("0e999999999", "0"),
        ("000000000000000000000005", "5"),
        ("5.1000000000", "5.100000"),
    ],
)
def test_amount_is_read_as_people_write_it(text: str, expected: str) -> None:
    """Each line was seen in a CRM or an integrator (docs/protocols/integrators.md, 2)."""
    amount = read_amount(text)

    assert decimal_text(amount.value) == expected
    assert amount.currency is None


@pytest.mark.parametrize(
    ("text", "value", "currency"),
    [
        ("10000|RUB", "10000", "RUB"),
        ("5 000|RUB", "5000", "RUB"),
        ("$1,245.50", "1245.50", "USD"),
        ("-$5", "-5", "USD"),
        ("$-5", "-5", "USD"),
        ("US$ 5", "5", "USD"),
        ("5 000 руб.", "5000", "RUB"),
        ("5000.00 руб.", "5000", "RUB"),
        ("5000р.", "5000", "RUB"),
        ("5000 ₽", "5000", "RUB"),
        ("1\u00a0245\u202f000,50\u00a0₽", "1245000.50", "RUB"),
        ("€ 1.100,50", "1100.50", "EUR"),
        ("12 eur", "12", "EUR"),
        ("RUR 7", "7", "RUB"),
    ],
)
def test_amount_brings_its_currency(text: str, value: str, currency: str) -> None:
    """Bitrix24 and formatted fields put the currency into the sum and nowhere else."""
    amount = read_amount(text)

    assert decimal_text(amount.value) == value
    assert amount.currency == currency


@pytest.mark.parametrize(
    "text",
    [
        "five", "NaN", "Infinity", "-Infinity", "٣", "1e", "--5", "+-5", "1,2,3", "12 34", "1 2",
        "", "-", ".",
        "5000.", "1.2.3", "1,100.200,300", "1 100'200", "1.100.00", "0x10", "1_000", "½", "5 XYZ",
        "$5 USD", "1e5e5",
        "1,100e3,5", "5,", "12,34,567", "1 0000", "$", "5 USDT", "1" * 100,
    ],
)  # fmt: skip
def test_text_that_is_no_number_is_refused(text: str) -> None:
    """A guess here would be money nobody paid; the sender sees their own text instead."""
    with pytest.raises(CallerError) as caught:
        read_amount(text)

    assert caught.value.key == "goal_value"
    assert caught.value.problem == "is not a finite number"
    assert caught.value.shown == text[:80]


@pytest.mark.parametrize("text", ["1e999999999", "1e15", "1" + "0" * 15, "-1e16", "1e" + "9" * 70, "0.1e17"])
def test_too_large_amount_is_refused_before_it_is_built(text: str) -> None:
    """A few bytes must not cost gigabytes, and the ledger's column has fifteen digits."""
    for read in (read_amount, read_number):
        with pytest.raises(CallerError, match="goal_value is too large"):
            read(text)


@pytest.mark.parametrize("text", ["0.1234567", "1e-7", "1e-999999999", "5.0000001"])
def test_too_fine_amount_is_refused(text: str) -> None:
    """Rounding silently would make the sums of two systems differ."""
    for read in (read_amount, read_number):
        with pytest.raises(CallerError, match="goal_value has more than six decimals"):
            read(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.100", "1.100"),
        ("5000.10", "5000.10"),
        ("1e3", "1000"),
        ("-2.50", "-2.50"),
        ("999999999999999", None),
    ],
)
def test_json_number_is_read_as_typed(text: str, expected: str | None) -> None:
    """A program means the point of its number; only people mean thousands by it."""
    value = read_number(text)

    assert decimal_text(value) == (expected or text)


@pytest.mark.parametrize("text", ["", "NaN", "1 000", "+5", "1.", ".5", "٣"])
def test_json_number_has_no_other_spelling(text: str) -> None:
    """The reader of numbers guesses nothing, even if the layer above changes."""
    with pytest.raises(CallerError, match="is not a finite number"):
        read_number(text)


@given(
    st.integers(min_value=0, max_value=10**15 - 1),
    st.integers(min_value=0, max_value=99),
    st.sampled_from(STYLES),
    st.sampled_from([("", ""), ("", " ₽"), ("", "|RUB"), ("RUB ", ""), ("₽", ""), ("", " руб.")]),
)
def test_formatted_amount_comes_back(
    whole: int, cents: int, style: tuple[str, str], around: tuple[str, str]
) -> None:
    """Every locale's formatter is read back to the value that it was given."""
    group, mark = style
    text = f"{around[0]}{whole:,}".replace(",", group) + f"{mark}{cents:02}{around[1]}"

    amount = read_amount(text)

    assert amount.value == Decimal(f"{whole}.{cents:02}")
    assert amount.currency == ("RUB" if any(around) else None)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**14), max_value=10**14))
def test_plain_digits_come_back(value: Decimal) -> None:
    """What `inspect`, the dashboard and the platforms are shown is the value, without an exponent."""
    text = decimal_text(value)

    assert "E" not in text
    assert read_number(text) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [("RUB", "RUB"), ("rub", "RUB"), ("RUR", "RUB"), ("₽", "RUB"), ("руб", "RUB"), ("Руб.", "RUB"),
     ("р.", "RUB"),
     ("$", "USD"), ("€", "EUR"), ("usd", "USD"), ("KZT", "KZT")],
)  # fmt: skip
def test_currency_is_read_as_people_write_it(text: str, code: str) -> None:
    """CRMs send the sign from the screen as often as the code."""
    assert read_currency(text) == code


@pytest.mark.parametrize("text", ["XYZ", "RU", "roubles", "ＲＵＢ", "643", "", "ı"])
def test_unknown_currency_is_refused(text: str) -> None:
    """A platform would refuse it two hours later, out of sight."""
    with pytest.raises(CallerError) as caught:
        read_currency(text)

    assert caught.value.key == "currency"


@given(st.text())
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    """The server never answers 500 for what a caller sent."""
    try:
        amount = read_amount(text)
    except CallerError:
        return

    assert amount.value.is_finite()
    assert len(decimal_text(amount.value)) <= 23
