"""Contacts are matched by their hash alone, so one wrong character matches nobody."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.hashing import metrica_email_md5, metrica_phone_md5


@pytest.mark.parametrize("email", ["mail@yandex.ru", "Mail@Yandex.ru", " mail@yandex.ru "])
def test_metrica_email_is_the_vendors_own_vector(email: str) -> None:
    """Metrica prints this hash for whoever wants to check an implementation."""
    assert metrica_email_md5(email) == "3c56ff8fef0f6c65b36b2d25720fe276"


@pytest.mark.parametrize("phone", ["+79995551111", "79995551111", "+7 (999) 555-11-11"])
def test_metrica_phone_is_hashed_without_its_plus(phone: str) -> None:
    """Google and TikTok hash it with the plus; a hash for one is no hash for the other."""
    assert metrica_phone_md5(phone) == "f09f2c3d48f31e2a802944ade2e5aec5"


@pytest.mark.parametrize("email", ["", "почта@пример.рф", "nobody"])
def test_metrica_email_that_cannot_match_is_none(email: str) -> None:
    """Metrica takes Latin letters only: the hash of anything else would be sent for nothing."""
    assert metrica_email_md5(email) is None


@pytest.mark.parametrize("phone", ["", "+", "٧٩٩٩"])
def test_metrica_phone_without_digits_is_none(phone: str) -> None:
    """The hash of nothing is the same for everybody, and would make one person of them."""
    assert metrica_phone_md5(phone) is None


@given(st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True))
def test_metrica_phone_is_the_md5_of_what_follows_the_plus(phone: str) -> None:
    """For any number of any country."""
    assert metrica_phone_md5(phone) == hashlib.md5(phone[1:].encode(), usedforsecurity=False).hexdigest()
