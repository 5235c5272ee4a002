"""A signed webhook is verified by everybody's library, and its answers mean what the specification says."""

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Oracle
from standardwebhooks import WebhookVerificationError

from closedloop.deliver.base import Batch
from closedloop.deliver.destinations.webhook import Webhook, WebhookData, WebhookSettings, message_id
from closedloop.domain.delivery import Outcome, Sale, Skipped
from closedloop.domain.exchange import HttpReply, HttpRequest
from fix_destinations import EMAIL, NOW, PHONE, SALES, SECRET, batch, sale, told
from fix_tools import REPOSITORY

WEBHOOK = Webhook()
SETTINGS = WebhookSettings(url="https://shop.example/hook", secrets=(SECRET,))
OLD_SECRET = "whsec_" + base64.b64encode(b"old" * 8).decode()


def encoded(one: Sale, settings: WebhookSettings = SETTINGS, now: datetime = NOW) -> HttpRequest:
    """Return the request for one sale."""
    return WEBHOOK.encode(batch(one), settings, now)


def body_of(one: Sale, settings: WebhookSettings = SETTINGS) -> dict[str, Any]:
    """Return the body of its request."""
    body: dict[str, Any] = msgspec.json.decode(encoded(one, settings).body)
    return body


def test_body_is_that_of_the_reference() -> None:
    """Whoever writes a receiver has nothing but that page."""
    page = (REPOSITORY / "docs" / "reference" / "webhook.md").read_text()
    example = page.partition("```json")[2].partition("```")[0]
    one = sale(
        match="session_id",
        deal_created_at=NOW - timedelta(days=2),
        ids={"yclid": "1234567890123456789", "session_id": "s-1", "ym_uid": "1741000000123456789"},
        phones=[PHONE],
        emails=[EMAIL],
    )

    assert body_of(one, msgspec.structs.replace(SETTINGS, contacts=True)) == msgspec.json.decode(example)


def test_library_verifies_what_is_sent_now() -> None:
    """Receivers use it, and refuse what is older than five minutes."""
    request = encoded(sale(), now=datetime.now(UTC))  # noqa: TID251 - the library has its own clock

    body = Oracle(SECRET).verify(request.body, dict(request.headers))
    assert body["data"]["deal_id"] == "662"


def test_changed_body_is_not_verified() -> None:
    """A value that was changed on the way is money."""
    request = encoded(sale(), now=datetime.now(UTC))  # noqa: TID251 - the library has its own clock

    with pytest.raises(WebhookVerificationError):
        Oracle(SECRET).verify(request.body.replace(b"12000", b"92000"), dict(request.headers))


def test_reference_and_guide_name_every_field() -> None:
    """A field that nobody knows of is not there."""
    page = (REPOSITORY / "docs" / "reference" / "webhook.md").read_text()
    guide = (REPOSITORY / "docs" / "ru" / "webhook.md").read_text()

    assert [name for name in WebhookData.__struct_fields__ if f"| `{name}` |" not in page] == []
    assert [name for name in WebhookSettings.__struct_fields__ if f"| `{name}` |" not in guide] == []


@given(SALES, st.integers(0, 2**32))
def test_signature_is_over_the_exact_bytes(one: Sale, stamp: int) -> None:
    """Whatever a CRM put into a deal."""
    now = datetime.fromtimestamp(stamp, UTC)
    request = encoded(one, now=now)
    headers = dict(request.headers)

    signed = Oracle(SECRET).sign(headers["webhook-id"], now, request.body.decode())
    assert headers["webhook-signature"] == signed
    assert headers["webhook-timestamp"] == str(stamp)


def test_all_secrets_sign_the_newest_first() -> None:
    """While a receiver changes over, it may know either."""
    settings = msgspec.structs.replace(SETTINGS, secrets=(SECRET, OLD_SECRET))
    request = encoded(sale(), settings)
    headers = dict(request.headers)

    signed = [
        Oracle(secret).sign(headers["webhook-id"], NOW, request.body.decode()) for secret in settings.secrets
    ]
    assert headers["webhook-signature"] == " ".join(signed)


@given(SALES, st.integers(1, 10**6))
def test_same_state_has_the_same_id_and_body_on_every_try(one: Sale, later_s: int) -> None:
    """By the id a receiver knows a repeated message for one; the signature is of the attempt."""
    first, second = encoded(one), encoded(one, now=NOW + timedelta(seconds=later_s))

    assert first.body == second.body
    assert first.headers[:2] == second.headers[:2]
    assert first.headers[2:] != second.headers[2:]


def test_another_state_has_another_id() -> None:
    """A receiver would take it for a repetition."""
    others = [sale(), sale(revision=2), sale(delivery_id=sale().conversion_id), sale(conversion_id=NOW)]

    ids = {message_id(one) for one in others}
    assert len(ids) == len(others)
    assert all("." not in one and one.startswith("msg_") for one in ids)


def test_ids_in_another_order_are_the_same_bytes() -> None:
    """A database does not keep the order, and a repetition must be one."""
    one, other = {"yclid": "1", "fbp": "2"}, {"fbp": "2", "yclid": "1"}

    assert encoded(sale(ids=one)).body == encoded(sale(ids=other)).body


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (sale(), "conversion.created"),
        (sale(revision=2, told=told(value=Decimal(9000))), "conversion.changed"),
        (sale(revision=2, told=told(), is_cancelled=True), "conversion.cancelled"),
        (sale(revision=3, told=told(is_cancelled=True)), "conversion.reinstated"),
        (sale(attempt=1, is_cancelled=True), "conversion.cancelled"),
        (sale(told=told()), "conversion.changed"),
    ],
)
def test_type_says_what_has_happened(one: Sale, kind: str) -> None:
    """Receivers branch on it."""
    assert body_of(one)["type"] == kind


@pytest.mark.parametrize(
    ("value", "text"),
    [("12000.50", "12000.50"), ("5000.00", "5000"), ("0.000001", "0.000001"), ("1E+3", "1000")],
)
def test_value_is_exact_text(value: str, text: str) -> None:
    """A float would change the last digit of somebody's money."""
    assert body_of(sale(value=Decimal(value)))["data"]["value"] == text


def test_contacts_are_hashed_and_only_if_asked() -> None:
    """They are nobody's business but the owner's."""
    one = sale(phones=[PHONE], emails=[EMAIL])

    data = body_of(one)["data"]
    asked = body_of(one, msgspec.structs.replace(SETTINGS, contacts=True))["data"]
    assert set(asked) - set(data) == {"phones_sha256", "emails_sha256"}
    assert asked["phones_sha256"] == ["091ac1171e8604ddd5e44aff4e22ec2d0d3befacd58079360a4be2ea6767f7e6"]


def test_only_news_of_chosen_goals_are_sent() -> None:
    """The receiver asked for payments, and for each once."""
    settings = msgspec.structs.replace(SETTINGS, only_goals=("payment_success",))

    assert WEBHOOK.compile(sale(), settings) == sale()
    assert isinstance(WEBHOOK.compile(sale(goal="lead"), settings), Skipped)
    assert isinstance(WEBHOOK.compile(sale(told=told()), settings), Skipped)


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Outcome.CONFIRMED),
        (202, {}, Outcome.CONFIRMED),
        (204, {}, Outcome.CONFIRMED),
        (410, {}, Outcome.CONFIG_BLOCKED),
        (429, {"retry-after": "120"}, Outcome.THROTTLED),
        (429, {}, Outcome.THROTTLED),
        (503, {"retry-after": "120"}, Outcome.THROTTLED),
        *[(status, {}, Outcome.RETRY_LATER) for status in (0, 301, 302, 307, 400, 401, 404, 408)],
        *[(status, {}, Outcome.RETRY_LATER) for status in (500, 502, 503, 504, 599)],
    ],
)
def test_answer_means_what_the_specification_says(
    status: int, headers: dict[str, str], outcome: Outcome
) -> None:
    """A 404 may be a deployment that takes a minute, a 410 is meant."""
    [verdict] = WEBHOOK.decode(batch(), HttpReply(status=status, headers=headers), SETTINGS)

    assert verdict.outcome == outcome
    assert verdict.wait_s == (120 if headers else None)


def test_every_sale_of_a_batch_has_a_verdict() -> None:
    """The engine counts them."""
    several = Batch(batch_id="0" * 32, sales=[sale(), sale(revision=2)])

    assert len(WEBHOOK.decode(several, HttpReply(status=200), SETTINGS)) == 2


def test_lost_answer_is_repeated_for_days() -> None:
    """The id makes it harmless, and a server may be down over a weekend."""
    terms = WEBHOOK.terms(SETTINGS)

    assert (terms.repeat_lost_answer, terms.window, terms.attempts) == (True, None, 20)


def test_trial_tells_nothing_of_anybody() -> None:
    """It is sent before anything is in order."""
    request = WEBHOOK.check(SETTINGS, NOW)

    assert request is not None
    assert (
        request.body == b'{"type":"closedloop.test","timestamp":"2026-11-24T10:00:00Z","data":{"version":1}}'
    )


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, Outcome.CONFIRMED),
        (302, Outcome.CONFIG_BLOCKED),
        (401, Outcome.CONFIG_BLOCKED),
        (404, Outcome.CONFIG_BLOCKED),
        (429, Outcome.THROTTLED),
        (500, Outcome.RETRY_LATER),
        (0, Outcome.RETRY_LATER),
    ],
)
def test_refused_trial_is_the_owners_to_mend(status: int, outcome: Outcome) -> None:
    """Whoever tries the settings wants to hear what is wrong with them."""
    assert WEBHOOK.judge(HttpReply(status=status), SETTINGS).outcome == outcome


@pytest.mark.parametrize("secret", ["whsec_", "hunter2", "whsec_c2hvcnQ="])
def test_secret_that_protects_nothing_is_a_mistake(secret: str) -> None:
    """Anybody could sign with it; the sentence must not show a real one."""
    told_of = list(WebhookSettings(url=SETTINGS.url, secrets=(SECRET, secret)).mistakes())

    assert told_of == [("secrets[1]", "must be whsec_ and base64 of at least 24 bytes")]


def test_address_without_tls_is_a_mistake() -> None:
    """But in a private network."""
    open_address = WebhookSettings(url="http://10.0.0.1/hook", secrets=(SECRET,))

    assert [key for key, _ in open_address.mistakes()] == ["url"]
    assert list(msgspec.structs.replace(open_address, private_address=True).mistakes()) == []
