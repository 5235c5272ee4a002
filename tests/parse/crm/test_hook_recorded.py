"""Each recorded request of an integrator or a robot must give what its sender meant."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.money import decimal_text
from closedloop.errors import CallerError
from closedloop.parse.crm.hook import HookRequest, read_conversions

RECORDED = Path(__file__).resolve().parents[2] / "recorded"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"
YM_UID = "1741000000123456789"

MISSING: dict[str, object] = {
    "session_id": None, "ym_uid": None, "goal": "crm_conversion", "value": None, "currency": None,
    "deal_id": None, "event_id": None, "occurred_at": None, "phone": None, "email": None, "click_ids": {},
    "site": None,
}  # fmt: skip
AT_UTC = "2025-03-08T12:20:00+00:00"
AT_MOSCOW = "2025-03-08T15:20:00+03:00"


def paid(**other: object) -> dict[str, object]:
    """Return the reading of most recordings, with what is different in this one."""
    return {"session_id": SESSION, "goal": "payment_success", "value": "5000", "deal_id": "662"} | other


EXPECTED: dict[str, dict[str, object]] = {
    "integrators/make-json": paid(value="5000.5", currency="RUB", occurred_at=AT_UTC),
    "integrators/make-form": paid(currency="RUB", phone="+70000000001"),
    "integrators/zapier-json": paid(goal="Deal Won", currency="USD", occurred_at=AT_MOSCOW),
    "integrators/zapier-replay-same-body": paid(goal="Deal Won", currency="USD", occurred_at=AT_MOSCOW),
    "integrators/zapier-form-missing-empty": paid(goal="Deal Won", value="1245.50", deal_id="664"),
    "integrators/n8n-json": paid(session_id=None, ym_uid=YM_UID, currency="RUB"),
    "integrators/n8n-ym-uid-already-rounded": paid(session_id=None, ym_uid="1741000000123456800"),
    "integrators/n8n-axios-form": paid(),
    "integrators/albato-json-all-strings": paid(
        ym_uid=YM_UID, goal="Успешно реализовано", currency="RUB", occurred_at=AT_MOSCOW
    ),
    "integrators/apix-drive-form-nbsp": paid(value="1245000.50", currency="RUB"),
    "integrators/get-query-only": paid(
        goal="Завершен", value="13300", deal_id="15", email="buyer@mail.example", occurred_at=AT_MOSCOW
    ),
    "integrators/json-as-text-plain-bom": paid(),
    "bitrix24/robot-deal-won": paid(currency="RUB"),
    "bitrix24/robot-deal-money-field": paid(ym_uid=YM_UID, currency="RUB", occurred_at=AT_MOSCOW),
    "bitrix24/robot-lead-cyrillic-empty": {
        "goal": "Лид в работе",
        "deal_id": "LEAD_365",
        "phone": "+70000000001",
    },
    "bitrix24/robot-smart-process": {
        "session_id": SESSION,
        "goal": "contract_signed",
        "deal_id": "DYNAMIC_1032_21",
    },
    "bitrix24/robot-ampersand-in-value": paid(goal="Кофе"),
}
REFUSED = {
    "integrators/make-broken-json-empty-number": ("goal_value", "position 96"),
    "integrators/make-broken-json-quote-in-name": ("title", "position 81"),
    "integrators/zapier-nested-foreign-keys": ("session_id", "Missing session_id or ym_uid"),
    "integrators/n8n-undefined-session": ("session_id", "Missing session_id or ym_uid"),
    "integrators/unsubstituted-placeholder": ("session_id", "Missing session_id or ym_uid"),
    "bitrix24/robot-literal-placeholder": ("session_id", "Missing session_id or ym_uid"),
    "bitrix24/robot-no-query": ("session_id", "Missing session_id or ym_uid"),
}


def recorded(name: str) -> HookRequest:
    """Return one of the recorded requests."""
    head, _, body = (RECORDED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    labels = [line[14:] for line in headers if line.startswith(b"Content-Type: ")]
    query = first.split(b" ")[1].partition(b"?")[2]
    return HookRequest(query=query, content_type=b"".join(labels).decode(), body=body)


def shown(told: ReportedConversion) -> dict[str, object]:
    """Return the fields of a conversion as the table of expectations writes them."""
    fields: dict[str, object] = {key: getattr(told, key) for key in MISSING}
    fields["value"] = None if told.value is None else decimal_text(told.value)
    fields["occurred_at"] = None if told.occurred_at is None else told.occurred_at.isoformat()
    return fields


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_request_is_read_as_its_sender_meant(name: str) -> None:
    """These bytes are what the tools of our users really send (tests/recorded/README.md)."""
    reading = read_conversions(recorded(name), zone=MOSCOW, now=NOW)

    assert [shown(told) for told in reading.conversions] == [MISSING | EXPECTED[name]]
    assert not reading.is_array


@pytest.mark.parametrize("name", REFUSED)
def test_recorded_mistake_is_refused_with_its_place(name: str) -> None:
    """The owner of the CRM reads this sentence and must find the field."""
    key, words = REFUSED[name]

    with pytest.raises(CallerError) as caught:
        read_conversions(recorded(name), zone=MOSCOW, now=NOW)

    assert caught.value.key == key
    assert words in str(caught.value)


def test_every_recorded_request_has_its_expectation() -> None:
    """A recording without one proves nothing."""
    files = [*RECORDED.glob("integrators/*.http"), *RECORDED.glob("bitrix24/robot-*.http")]

    assert {f"{file.parent.name}/{file.stem}" for file in files} == EXPECTED.keys() | REFUSED.keys()
