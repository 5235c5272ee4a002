"""Every recorded request of amoCRM gives its notices, and a damaged one a sentence at worst."""

# ruff: noqa: RUF001 - owners name their fields in Russian

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.deal import Deal, Finding
from closedloop.errors import CallerError, UntrustedError
from closedloop.parse.base import CrmRequest, Trust
from closedloop.parse.crm.amocrm import AmoAccount, AmoCrmWebhooks, AmoEvent, read_account, read_events
from fix_tools import REPOSITORY

RECORDED = REPOSITORY / "tests" / "recorded" / "amocrm"
NOW = datetime(2025, 3, 8, 13, tzinfo=UTC)
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"
CLIENT = "1741000000123456789"
Row = tuple[str, str, str | None, str | None]

# Number, kind, outcome and value of each notice.
TOLD: dict[str, list[Row]] = {
    "contact-update-phone-email": [("30100001", "changed", None, None)],
    "digital-pipeline-add": [("30100006", "changed", "open", None)],
    "digital-pipeline-status": [("30100001", "changed", "won", None)],
    "lead-add-tracking-fields": [("30100001", "changed", "open", "0")],
    "lead-delete": [("30100005", "deleted", None, None)],
    "lead-delete-2016": [("52370001", "deleted", None, None)],
    "lead-note": [],
    "lead-responsible": [("30100001", "changed", "open", "4500")],
    "lead-restore": [("30100005", "changed", "open", "700")],
    "lead-status-2016": [("31920001", "changed", "open", "1000")],
    "lead-status-lost": [("30100002", "changed", "lost", "0")],
    "lead-status-two-leads": [("30100003", "changed", "won", "12000"), ("30100004", "changed", "lost", "0")],
    "lead-status-won": [("30100001", "changed", "won", "5000")],
    "lead-status-won-redelivery": [("30100001", "changed", "won", "5000")],
    "lead-update-account-last": [("30100001", "changed", "open", "4500")],
    "lead-update-field-shapes": [("30100008", "changed", "open", "100.5")],
    "salesbot-widget-request": [],
    "unsorted-accept": [("30100007", "changed", None, None)],
    "unsorted-add": [],
}


def webhook(body: bytes) -> CrmRequest:
    """Return a webhook with this body."""
    return CrmRequest(content_type="application/x-www-form-urlencoded", body=body, received_at=NOW)


def body_of(name: str) -> bytes:
    """Return the body of a recorded request."""
    return (RECORDED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]


def recorded(name: str) -> CrmRequest:
    """Return a recorded webhook."""
    return webhook(body_of(name))


def deal_of(name: str) -> Deal:
    """Return the only deal of a recorded webhook."""
    (notice,) = AmoCrmWebhooks().read(recorded(name)).notices
    assert notice.deal is not None
    return notice.deal


def test_won_lead_is_the_whole_deal() -> None:
    """An owner who gives us no token for the API has nothing but this."""
    assert deal_of("lead-status-won") == Deal(
        crm="amocrm",
        deal_id="30100001",
        title="Заявка с сайта",
        funnel="4500001",
        stage="142",
        outcome="won",
        passed=("41000003", "142"),
        value=Decimal(5000),
        fields={
            "Сессия сайта": SESSION,
            "500101": SESSION,
            "_ym_uid": CLIENT,
            "_YM_UID": CLIENT,
            "500102": CLIENT,
            "roistat": "139919",
            "ROISTAT": "139919",
            "500103": "139919",
            "Тип программы": "Стандарт",
            "500104": "Стандарт",
            "Дата оплаты": "1741381200",
            "500105": "1741381200",
        },
        created_at=datetime(2025, 3, 3, 11, 6, 40, tzinfo=UTC),
        changed_at=datetime(2025, 3, 8, 12, 20, tzinfo=UTC),
        closed_at=datetime(2025, 3, 8, 12, 20, tzinfo=UTC),
        findings=(
            Finding(kind="session_id", value=SESSION, place="deal 30100001, Сессия сайта"),
            Finding(kind="ym_uid", value=CLIENT, place="deal 30100001, _YM_UID"),
        ),
    )


@pytest.mark.parametrize(("name", "told"), TOLD.items())
def test_recorded_webhook_says_what_happened(name: str, told: list[Row]) -> None:
    """Each is a shape that real accounts have sent; a new recording has to be added here."""
    read = [
        (notice.deal_id, notice.kind, deal and deal.outcome, deal and deal.value)
        for notice in AmoCrmWebhooks().read(recorded(name)).notices
        for deal in [notice.deal]
    ]

    assert read == [(*row[:3], None if row[3] is None else Decimal(row[3])) for row in told]


def test_every_recording_has_its_expectation() -> None:
    """A recording without one tests nothing."""
    assert sorted(TOLD) == sorted(path.stem for path in RECORDED.glob("*.http"))


def test_field_shapes_are_texts() -> None:
    """A goal's value may come from any of them; choices are joined, dates have no level of their own."""
    fields = deal_of("lead-update-field-shapes").fields

    assert [fields[name] for name in ("Число", "Мультисписок", "Дата", "Адрес", "500211")] == [
        "280.00",
        "Красный; Синий",
        "1741381200",
        "ул. Примерная, 1; Примерск",
        "1234.5",
    ]
    assert "UTM_TERM" not in fields


def test_best_finding_comes_first() -> None:
    """A field of the owner's own name for it comes before a landing page's address."""
    found = deal_of("lead-add-tracking-fields").findings

    assert {told.kind for told in found} == {"session_id", "ym_uid", "yclid", "gclid"}
    assert next(told.place for told in found if told.kind == "yclid") == "deal 30100001, YCLID"


def test_recorded_note_is_told_of_its_lead() -> None:
    """Its date is a text and no moment."""
    assert read_events(recorded("lead-note")) == [
        AmoEvent(key="leads[note][0]", entity="lead", action="note", id="30100001", lead_ids=("30100001",))
    ]


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("salesbot-widget-request", AmoAccount(id="30000002", subdomain="betastore")),
        ("lead-status-2016", AmoAccount(subdomain="oldshop")),
        ("lead-update-account-last", AmoAccount(id="30000001", subdomain="alfashop")),
    ],
)
def test_recorded_account_is_told(name: str, account: AmoAccount) -> None:
    """In front or behind, in part or in a token."""
    assert read_account(recorded(name)) == account


@pytest.mark.parametrize(
    ("name", "accounts", "kind"),
    [
        ("lead-status-won", [], None),
        ("lead-status-won", ["30000001"], None),
        ("lead-status-won", ["1", "AlfaShop"], None),
        ("lead-status-won", ["30000002", "betastore"], "foreign"),
        ("lead-status-2016", ["30000001"], "foreign"),
        ("salesbot-widget-request", ["betastore"], None),
        ("salesbot-widget-request", ["alfashop"], "foreign"),
    ],
)
def test_foreign_account_is_not_believed(name: str, accounts: list[str], kind: str | None) -> None:
    """The wrong account's deals would be counted as the shop's own."""
    trust = Trust(has_key=True, accounts=accounts)

    if kind is None:
        AmoCrmWebhooks().check(recorded(name), trust)
        return
    with pytest.raises(UntrustedError) as caught:
        AmoCrmWebhooks().check(recorded(name), trust)

    assert caught.value.kind == kind


BODIES = [body_of(path.stem) for path in sorted(RECORDED.glob("*.http"))]
PIECES = st.sampled_from(
    [b"&", b"=", b"[", b"]", b"%5B", b"%5D", b"[0]", b"{", b'"', b"%ff", b"\0", b"id", b"9" * 30]
)


@given(st.data())
def test_damaged_webhook_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever happens to a body on its way, the answer is a reading or a sentence."""
    body = data.draw(st.sampled_from(BODIES))
    for _ in range(data.draw(st.integers(1, 4))):
        start, end = sorted(data.draw(st.lists(st.integers(0, len(body)), min_size=2, max_size=2)))
        body = body[:start] + data.draw(PIECES | st.binary(max_size=3)) + body[min(end, start + 40) :]

    adapter = AmoCrmWebhooks()
    adapter.check(webhook(body), Trust(has_key=True))
    try:
        told = adapter.read(webhook(body))
    except CallerError:
        return

    assert all(notice.deal_id.isdigit() for notice in told.notices)
