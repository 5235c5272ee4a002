"""Every recorded request of Tilda gives its lead; nothing of the key or of foreign cookies is left in it."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

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
