"""Every recorded request of Tilda gives its lead; nothing of the key or of foreign cookies is left in it."""

# ruff: noqa: RUF001 - what visitors type is Russian

import hashlib
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from closedloop.parse.crm.tilda import TildaLead, read_tilda
from fix_tools import REPOSITORY

RECORDED = REPOSITORY / "tests" / "recorded" / "tilda" / "webhook"
LEADS = sorted(path for path in RECORDED.glob("*.http") if not path.name.startswith("test-request"))
KEYS = {"demo-url-key-41", "demo-header-key-41"}
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"
CLIENT = "1741000000123456789"


def recorded(path: Path) -> TildaLead:
    """Return the lead of a recorded request."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    labels = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return read_tilda(labels["Content-Type"], body, is_key=KEYS.__contains__)


@pytest.mark.parametrize("path", LEADS, ids=lambda path: path.stem)
def test_recorded_lead_has_phone_and_number(path: Path) -> None:
    """By these a deal that lost its session is found, and a second attempt is recognised."""
    lead = recorded(path)

    assert (lead.is_test, lead.phone) == (False, "+79000000000")
    assert (lead.transaction_id or "").startswith("7000001:")


@pytest.mark.parametrize(
    ("name", "session", "client"),
    [
        ("lead", SESSION, CLIENT),
        ("lead-cookies", SESSION, CLIENT),
        ("lead-cookies-no-hidden-fields", None, CLIENT),
        ("lead-empty-session", None, CLIENT),
        ("lead-ids-case", SESSION, CLIENT),
        ("lead-two-session-fields", SESSION, CLIENT),
        ("lead-no-ids", None, None),
        ("lead-json", SESSION, CLIENT),
    ],
)
def test_recorded_ids_are_read_wherever_they_stand(
    name: str, session: str | None, client: str | None
) -> None:
    """Owners type the names, and cookies know what the form does not."""
    lead = recorded(RECORDED / f"{name}.http")

    assert (lead.session_id, lead.ym_uid) == (session, client)


@pytest.mark.parametrize(
    ("name", "order_id", "amount", "is_paid"),
    [
        ("order-payment-brackets", "1557604691", "2550.45", True),
        ("order-not-paid-yet", "1557604692", "2550.45", False),
        ("order-payment-products-as-text", "1557604693", "1800", False),
        ("order-payment-json-string", "1557604694", "1800", False),
        ("order-json-payment", "1557604695", "1800", False),
        ("order-json-paid", "1557604696", "700.5", True),
    ],
)
def test_recorded_order_is_read_in_every_shape(
    name: str, order_id: str, amount: str, is_paid: object
) -> None:
    """An order that is not paid is no money received."""
    order = recorded(RECORDED / f"{name}.http").order

    assert order is not None
    assert (order.order_id, order.amount, order.is_paid) == (order_id, Decimal(amount), is_paid)


@pytest.mark.parametrize("name", ["test-request", "test-request-no-key", "test-request-api-key-header"])
def test_recorded_connection_test_is_known(name: str) -> None:
    """Nothing of it is kept."""
    assert recorded(RECORDED / f"{name}.http").is_test


@pytest.mark.parametrize("name", ["lead-api-key-body", "lead-json-api-key-body"])
def test_key_in_the_body_is_found_and_taken_out(name: str) -> None:
    """It would stand in every copy of the database."""
    lead = recorded(RECORDED / f"{name}.http")

    assert lead.has_key
    assert not any(key in repr(lead) for key in KEYS)


def test_cookies_are_cut_to_those_of_the_visitor() -> None:
    """The others are of other people's services."""
    lead = recorded(RECORDED / "lead-cookies.http")

    assert b"tildauid" not in lead.kept_body
    assert b"_ym_uid" in lead.kept_body
    assert lead.marks == {"utm_source": "yandex", "utm_medium": "cpc", "utm_campaign": "весна"}


@pytest.mark.parametrize("path", LEADS, ids=lambda path: path.stem)
def test_recorded_lead_is_kept_without_what_is_nobodys_business(path: Path) -> None:
    """What is kept is read again in a replay, and shown to people."""
    lead = recorded(path)
    again = read_tilda("", lead.kept_body, is_key=KEYS.__contains__)

    assert msgspec.structs.replace(lead, has_key=False) == again
    assert hashlib.sha256(lead.kept_body).digest() == lead.digest
    assert not any(key in repr(lead) for key in KEYS)
    assert b"tildasid" not in lead.kept_body


def test_recorded_fields_are_what_the_visitor_typed() -> None:
    """They are shown to the owner under the names that the owner gave."""
    assert recorded(RECORDED / "lead-field-names.http").fields == {
        "Ваше_имя": "Анна Пример",
        "Телефон": "+7 900 000-00-00",
        "Input": "Позвоните после 18:00 & спросите Анну = меня",
        "Input_2": "строка 1\r\nстрока 2",
        "Checkbox": "yes",
        "Файл": "https://upload.example/demo/plan%20A.pdf",
    }


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.http")), ids=lambda path: path.stem)
def test_recorded_service_fields_are_not_shown_as_typed(path: Path) -> None:
    """Ids, marks, cookies, goods and keys have places of their own, or none."""
    typed = {"Name", "name", "Phone", "phone", "Email", "Checkbox", "test"}

    assert path.stem == "lead-field-names" or recorded(path).fields.keys() <= typed


def test_recorded_marks_are_read_from_their_own_fields() -> None:
    """An empty one says nothing, and a plus in a word is a plus."""
    lead = recorded(RECORDED / "lead-utm.http")

    assert lead.marks == {
        "utm_source": "yandex",
        "utm_medium": "cpc",
        "utm_campaign": "весна",
        "utm_term": "кофе+зерно",
    }
