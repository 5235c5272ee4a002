"""Every recorded request of Tilda gives its lead; nothing of the key or of foreign cookies is left in it."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import CallerError
from closedloop.parse.crm.tilda import TildaLead, read_tilda
from fix_tools import REPOSITORY

RECORDED = REPOSITORY / "tests" / "recorded" / "tilda" / "webhook"
KEYS = {"demo-url-key-41", "demo-header-key-41"}
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"
CLIENT = "1741000000123456789"
FORM = "application/x-www-form-urlencoded"


def is_key(text: str) -> bool:
    """Return whether this is one of the site's keys."""
    return text in KEYS


def recorded(path: Path) -> TildaLead:
    """Return the lead of a recorded request."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    labels = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return read_tilda(labels["Content-Type"], body, is_key=is_key)


def form(**fields: str) -> TildaLead:
    """Return the lead of a form with these fields."""
    return read_tilda(FORM, urlencode(fields).encode(), is_key=is_key)


LEADS = sorted(path for path in RECORDED.glob("*.http") if not path.name.startswith("test-request"))


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


def test_what_is_mistyped_is_not_known_and_nothing_is_refused() -> None:
    """A lead is money; a slip of the finger in a phone is not ours to judge."""
    lead = form(Phone="12", Email="anna@", ym_uid="1.7e18", session_id="{{session}}", tranid="7:1")

    assert (lead.phone, lead.email, lead.ym_uid, lead.session_id) == (None, None, None, None)
    assert lead.transaction_id == "7:1"


def test_code_of_a_messenger_is_found_in_any_field() -> None:
    """A visitor pastes it where there is room."""
    assert form(Textarea="Здравствуйте, код ta_0123456789ab").code == "ta_0123456789ab"


ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
LABELS = [FORM, "application/json", "multipart/form-data; boundary=a", ""]


@given(st.binary(max_size=300), st.sampled_from(LABELS))
def test_any_body_is_read_or_refused(body: bytes, label: str) -> None:
    """The address is open to the internet, once the key is known to a bot."""
    try:
        lead = read_tilda(label, body, is_key=is_key)
    except CallerError:
        return

    assert "\0" not in repr(lead.fields)


@given(st.dictionaries(ANY_TEXT.filter(str.strip), ANY_TEXT, max_size=6))
def test_kept_body_gives_the_same_lead(fields: dict[str, str]) -> None:
    """A replay must not find another lead, nor the key."""
    told: dict[str, Any] = {**fields, "k": "demo-url-key-41"}

    lead = read_tilda(FORM, urlencode(told).encode(), is_key=is_key)
    again = read_tilda(FORM, lead.kept_body, is_key=is_key)

    assert lead.has_key
    assert msgspec.structs.replace(lead, has_key=False) == again


def test_json_that_is_no_object_is_refused() -> None:
    """It says nothing that could be kept."""
    with pytest.raises(CallerError):
        read_tilda("application/json", json.dumps([1, 2]).encode(), is_key=is_key)
