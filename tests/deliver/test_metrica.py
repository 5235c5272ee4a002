"""What Metrica refuses decides whether a sale goes again, waits or wants a person; none twice, none lost."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.destinations.metrica_orders import MetricaOrdersSettings
from closedloop.deliver.fields import read_settings
from closedloop.deliver.metrica import Json, access_mistakes, count, get, post, read_answer, rows, table, text
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply
from closedloop.errors import ConfigError

SETTINGS = MetricaOrdersSettings(counter="12345678", token="y0_secret")  # noqa: S106 - invented
HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"


def error(kind: str, code: int, message: str = "said") -> bytes:
    """Return an error as Metrica writes it."""
    told = {"errors": [{"error_type": kind, "message": message}], "code": code, "message": message}
    return json.dumps(told).encode()


def verdict_of(status: int, body: bytes = b"", *, is_upload: bool = True, **more: Any) -> Verdict:  # noqa: ANN401
    """Return the verdict that an answer is."""
    reply = HttpReply(status=status, body=body, **more)
    found = read_answer(reply, SETTINGS, is_upload=is_upload)
    assert isinstance(found, Verdict)
    return found


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("backend_error", 503, Outcome.RETRY_LATER),
        ("timeout", 504, Outcome.UNKNOWN_OUTCOME),
        ("quota_requests_by_uid", 429, Outcome.THROTTLED),
        ("quota_requests_by_uid", 420, Outcome.THROTTLED),
        ("quota_requests_by_ip", 429, Outcome.THROTTLED),
        ("quota_parallel_requests", 429, Outcome.THROTTLED),
        ("quota_requests_by_counter_id", 429, Outcome.THROTTLED),
        ("quota_delegate_requests", 429, Outcome.THROTTLED),
        ("quota_grants_requests", 429, Outcome.THROTTLED),
        ("invalid_token", 403, Outcome.REAUTH),
        ("unauthorized", 401, Outcome.REAUTH),
        ("access_denied", 403, Outcome.CONFIG_BLOCKED),
        ("counter_in_connect", 403, Outcome.CONFIG_BLOCKED),
        ("not_found", 404, Outcome.CONFIG_BLOCKED),
        ("invalid_parameter", 400, Outcome.REJECT_RECORD),
        ("missing_parameter", 400, Outcome.REJECT_RECORD),
        ("invalid_json", 400, Outcome.REJECT_RECORD),
        ("invalid_uploading", 400, Outcome.REJECT_RECORD),
        ("limit_exceeded", 400, Outcome.CONFIG_BLOCKED),
        ("conflict", 409, Outcome.RETRY_LATER),
        ("not_acceptable", 406, Outcome.CONFIG_BLOCKED),
        ("query_error", 400, Outcome.REJECT_RECORD),
        ("too_much_rows", 400, Outcome.REJECT_RECORD),
        ("filter_limits", 400, Outcome.REJECT_RECORD),
    ],
)
def test_error_is_what_the_page_says(kind: str, status: int, outcome: Outcome) -> None:
    """The whole table of the protocol page, and the same inside a success."""
    assert verdict_of(status, error(kind, status)).outcome is outcome
    assert verdict_of(200, error(kind, status)).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.REJECT_RECORD),
        (401, Outcome.REAUTH),
        (403, Outcome.CONFIG_BLOCKED),
        (404, Outcome.CONFIG_BLOCKED),
        (409, Outcome.RETRY_LATER),
        (413, Outcome.REJECT_RECORD),
        (420, Outcome.THROTTLED),
        (429, Outcome.THROTTLED),
        (500, Outcome.UNKNOWN_OUTCOME),
        (503, Outcome.RETRY_LATER),
        (504, Outcome.UNKNOWN_OUTCOME),
    ],
)
@pytest.mark.parametrize("shape", [error("new_in_2027", 0), b'{"message": "said"}', b'{"errors": "none"}'])
def test_error_of_a_new_kind_goes_by_its_status(status: int, outcome: Outcome, shape: bytes) -> None:
    """Metrica may add kinds any day."""
    assert verdict_of(status, shape).outcome is outcome


@pytest.mark.parametrize("body", [HTML, b"", b"[]", b"null", b'{"uploading":{"id"', b"\xff"])
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.UNKNOWN_OUTCOME),
        (302, Outcome.RETRY_LATER),
        (403, Outcome.RETRY_LATER),
        (404, Outcome.RETRY_LATER),
        (420, Outcome.THROTTLED),
        (429, Outcome.THROTTLED),
        (500, Outcome.UNKNOWN_OUTCOME),
        (502, Outcome.UNKNOWN_OUTCOME),
        (503, Outcome.RETRY_LATER),
        (504, Outcome.UNKNOWN_OUTCOME),
    ],
)
def test_what_is_not_json_is_not_metricas_answer(status: int, outcome: Outcome, body: bytes) -> None:
    """A page of a proxy proves neither a success nor a refusal; what may have been stored is looked up."""
    assert verdict_of(status, body).outcome is outcome


def test_question_that_was_not_answered_is_asked_again() -> None:
    """It stores nothing, so there is nothing to look up."""
    answers = [(200, HTML), (500, HTML), (504, error("timeout", 504)), (0, b"")]

    found = {verdict_of(status, body, is_upload=False).outcome for status, body in answers}

    assert found == {Outcome.RETRY_LATER}


def test_no_answer_is_unknown_only_after_the_body_left() -> None:
    """Before that nobody can have stored anything."""
    assert verdict_of(0, sent=True).outcome is Outcome.UNKNOWN_OUTCOME
    assert verdict_of(0, sent=False).outcome is Outcome.RETRY_LATER


@pytest.mark.parametrize(
    ("kind", "headers", "wait_s"),
    [
        ("quota_requests_by_ip", {}, 2),
        ("quota_parallel_requests", {}, 5),
        ("quota_requests_by_counter_id", {}, 60),
        ("quota_requests_by_uid", {"date": "Tue, 24 Nov 2026 23:59:00 GMT"}, 60),
        ("quota_requests_by_uid", {"date": "Tue, 24 Nov 2026 00:00:00 GMT"}, 86_400),
        ("quota_requests_by_uid", {"date": "yesterday"}, 3600),
        ("quota_requests_by_uid", {}, 3600),
        ("quota_requests_by_ip", {"retry-after": "30"}, 30),
        ("quota_requests_by_ip", {"retry-after": "1"}, 2),
        ("quota_requests_by_ip", {"retry-after": "-5"}, 2),
        ("quota_requests_by_ip", {"retry-after": "Tue, 24 Nov 2026 23:59:00 GMT"}, 2),
        ("quota_requests_by_ip", {"retry-after": "9" * 9}, 86_400),
    ],
)
def test_throttled_says_how_long(kind: str, headers: dict[str, str], wait_s: float) -> None:
    """A day's quota comes back at midnight in Greenwich; asking before burns the next one."""
    assert verdict_of(429, error(kind, 429), headers=headers).wait_s == wait_s


def test_reason_says_what_to_do_and_never_the_token() -> None:
    """It is shown on a screen, and kept."""
    denied = verdict_of(403, error("access_denied", 403, "Access\nis denied"))
    leaky = verdict_of(403, error("invalid_token", 403, "Invalid oauth_token y0_secret" + "!" * 999))

    assert denied.reason == (
        "Metrica: Access is denied (access_denied): "
        "let its account edit the counter, and give the token metrika:read and metrika:write"
    )
    assert "y0_secret" not in leaky.reason
    assert len(leaky.reason) < 300


def test_success_is_its_object() -> None:
    """Whatever stands in it is for the destination to read."""
    body = b'{"uploading": {"id": 2147483650, "new": [1.5, null]}}'

    found = read_answer(HttpReply(status=200, body=body), SETTINGS, is_upload=True)

    assert found == {"uploading": {"id": 2147483650, "new": [1.5, None]}}


@given(st.integers(0, 999), st.binary() | st.just(error("timeout", 504)), st.booleans(), st.booleans())
def test_any_answer_is_a_success_or_a_verdict(status: int, body: bytes, sent: bool, is_upload: bool) -> None:  # noqa: FBT001
    """Whatever stands in between may answer anything, and nothing of it may stop the worker."""
    found = read_answer(HttpReply(status=status, body=body, sent=sent), SETTINGS, is_upload=is_upload)

    if isinstance(found, Verdict):
        assert found.reason
        assert is_upload or found.outcome is not Outcome.UNKNOWN_OUTCOME


def test_request_has_the_token_in_its_header_only() -> None:
    """Addresses are logged everywhere; tokens there are refused since 2019."""
    asked = get(SETTINGS, "management/v1/counter/{counter}/uploadings", {"limit": 10, "comment": "a b&c"})
    sent = post(SETTINGS, "x", {}, ("multipart/form-data; boundary=b", b"--b--"))

    assert asked.url == (
        "https://api-metrika.yandex.net/management/v1/counter/12345678/uploadings?limit=10&comment=a+b%26c"
    )
    assert (asked.method, asked.headers) == ("GET", (("Authorization", "OAuth y0_secret"),))
    assert (sent.method, sent.url) == ("POST", "https://api-metrika.yandex.net/x")
    assert dict(sent.headers)["Content-Type"] == "multipart/form-data; boundary=b"
    assert sent.body == b"--b--"


@pytest.mark.parametrize(
    "wrong",
    [
        {"counter": "12345678\n"},
        {"counter": "site.ru"},
        {"counter": ""},
        {"token": "y0_secret\n"},
        {"token": ""},
        {"token": "y0 secret"},
        {"base_url": "ftp://metrica.example"},
        {"base_url": "http://metrica.example"},
        {"base_url": "https://metrica.example/?x=1"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    """A line end behind a token, as files have, would be seen at the first sale only."""
    usual = {"counter": "12345678", "token": "y0_secret"}

    with pytest.raises(ConfigError) as caught:
        read_settings(MetricaOrdersSettings, {**usual, **wrong})

    (mistake,) = caught.value.mistakes
    assert mistake.split()[0] in wrong
    assert "y0" not in mistake.replace("y0_AgAAAA", "")


def test_address_of_a_private_network_is_meant() -> None:
    """A proxy within the own network has no certificate."""
    address = {"base_url": "http://127.0.0.1:8080/metrica", "private_address": True}

    assert list(access_mistakes(msgspec.structs.replace(SETTINGS, **address))) == []


def test_parts_of_an_answer_are_read_whatever_they_are() -> None:
    """Fields are missing in older answers, and another type must not stop the worker."""
    odd: list[Json] = [None, True, 1.5, "x", [], {}]

    assert [text(one) for one in [*odd, 7]] == ["", "", "", "x", "", "", "7"]
    assert [count(one) for one in [*odd, 7, -1]] == [None] * 6 + [7, None]
    assert [table(one) for one in [*odd, {"a": 1}]] == [{}] * 6 + [{"a": 1}]
    assert [rows(one) for one in odd] == [[]] * 6
    assert rows([{"a": 1}, 5]) == [{"a": 1}]


def test_quota_of_the_day_ends_at_midnight_in_greenwich() -> None:
    """Whatever zone the answer's date is in."""
    asked = datetime(2026, 11, 24, 22, tzinfo=UTC)
    headers = {"date": "Wed, 25 Nov 2026 01:00:00 +0300"}

    waits = verdict_of(429, error("quota_requests_by_uid", 429), headers=headers).wait_s

    assert waits == (datetime(2026, 11, 25, tzinfo=UTC) - asked).total_seconds()
