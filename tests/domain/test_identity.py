"""Phones and e-mails match a deal to a visit only if both sides were spelled the same way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.identity import email_address, phone_e164


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+79001234567", "+79001234567"),
        ("8 (900) 123-45-67", "+79001234567"),
        ("9001234567", "+79001234567"),
        ("79001234567", "+79001234567"),
        ("+70000000001", "+70000000001"),
        (" 70000000001", "+70000000001"),
        ("70000000001", "+70000000001"),
        (" 380501234567", "+380501234567"),
        ("380501234567", "+380501234567"),
        (" 12025550123 ", "+12025550123"),
        ("+7 900 123-45-67 доб. 12", "+79001234567"),
        ("+79001234567, +79007654321", "+79001234567"),
        ("нет; 8 900 123 45 67", "+79001234567"),
        ("+49 30 901820", "+4930901820"),
    ],
)
def test_phone_has_one_spelling(text: str, expected: str) -> None:
    """One person typed it into a form, another into the CRM."""
    assert phone_e164(text) == expected


@pytest.mark.parametrize(
    "text", ["", "call me", "112", "+", "12345", "+999123", "x@y.example", "1" * 300, "٣"]
)
def test_text_without_a_phone_has_none(text: str) -> None:
    """A wrong phone is not a reason to lose a conversion that has a session."""
    assert phone_e164(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Buyer@Mail.Example", "buyer@mail.example"),
        (" buyer@mail.example\n", "buyer@mail.example"),
        ("a@x.example, b@x.example", "a@x.example"),
        ("first.last+tag@sub.mail.example", "first.last+tag@sub.mail.example"),
        ("почта@пример.рф", "почта@пример.рф"),
    ],
)
def test_email_has_one_spelling(text: str, expected: str) -> None:
    """Case is the commonest difference between a form and a CRM."""
    assert email_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "@", "a@b", "a@@b.example", "a b.example", "a@.example", "a@b..c", "<a@b.c>", "x" * 300]
)
def test_text_without_an_address_has_none(text: str) -> None:
    """A hash of nonsense would be uploaded as a person."""
    assert email_address(text) is None


@given(st.text() | st.text(alphabet=" +0123456789()-,;x*#"))
def test_any_text_is_a_phone_or_none(text: str) -> None:
    """The server never answers 500 for what a caller sent."""
    phone = phone_e164(text)

    assert phone is None or (phone[0] == "+" and phone[1:].isdigit())


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    """The server never answers 500 for what a caller sent."""
    address = email_address(text)

    assert address is None or "@" in address
