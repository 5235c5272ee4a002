"""Contacts as each platform wants them hashed; takes them normalised, keeps nothing."""

import hashlib


def metrica_email_md5(email: str) -> str | None:
    """Return the md5 of a lower-case address as Yandex Metrica hashes it; None for one not in Latin letters.

    Source: docs/protocols/destinations/yandex-metrica.md, 4.1.
    """
    told = email.strip().lower()
    return _md5(told) if told.isascii() and "@" in told else None


def metrica_phone_md5(phone: str) -> str | None:
    """Return the md5 of the digits of an E.164 number (`"+79995551111"`) without its plus; None without any.

    Source: docs/protocols/destinations/yandex-metrica.md, 4.1.
    """
    digits = "".join(char for char in phone if char.isascii() and char.isdigit())
    return _md5(digits) if digits else None


def sha256_of(contact: str) -> str:
    """Return the SHA-256 of a contact as it is, `+79001234567` or `a@b.example`, in hexadecimal digits."""
    return hashlib.sha256(contact.encode()).hexdigest()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
