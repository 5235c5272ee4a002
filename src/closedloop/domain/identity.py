"""Phones and e-mails as one spelling each, so that equal ones compare equal; sends and hashes nothing."""

import re
from functools import partial

HOME_REGION = "RU"  # where a number without a country code is
_MAX_TEXT = 255
_MAX_EMAIL = 254
_EMAIL = re.compile(r"[^\s@<>(),;:\"\[\]\\]+@[^\s@<>(),;:\"\[\]\\.]+(?:\.[^\s@<>(),;:\"\[\]\\.]+)+")
_LOST_PLUS = re.compile(r"[ \u00a0][1-79][0-9]{10,14}")


def phone_e164(text: str) -> str | None:
    """Return the first phone in `text` as E.164 (`"+79001234567"`); None when there is none.

    `"8 (900) 123-45-67"` is Russian. A blank in front of eleven or more digits was a plus that the
    sender did not escape in a query. Numbers in the right shape pass whether or not they are in use.
    Source: docs/protocols/integrators.md, 2.
    """
    if len(text) > _MAX_TEXT:
        return None
    spelled = f"+{text.strip()}" if _LOST_PLUS.fullmatch(text.rstrip()) else text
    found = (_one_phone(part.strip()) for part in re.split(r"[,;\n]", spelled))
    return next((phone for phone in found if phone is not None), None)


def email_address(text: str) -> str | None:
    """Return the first address in `text` in lower case; None when nothing looks like `x@y.z`."""
    if len(text) > _MAX_TEXT:
        return None
    parts = (part.strip().lower() for part in re.split(r"[,;\s]", text))
    return next((part for part in parts if len(part) <= _MAX_EMAIL and _EMAIL.fullmatch(part)), None)


def _one_phone(text: str) -> str | None:
    # Imported here because its tables take 15 ms and some megabytes that most processes never need.
    import phonenumbers  # noqa: PLC0415

    spellings = [text] if text.startswith("+") else [text, f"+{text}"]
    numbers: list[phonenumbers.PhoneNumber] = []
    for spelling in spellings:
        try:
            numbers.append(phonenumbers.parse(spelling, HOME_REGION))
        except phonenumbers.NumberParseException:
            continue
    possible = phonenumbers.ValidationResult.IS_POSSIBLE
    of_right_length = [
        number for number in numbers if phonenumbers.is_possible_number_with_reason(number) == possible
    ]
    in_use = [number for number in of_right_length if phonenumbers.is_valid_number(number)]
    spell = partial(phonenumbers.format_number, num_format=phonenumbers.PhoneNumberFormat.E164)
    return next(map(spell, in_use + of_right_length), None)
