"""A counter that does not fit is found before the first sale, and the sentence says what to change."""

import json
from typing import Any

import pytest

from closedloop.deliver.destinations.metrica_orders import MetricaOrdersSettings
from closedloop.deliver.metrica_counter import counter_request, judge_counter
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply

SETTINGS = MetricaOrdersSettings(counter="12345678", token="y0_secret")  # noqa: S106 - invented
GOOD: dict[str, Any] = {
    "id": 12345678,
    "name": "Shop",
    "status": "Active",
    "permission": "edit",
    "time_zone_name": "Europe/Moscow",
    "goals": [
        {"type": "action", "conditions": [{"type": "exact", "url": "deal_paid"}]},
        {"type": "url", "conditions": [{"type": "contain", "url": "thanks"}]},
    ],
}


def judged(body: object, status: int = 200) -> Verdict:
    """Return what is said of an answer."""
    reply = HttpReply(status=status, body=json.dumps(body).encode())
    return judge_counter(reply, SETTINGS, goals=["deal_paid"], timezone="Europe/Moscow")


def test_counter_is_asked_for_with_its_goals() -> None:
    """One question tells rights, time zone and goals."""
    request = counter_request(SETTINGS)

    assert request.url == "https://api-metrika.yandex.net/management/v1/counter/12345678?field=goals"
    assert request.headers == (("Authorization", "OAuth y0_secret"),)


@pytest.mark.parametrize("permission", ["own", "edit"])
def test_counter_that_fits_is_confirmed(permission: str) -> None:
    """The owner's token and one of an account that was let in."""
    found = judged({"counter": {**GOOD, "permission": permission}})

    assert (found.outcome, found.reason) == (Outcome.CONFIRMED, "the counter Shop answers")


def test_what_the_answer_leaves_out_is_not_judged() -> None:
    """Older answers have fewer fields, and a check that cries without a reason is switched off."""
    assert judged({"counter": {"id": 12345678}}).outcome is Outcome.CONFIRMED


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"status": "Deleted"}, "deleted"),
        ({"permission": "view"}, "its right is view"),
        ({"permission": "analyst"}, "its right is analyst"),
        ({"time_zone_name": "Asia/Omsk"}, "time zone is Asia/Omsk, the settings say Europe/Moscow"),
        ({"goals": []}, "identifier deal_paid"),
        ({"goals": [{"type": "url", "conditions": [{"url": "deal_paid"}]}]}, "identifier deal_paid"),
        ({"goals": [{"type": "action", "conditions": None}, 5]}, "identifier deal_paid"),
    ],
)
def test_counter_that_does_not_fit_has_its_sentence(changed: dict[str, Any], words: str) -> None:
    """Conversions of a goal that is not there vanish without an error."""
    found = judged({"counter": {**GOOD, **changed}})

    assert found.outcome is Outcome.CONFIG_BLOCKED
    assert words in found.reason


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("invalid_token", 403, Outcome.AUTH_BLOCKED),
        ("unauthorized", 401, Outcome.AUTH_BLOCKED),
        ("access_denied", 403, Outcome.CONFIG_BLOCKED),
        ("not_found", 404, Outcome.CONFIG_BLOCKED),
        ("backend_error", 503, Outcome.RETRY_LATER),
    ],
)
def test_refusal_says_what_a_person_has_to_do(kind: str, status: int, outcome: Outcome) -> None:
    """Nobody refreshes a token while a person waits at the screen."""
    assert judged({"errors": [{"error_type": kind, "message": "said"}]}, status).outcome is outcome


@pytest.mark.parametrize("body", [{}, {"counter": []}, {"counters": [GOOD]}])
def test_answer_without_a_counter_is_of_another_address(body: object) -> None:
    """A base_url with a typing mistake answers too."""
    found = judged(body)

    assert (found.outcome, "address" in found.reason) == (Outcome.CONFIG_BLOCKED, True)
