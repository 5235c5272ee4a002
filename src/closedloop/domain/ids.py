"""Ids of visitors: Metrica's ClientID as digits, the names of click ids, the code of a messenger link."""

import math
import re
from decimal import Decimal

import msgspec

from closedloop.errors import CallerError

MAX_DIGITS = 20
# The click ids of the platforms, by the names under which they stand in an address. `ysclid` is none: it
# marks organic traffic (docs/protocols/metrika-tag.md, 5).
CLICK_IDS = (
    "yclid",
    "gclid",
    "gbraid",
    "wbraid",
    "fbclid",
    "ttclid",
    "msclkid",
    "vkclid",
    "rb_clickid",
)
MAX_CLICK_ID = 512
# The short code that the tracker puts into a link to a messenger, and that comes back in a chat.
MESSENGER_CODE = "ta_code"
_CODE = re.compile(r"(?<![0-9a-z_])ta_[0-9a-z]{12}(?![0-9a-z_])", re.IGNORECASE)
_EXACT_IN_A_DOUBLE = 2**53
_EXCEL_DIGITS = 15
_DIGITS = re.compile(r"[0-9]{1,20}")
_SCIENTIFIC = re.compile(r"([0-9]{1,20})(?:[.,]([0-9]{1,20}))?[eE]\+?([0-9]{1,2})")


def find_code(text: str) -> str | None:
    """Return the first messenger code in what somebody wrote (`"Код ta_0123456789ab"`), or None."""
    found = _CODE.search(text)
    return None if found is None else found[0].lower()


class YmUid(msgspec.Struct, frozen=True, kw_only=True):
    """A ClientID as it came: `digits`, and the `interval` of ids that it may have been before rounding."""

    digits: str
    interval: tuple[str, str] | None = None


def read_ym_uid(text: str, *, key: str = "ym_uid") -> YmUid:
    """Return the id in `text`, trimmed digits (`"1741000000123456789"`) or a float's text (`"1.7E+18"`).

    Raises CallerError for a sign, a fraction, any other character and more than 20 digits.
    """
    if _DIGITS.fullmatch(text):
        return YmUid(digits=text, interval=rounded_interval(text))
    told = _value_and_unit(text)
    if told is not None:
        return YmUid(digits=str(told[0]), interval=rounded_interval(text))
    if text.isascii() and text.isdigit():
        raise CallerError(key, f"has more than {MAX_DIGITS} digits", shown=text)
    raise CallerError(key, "is not a whole number of digits only", shown=text)


def rounded_interval(text: str) -> tuple[str, str] | None:
    """Return the inclusive bounds of the ids that may have been rounded to `text`; None when none may.

    Suspect are, above 2**53: the exact integer of a double, the digits that JavaScript prints for one
    (`1741000000123456800`), and what Excel leaves of an id (15 digits, then zeros; rounded or cut off).
    A float's text (`1.7E+18`) always is. Both bounds have as many digits as the id itself, so that they
    compare as text; an id that was rounded up to a further digit (999... to 1000...) is not covered.
    Source: docs/protocols/integrators.md, 2.
    """
    told = _value_and_unit(text)
    if told is None or text.startswith("0"):
        return None
    value, unit = told
    spans = list(_spans(value, unit))
    if not spans:
        return None
    digits = len(str(value))
    low = max(min(low for low, _ in spans), 10 ** (digits - 1))
    high = min(max(high for _, high in spans), 10**digits - 1)
    return str(low), str(high)


def _spans(value: int, unit: int) -> list[tuple[int, int]]:
    spans = [(value - unit // 2, value + unit // 2)] if unit > 1 else []
    if value <= _EXACT_IN_A_DOUBLE:
        return spans
    double = float(value)
    if unit > 1 or value in (int(double), int(Decimal(repr(double)))):
        spans.append(_rounding_to(double))
    excel_unit = 10 ** (len(str(value)) - _EXCEL_DIGITS)
    if value % excel_unit == 0:
        spans.append((value - excel_unit // 2, value + excel_unit - 1))
    return spans


def _rounding_to(double: float) -> tuple[int, int]:
    exact = int(double)
    below, above = int(math.nextafter(double, 0)), int(math.nextafter(double, math.inf))
    return (below + exact + 1) // 2, (above + exact) // 2


def _value_and_unit(text: str) -> tuple[int, int] | None:
    """Return the number and the weight of its last written digit: `1.7E+18` is (17 * 10**17, 10**17)."""
    if _DIGITS.fullmatch(text):
        return int(text), 1
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return None
    whole, fraction, exponent = match[1], match[2] or "", int(match[3])
    if len(fraction) > exponent:
        return None
    unit: int = 10 ** (exponent - len(fraction))
    value = int(whole + fraction) * unit
    return (value, unit) if len(str(value)) <= MAX_DIGITS and value else None
