"""What Bitrix24 refuses decides whether we ask again, slow down, or tell a person what to do."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.base import Refusal
from closedloop.parse.rest.bitrix24_refusal import refusal_of

SINGLE = Request(method="POST", path="crm.item.update", body={"id": 1})
BATCH = Request(method="POST", path="batch", body={"halt": 0, "cmd": {"p0": "x", "may_lead_0": "y"}})


def refused(status: int, told: Any, request: Request = SINGLE) -> Refusal | None:  # noqa: ANN401 - any JSON
    """Return what is made of an answer."""
    return refusal_of(request, Reply(status=status, body=json.dumps(told).encode()))


def in_batch(name: str, code: str, description: str = "", **further: object) -> Refusal | None:
    """Return what is made of a batch of which one command was refused."""
    errors = {name: {"error": code, "error_description": description}}
    results: dict[str, list[str]] = {other: [] for other in ("p0", "may_lead_0") if other != name}
    return refused(200, {"result": {"result": results, "result_error": errors, **further}}, BATCH)


@pytest.mark.parametrize(
    ("status", "code", "description", "kind", "words"),
    [
        (400, "", "Not found", "gone", "not there"),
        (400, "NOT_FOUND", "Element not found", "gone", "not there"),
        (400, "", "Access denied", "owner", "rights"),
        (400, "", "ID is not defined or invalid", "owner", "ID is not defined"),
        (400, "ACCESS_DENIED", "", "owner", "rights"),
        (400, "INVALID_REQUEST", "Https required", "owner", "https"),
        (401, "NO_AUTH_FOUND", "Wrong authorization data", "owner", "new incoming webhook"),
        (401, "INVALID_CREDENTIALS", "Invalid request credentials", "owner", "new incoming webhook"),
        (401, "expired_token", "", "token", "expired"),
        (403, "INVALID_CREDENTIALS", "", "owner", "rest_url"),
        (403, "insufficient_scope", "", "owner", "permission CRM"),
        (403, "user_access_error", "", "owner", "administrator"),
        (403, "allowed_only_intranet_user", "", "owner", "employee"),
        (403, "ACCESS_DENIED", "REST API is available only on commercial plans", "owner", "plan"),
        (401, "ACCESS_DENIED", "REST is available only by subscription", "owner", "subscription"),
        (429, "OPERATION_TIME_LIMIT", "Method is blocked", "slower", "ten minutes"),
        (500, "INTERNAL_SERVER_ERROR", "Internal server error", "again", "failed"),
        (500, "ERROR_UNEXPECTED_ANSWER", "", "again", "failed"),
        (500, "PORTAL_DELETED", "", "owner", "closed"),
        (403, "PORTAL_DELETED", "Portal was deleted", "owner", "closed"),
        (503, "QUERY_LIMIT_EXCEEDED", "Too many requests", "slower", "too often"),
        (503, "OVERLOAD_LIMIT", "REST API is blocked due to overload", "owner", "support"),
        (404, "ERROR_METHOD_NOT_FOUND", "Method not found!", "owner", "rest_url"),
        (200, "QUERY_LIMIT_EXCEEDED", "Too many requests", "slower", "too often"),
        (200, "NOT_FOUND", "", "gone", "not there"),
        (400, 0, "SHIPMENT_DOCUMENT entity is not supported", "owner", "SHIPMENT_DOCUMENT"),
        (418, "", "", "owner", "418"),
    ],
)
def test_error_is_what_the_page_says(
    status: int, code: object, description: str, kind: str, words: str
) -> None:
    """Each row of the table of errors, and what newer pages say of the same codes under other statuses."""
    found = refused(status, {"error": code, "error_description": description})

    assert found is not None
    assert found.kind == kind
    assert words in found.sentence


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, "owner"),
        (301, "owner"),
        (404, "owner"),
        (401, "owner"),
        (429, "slower"),
        (502, "again"),
        (200, "again"),
    ],
)
def test_answer_without_json_goes_by_its_status(status: int, kind: str) -> None:
    """Proxies and renamed portals answer pages."""
    found = refusal_of(SINGLE, Reply(status=status, body=b"<html>"))

    assert found is not None
    assert found.kind == kind


def test_success_is_no_refusal() -> None:
    """An empty result is one, too."""
    assert refused(200, {"result": {"item": {"id": 1}}, "time": {}}) is None
    assert refused(200, {"result": []}) is None
    assert (
        refused(200, {"result": {"result": {"p0": [], "may_lead_0": []}, "result_error": []}}, BATCH) is None
    )


def test_blocked_method_waits_for_its_reset() -> None:
    """The portal says when, by its own clock; ours may be wrong."""
    times = {"operating_reset_at": 1741436520, "finish": 1741436403.4}

    found = refused(429, {"error": "OPERATION_TIME_LIMIT", "error_description": "", "time": times})

    assert found is not None
    assert found.wait_s == pytest.approx(116.6)


def test_blocked_method_that_tells_no_reset_waits_ten_minutes() -> None:
    """Asking again earlier prolongs nothing and gains nothing."""
    found = refused(429, {"error": "OPERATION_TIME_LIMIT", "error_description": ""})

    assert found is not None
    assert found.wait_s == 600


def test_limit_inside_a_batch_is_a_limit() -> None:
    """The whole batch answers 200, and the leads would be missing."""
    found = in_batch("may_lead_0", "QUERY_LIMIT_EXCEEDED")

    assert found is not None
    assert found.kind == "slower"


def test_work_time_inside_a_batch_waits_for_its_reset() -> None:
    """Times stand beside the answers of the commands."""
    times = {"may_lead_0": {"operating_reset_at": 1741436463, "finish": 1741436403}}

    found = in_batch("may_lead_0", "OPERATION_TIME_LIMIT", result_time=times)

    assert found is not None
    assert found.wait_s == 60


@pytest.mark.parametrize("code", ["ACCESS_DENIED", "NOT_FOUND", "INVALID_ARG_VALUE"])
def test_command_that_may_fail_does_not_fail_the_batch(code: str) -> None:
    """A portal without leads refuses to list them, and its deals are read all the same."""
    assert in_batch("may_lead_0", code) is None


def test_command_that_must_not_fail_fails_the_batch() -> None:
    """A sweep that may not see the deals would otherwise find that there are none."""
    found = in_batch("p0", "ACCESS_DENIED")

    assert found is not None
    assert found.kind == "owner"


@pytest.mark.parametrize("result", [{}, [], {"result": {"p0": []}}, {"result": []}, None])
def test_answer_that_lacks_a_command_is_no_success(result: object) -> None:
    """Silence is not an empty list."""
    found = refused(200, {"result": result}, BATCH)

    assert found is not None
    assert found.kind == "again"


@given(st.integers(100, 599), st.binary())
def test_any_answer_has_a_verdict(status: int, body: bytes) -> None:
    """Whatever stands in between may answer anything; none of it is taken for a success."""
    found = refusal_of(SINGLE, Reply(status=status, body=body))

    assert found is not None
    assert found.sentence
