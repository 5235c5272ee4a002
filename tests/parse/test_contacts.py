"""A lead whose session was lost is found by its phone: it is read wherever an owner let people type it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.parse.contacts import find_email, find_phone

PHONE = "+79000000000"


@pytest.mark.parametrize(
    "name",
    [
        "Phone",
        "phone",
        "PHONE_2",
        "Phone[]",
        "tel",
        "Ваш_телефон",
        "Номер телефона",
        "Тел.",
        "userPhone",
        "WhatsApp",
    ],
)
def test_phone_is_found_by_the_name_of_its_field(name: str) -> None:
    """Owners rename Tilda's fields, and a second one gets a number."""
    assert find_phone({"Input": "+7 911 111-11-11", name: "8 (900) 000-00-00"}) == PHONE


@pytest.mark.parametrize("text", ["89000000000 Анна", "тел. +7 900 000-00-00", "8 (900) 000-00-00, вечером"])
def test_words_beside_a_phone_are_passed_over(text: str) -> None:
    """People write into the field whom to ask for and when."""
    assert find_phone({"Phone": text}) == PHONE


def test_first_named_phone_that_is_one_counts() -> None:
    """A masked field that was left empty still sends its prefix."""
    assert find_phone({"Phone": "+7", "Phone_2": "8-900-000-00-00", "Phone_3": "+79111111111"}) == PHONE


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("+7 (900) 000-00-00", PHONE),
        ("89000000000", PHONE),
        ("8-900-000-00-00", PHONE),
        ("9000000000", PHONE),
        ("(495) 000-00-00", "+74950000000"),
        ("+380501234567", "+380501234567"),
        ("375291234567", "+375291234567"),
        ("+44 20 7946 0958", "+442079460958"),
    ],
)
def test_phone_is_found_by_its_shape(text: str, phone: str) -> None:
    """A field `Contact` or `Input` may be where people write it."""
    assert find_phone({"Name": "Анна", "Input": text}) == phone


@pytest.mark.parametrize(
    "text",
    [
        "7707083893",  # a company's tax number
        "4510 123456",  # a passport
        "112-233-445 95",  # an insurance number
        "1027700132195",  # a company's register number
        "4000 0000 0000 0002",
        "31.12.2026 18:00",
        "2026-12-31",
        "звоните 89000000000 вечером",
        "+7",
        "",
    ],
)
def test_other_numbers_are_no_phones(text: str) -> None:
    """Two strangers would become one visitor."""
    assert find_phone({"Input": text}) is None


@pytest.mark.parametrize("name", ["iPhone_model", "Модель телефона", "Phone"])
def test_model_of_a_phone_is_no_phone(name: str) -> None:
    """Letters would be read as the digits that they share a key with."""
    assert find_phone({name: "Galaxy 1234 ABCDEF"}) is None


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"Email": "Anna@Mail.example"}, "anna@mail.example"),
        ({"Email": "anna@", "Email_2": "anna@mail.example"}, "anna@mail.example"),
        ({"Ваша почта": "моя: anna@mail.example"}, "anna@mail.example"),
        ({"Input": "x@y.example", "E-mail": "anna@mail.example"}, "anna@mail.example"),
        ({"Почтовый_индекс": "101000", "Input": "anna@mail.example"}, "anna@mail.example"),
        ({"Input": "пишите на anna@mail.example"}, None),
        ({"Email": "anna@mail"}, None),
        ({}, None),
    ],
)
def test_address_is_found_by_name_then_by_shape(fields: dict[str, str], address: str | None) -> None:
    """An address inside a sentence may be somebody else's."""
    assert find_email(fields) == address


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=300)))
def test_any_fields_give_a_contact_or_none(fields: dict[str, str]) -> None:
    """A form is never refused for what stands in it."""
    phone, address = find_phone(fields), find_email(fields)

    assert phone is None or phone.startswith("+")
    assert address is None or "@" in address
