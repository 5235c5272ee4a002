"""The receiver believes what a library believes and answers by the path: destinations are tried on it."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from closedloop.deliver.destinations.url_template import UrlTemplate, UrlTemplateSettings
from closedloop.deliver.destinations.webhook import Webhook, WebhookSettings
from closedloop.domain.delivery import Outcome, Sale, Verdict
from fix_destinations import SECRET, batch, sale, send
from platforms.receiver import SignedReceiver

OTHER = "whsec_" + base64.b64encode(b"other" * 6).decode()


def now() -> datetime:
    """Return what the receiver's clock shows."""
    return datetime.now(UTC)  # noqa: TID251 - the receiver has a real one


def deliver(
    to: SignedReceiver,
    path: str,
    *,
    secrets: tuple[str, ...] = (SECRET,),
    at: datetime | None = None,
    **more: Any,  # noqa: ANN401
) -> Verdict:
    """Send a sale as a signed webhook and return the verdict."""
    settings = WebhookSettings(url=to.url + path, secrets=secrets, private_address=True)
    one = batch(sale(**more))
    [verdict] = Webhook().decode(one, send(Webhook().encode(one, settings, at or now())), settings)
    return verdict


def test_signed_webhook_is_believed(signed_receiver: SignedReceiver) -> None:
    """It is signed over the bytes that arrive."""
    assert deliver(signed_receiver, "/200").outcome == Outcome.CONFIRMED
    assert [attempt.believed for attempt in signed_receiver.attempts] == [1]


@pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET)])
def test_receiver_believes_either_secret_while_it_changes_over(
    signed_receiver: SignedReceiver, secrets: tuple[str, ...]
) -> None:
    """Nothing is lost between the two changes."""
    assert deliver(signed_receiver, "/200", secrets=secrets).outcome == Outcome.CONFIRMED


@pytest.mark.parametrize(("secret", "off"), [(OTHER, 0), (SECRET, -6), (SECRET, 6)])
def test_forged_or_stale_webhook_is_refused(signed_receiver: SignedReceiver, secret: str, off: int) -> None:
    """A fake that believes everything proves nothing."""
    verdict = deliver(signed_receiver, "/200", secrets=(secret,), at=now() + timedelta(minutes=off))

    assert verdict == Verdict(outcome=Outcome.RETRY_LATER, reason="HTTP 401: signature is wrong")


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("/302", Verdict(outcome=Outcome.RETRY_LATER, reason="HTTP 302")),
        ("/400", Verdict(outcome=Outcome.RETRY_LATER, reason="HTTP 400")),
        ("/410", Verdict(outcome=Outcome.CONFIG_BLOCKED, reason="HTTP 410")),
        ("/429?after=120", Verdict(outcome=Outcome.THROTTLED, reason="HTTP 429", wait_s=120)),
        ("/500", Verdict(outcome=Outcome.RETRY_LATER, reason="HTTP 500")),
        ("/503?after=5", Verdict(outcome=Outcome.THROTTLED, reason="HTTP 503", wait_s=5)),
        ("/slow?s=0.05", Verdict(outcome=Outcome.CONFIRMED, reason="HTTP 200")),
        ("/reset", Verdict(outcome=Outcome.RETRY_LATER, reason="no answer came")),
    ],
)
def test_receiver_answers_by_its_path(signed_receiver: SignedReceiver, path: str, verdict: Verdict) -> None:
    """Each is something that real receivers do."""
    assert deliver(signed_receiver, path) == verdict
    assert len(signed_receiver.attempts) == 1


def test_flaky_receiver_fails_for_each_message(signed_receiver: SignedReceiver) -> None:
    """Its tries are one message with one body."""
    start = now()

    outcomes = [
        deliver(signed_receiver, "/flaky?fail=2", at=start + timedelta(seconds=at)).outcome for at in range(3)
    ]
    other = deliver(signed_receiver, "/flaky?fail=2", revision=2).outcome

    assert outcomes == [Outcome.RETRY_LATER, Outcome.RETRY_LATER, Outcome.CONFIRMED]
    assert other == Outcome.RETRY_LATER
    signed_receiver.check_attempts()


def test_receiver_notices_another_body_under_one_id(signed_receiver: SignedReceiver) -> None:
    """A sender that builds its body anew has two truths for one message."""
    deliver(signed_receiver, "/200")
    deliver(signed_receiver, "/200", goal="lead")

    with pytest.raises(AssertionError, match="another body"):
        signed_receiver.check_attempts()


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/open/200", Outcome.ACCEPTED_UNVERIFIABLE),
        ("/open/302", Outcome.CONFIG_BLOCKED),
        ("/open/429?after=9", Outcome.THROTTLED),
        ("/open/500", Outcome.UNKNOWN_OUTCOME),
    ],
)
def test_postback_needs_no_signature(signed_receiver: SignedReceiver, path: str, outcome: Outcome) -> None:
    """CPA networks have none."""
    mark = "&" if "?" in path else "?"
    url = f"{signed_receiver.url}{path}{mark}e=RG%3A{{value_int}}/{{goal}};c={{click_id:rb_clickid}}"
    settings, template = UrlTemplateSettings(url=url, private_address=True), UrlTemplate()
    one = template.compile(sale(ids={"rb_clickid": "a/b;c"}), settings)
    assert isinstance(one, Sale)

    [verdict] = template.decode(batch(one), send(template.encode(batch(one), settings, now())), settings)

    assert verdict.outcome == outcome
    assert signed_receiver.calls[0].request.target.endswith("e=RG%3A12001/payment_success;c=a%2Fb%3Bc")
