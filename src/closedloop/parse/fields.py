"""Readers for one field each; every error carries the field's key, and no reader knows a request."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from closedloop.domain.identity import email_address, phone_e164
from closedloop.domain.ids import YmUid, read_ym_uid
from closedloop.domain.moment import read_moment
from closedloop.domain.money import Amount, read_amount, read_currency, read_number
from closedloop.errors import CallerError
from closedloop.parse.bodies import JsonNumber, JsonOther, Value

Fields = Mapping[str, Value]

MAX_TEXT = 255
# Blanks of every kind, line ends, and marks of no width: a copied value carries them unseen.
_BLANKS = (
    "".join(map(chr, [*range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C)]))
    + "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_NOTHING = frozenset({"", "null", "undefined", "none", "[object object]"})
_NOT_A_NUMBER = "nan"  # nothing everywhere but in an amount, where it is a mistake to tell
_WHOLE_PLACEHOLDER = re.compile(r"%[^%\s]+%|\[\[.*\]\]|\$\{.*\}", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]+")
_EMPTY_MONEY = re.compile(r"\|[A-Za-z]{0,3}")  # Bitrix24 prints an empty sum as `|RUB`


def trimmed(text: str) -> str:
    """Return the text without the blanks around it, visible or not."""
    return text.strip(_BLANKS)


def is_nothing(text: str, *, is_amount: bool = False) -> bool:
    """Tell whether a trimmed text stands for no value: a word for nothing, or an unfilled placeholder.

    Source: docs/protocols/integrators.md, 2.
    """
    if len(text) <= len("[object object]"):
        word = text.lower()
        if word in _NOTHING or (word == _NOT_A_NUMBER and not is_amount):
            return True
    if "{" not in text and text[0] not in "%[|":
        return False
    if _WHOLE_PLACEHOLDER.fullmatch(text) or (is_amount and _EMPTY_MONEY.fullmatch(text)):
        return True
    return _is_unfilled(text, "{{", "}}") or _is_unfilled(text, "{=", "}")


def first_usable(pairs: Iterable[tuple[str, Value]], amounts: frozenset[str]) -> dict[str, Value]:
    """Return for every key the first of its values that says something, as it came.

    `amounts` are the keys of money. The order of `pairs` is the order of preference. Raises CallerError
    for a value with a NUL, which PostgreSQL cannot hold.
    """
    chosen: dict[str, Value] = {}
    for key, value in pairs:
        if key in chosen:
            continue
        if isinstance(value, str):
            if is_nothing(trimmed(value), is_amount=key in amounts):
                continue
            if "\0" in value:
                raise CallerError(key, "contains a NUL character")
        chosen[key] = value
    return chosen


def text(fields: Fields, key: str, *, limit: int = MAX_TEXT) -> str | None:
    """Return the trimmed text, or the digits of a JSON integer; None when the key is not there.

    Raises CallerError for any other JSON type and for more than `limit` characters.
    """
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        value = _digits_of(value, key)
    value = trimmed(value)
    if len(value) > limit:
        raise CallerError(key, f"is longer than {limit} characters", shown=value)
    return value


def ym_uid(fields: Fields, key: str) -> YmUid | None:
    """Return the ClientID; None when the key is not there or carries only zeros (an empty number)."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, JsonOther):
        raise _wrong_type(value, key)
    told = trimmed(value) if isinstance(value, str) else value.text
    return read_ym_uid(told, key=key) if told.strip("0") else None


def amount(fields: Fields, key: str) -> Amount | None:
    """Return the money; a JSON number is read as typed, a text as people write it."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        return read_amount(trimmed(value), key=key)
    if isinstance(value, JsonNumber):
        return Amount(value=read_number(value.text, key=key))
    raise CallerError(key, "is not a finite number", shown=value.kind)


def currency(fields: Fields, key: str) -> str | None:
    """Return the ISO 4217 code; None when the key is not there."""
    told = text(fields, key)
    return None if told is None else read_currency(told, key=key)


def moment(fields: Fields, key: str, *, zone: ZoneInfo, now: datetime) -> datetime | None:
    """Return the moment with its offset; None when the key is not there."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, JsonOther):
        raise _wrong_type(value, key)
    told = trimmed(value) if isinstance(value, str) else value.text
    return read_moment(told, zone=zone, now=now, key=key)


def phone(fields: Fields, key: str) -> str | None:
    """Return the phone as E.164; None when the key is not there or holds no phone."""
    value = fields.get(key)
    # Untrimmed: the blank in front may have been a plus.
    told = value if isinstance(value, str) else text(fields, key)
    return None if told is None else phone_e164(told)


def email(fields: Fields, key: str) -> str | None:
    """Return the address in lower case; None when the key is not there or holds no address."""
    value = fields.get(key)
    told = value if isinstance(value, str) else text(fields, key)
    return None if told is None else email_address(trimmed(told))


def _is_unfilled(told: str, opening: str, closing: str) -> bool:
    start = told.find(opening)
    return start >= 0 and told.find(closing, start) > 0


def _digits_of(value: JsonNumber | JsonOther, key: str) -> str:
    if isinstance(value, JsonNumber) and _INTEGER.fullmatch(value.text):
        return value.text
    raise _wrong_type(value, key)


def _wrong_type(value: JsonNumber | JsonOther, key: str) -> CallerError:
    kind = value.kind if isinstance(value, JsonOther) else "a number with a fraction or an exponent"
    return CallerError(key, f"must be text or an integer and is {kind}")
