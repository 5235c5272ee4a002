"""Phone and e-mail among fields that their owner named freely; knows no sender and refuses nothing."""

# ruff: noqa: RUF001 - owners name their fields in Russian

import re
from collections.abc import Iterator, Mapping

from closedloop.domain.identity import email_address, phone_e164

_PHONE_NAME = re.compile(
    r"(?<![a-zа-яё])(?:(?!iphone)[a-z]*phone|tel|mobile|whatsapp|телефон[а-яё]*|тел|моб[а-яё]*)(?![a-zа-яё])"
)
_EMAIL_NAME = re.compile(r"mail|почт|имейл|емейл")
_PHONE_IN_TEXT = re.compile(r"\+?\(?[0-9][0-9 \u00a0()\-]{8,}")
_PHONE_SHAPE = re.compile(r"\+?[0-9 \u00a0()\-]+")
_LOCAL = re.compile(r"\([0-9]{3,5}\)")
# Other digits may be a tax number or a passport: without plus and brackets only what is dialled in and
# around Russia is a phone.
_DIALLED = re.compile(r"[78][0-9]{10}|9[0-9]{9}|(?:37|38|99)[0-9]{10}")
_FEWEST_DIGITS = 7
_PHONE_DIGITS = range(10, 16)


def find_phone(fields: Mapping[str, str]) -> str | None:
    """Return the phone as E.164: of the first field that is called so (`Phone_2`, `Телефон`) and holds one.

    Else of the first whose value is nothing but a phone. None when there is neither.
    """
    enough = (text for text in _phone_texts(fields) if sum(map(str.isdigit, text)) >= _FEWEST_DIGITS)
    return next((phone for text in enough if (phone := phone_e164(text)) is not None), None)


def find_email(fields: Mapping[str, str]) -> str | None:
    """Return the address in lower case: of the first field that is called so (`E-mail`) and holds one.

    Else of the first whose value is nothing but an address. None when there is neither.
    """
    named = (email_address(text) for name, text in fields.items() if _EMAIL_NAME.search(name.lower()))
    shaped = (found for text in fields.values() if (found := email_address(text)) == text.strip().lower())
    return next((address for part in (named, shaped) for address in part if address is not None), None)


def _phone_texts(fields: Mapping[str, str]) -> Iterator[str]:
    for name, text in fields.items():
        if _PHONE_NAME.search(name.lower()):
            yield text
            yield from _PHONE_IN_TEXT.findall(text)  # `89000000000 Anna`
    yield from (text for text in fields.values() if _is_phone(text.strip()))


def _is_phone(text: str) -> bool:
    if not _PHONE_SHAPE.fullmatch(text):
        return False
    digits = "".join(filter(str.isdigit, text))
    if text.startswith("+") or _LOCAL.match(text):
        return len(digits) in _PHONE_DIGITS
    return _DIALLED.fullmatch(digits) is not None
