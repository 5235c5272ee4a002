"""Amounts and currencies as people and programs write them; exact decimals, never a float."""

# ruff: noqa: RUF001, RUF002 - roubles are written in Cyrillic

import re
from decimal import Decimal

import msgspec

from closedloop.errors import CallerError

MAX_WHOLE_DIGITS = 15
MAX_FRACTION_DIGITS = 6
_MAX_TEXT = 80
_NOT_A_NUMBER = "is not a finite number"
_NOT_A_CURRENCY = "is not an ISO 4217 currency code"

CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN
    BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD
    FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS
    KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN
    MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR
    SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD
    USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL
    """.split()  # noqa: SIM905 - 180 quoted codes read worse
)
_CURRENCY_WORDS = {
    "₽": "RUB",
    "р": "RUB",
    "руб": "RUB",
    "рубль": "RUB",
    "рубля": "RUB",
    "рублей": "RUB",
    "rur": "RUB",  # the code of the rouble before 1998; old CRM installations still send it
    "$": "USD",
    "us$": "USD",
    "€": "EUR",
    "евро": "EUR",
    "£": "GBP",
    "₸": "KZT",
    "тг": "KZT",
    "тенге": "KZT",
    "₴": "UAH",
    "грн": "UAH",
    "₺": "TRY",
    "₾": "GEL",
    "₼": "AZN",
    "֏": "AMD",
    "сум": "UZS",
}

_UNUSUAL = str.maketrans(
    dict.fromkeys("\t\r\n\u00a0\u2007\u2009\u202f", " ")  # what formatters put between groups
    | dict.fromkeys("\u2019\u02bc`", "'")
    | dict.fromkeys("\u2212\u2013", "-")
)
_WORD = r"[^0-9 .,'|+\-]{1,8}\.?"
_AMOUNT = re.compile(
    rf"([+-]?) ?({_WORD})? ?([+-]?)"
    r"((?:[0-9][0-9 .,']*)?[0-9]|[.,][0-9]+)"
    rf"(?:[eE]([+-]?[0-9]+))? ?\|? ?({_WORD})?"
)
_GROUPED = re.compile(
    r"(?:[1-9][0-9]{0,2}(?:(?:( )|(')|(,)|(\.))[0-9]{3})(?:(?(1) |(?(2)'|(?(3),|\.)))[0-9]{3})*)"
    r"(?:(?(3)\.|(?(4),|[.,]))([0-9]+))?"
)
_PLAIN = re.compile(r"([0-9]*)(?:[.,]([0-9]+))?")
_JSON_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Money as it was told; `currency` (ISO 4217) is None when the text names none."""

    value: Decimal
    currency: str | None = None


def read_amount(text: str, *, key: str = "goal_value") -> Amount:
    """Return the sum in a text: `"5 000,00"`, `"1.100,50"`, `"$1,245.50"`, `"10000|RUB"`, `"5000 руб."`.

    A single mark with exactly three digits behind and one to three before it separates thousands:
    `"1.100"` and `"1,100"` are 1100, while `"0.500"` and `"5000,5"` are fractions. ASCII digits only.
    Raises CallerError for what is no finite number, more than 15 whole or more than 6 fraction digits.
    Source: docs/protocols/integrators.md, 2.
    """
    match = _AMOUNT.fullmatch(text.translate(_UNUSUAL).strip()) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise CallerError(key, _NOT_A_NUMBER, shown=text)
    sign, before, inner_sign, core, exponent, after = match.groups()
    whole, fraction = _whole_and_fraction(core, is_scientific=exponent is not None)
    if whole is None or (sign and inner_sign) or (before and after):
        raise CallerError(key, _NOT_A_NUMBER, shown=text)
    currency = _currency_of(before or after)
    if (before or after) and currency is None:
        raise CallerError(key, _NOT_A_NUMBER, shown=text)
    value = _exact(sign or inner_sign, whole, fraction, exponent or "0", key)
    return Amount(value=value, currency=currency)


def read_number(text: str, *, key: str = "goal_value") -> Decimal:
    """Return the value of a JSON number from its digits: `1.100` is 1.1 here, as its sender typed it."""
    match = _JSON_NUMBER.fullmatch(text)
    if match is None:
        raise CallerError(key, _NOT_A_NUMBER, shown=text)
    return _exact(match[1], match[2], match[3] or "", match[4] or "0", key)


def read_currency(text: str, *, key: str = "currency") -> str:
    """Return the ISO 4217 code for a code, word or sign: `"rub"`, `"RUR"`, `"руб."` and `"₽"` are RUB."""
    code = _currency_of(text)
    if code is None:
        raise CallerError(key, _NOT_A_CURRENCY, shown=text)
    return code


def decimal_text(value: Decimal) -> str:
    """Return plain digits without an exponent; a fraction of zeros only is left out (`5000`, `0.50`)."""
    text = f"{value:f}"
    whole, _, fraction = text.partition(".")
    if fraction.strip("0"):
        return text
    return "0" if whole == "-0" else whole


def _currency_of(text: str | None) -> str | None:
    if not text:
        return None
    code = text.upper()
    return code if code in CURRENCIES else _CURRENCY_WORDS.get(text.casefold().removesuffix("."))


def _whole_and_fraction(core: str, *, is_scientific: bool) -> tuple[str | None, str]:
    grouped = None if is_scientific else _GROUPED.fullmatch(core)
    if grouped is not None:
        fraction = grouped[5] or ""
        whole = core[: len(core) - len(fraction) - 1] if fraction else core
        return "".join(filter(str.isdigit, whole)), fraction
    plain = _PLAIN.fullmatch(core)
    return (plain[1], plain[2] or "") if plain else (None, "")


def _exact(sign: str, whole: str, fraction: str, exponent: str, key: str) -> Decimal:
    """Put the point in its place by hand: Decimal("1e999999999") is cheap, but what uses it is not."""
    digits = whole + fraction
    if not digits.strip("0"):
        return Decimal(0)
    shift = _small(exponent)
    point = len(whole) + shift
    digits = "0" * -point + digits if point < 0 else digits.ljust(point, "0")
    whole, fraction = digits[: max(point, 0)].lstrip("0"), digits[max(point, 0) :]
    if len(whole) > MAX_WHOLE_DIGITS:
        raise CallerError(key, f"is too large: more than {MAX_WHOLE_DIGITS} digits before the point")
    if len(fraction.rstrip("0")) > MAX_FRACTION_DIGITS:
        raise CallerError(key, "has more than six decimals")
    return Decimal(f"{sign}{whole or '0'}.{fraction[:MAX_FRACTION_DIGITS]}")


def _small(exponent: str) -> int:
    """Return the exponent, cut to 999: whatever lies beyond is refused by its size anyway."""
    digits = exponent.lstrip("+-").lstrip("0")
    size = int(digits or "0") if len(digits) <= len("999") else 999
    return -size if exponent.startswith("-") else size
