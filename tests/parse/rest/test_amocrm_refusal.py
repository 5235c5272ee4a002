"""What amoCRM refuses decides whether we ask again, slow down, or tell a person what to do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.rest.amocrm_refusal import is_one_lead, refusal_of

LIST = Request(method="GET", path="api/v4/leads")
ONE = Request(method="GET", path="api/v4/leads/30100001")
WRITE = Request(method="PATCH", path="api/v4/leads/30100001", body={})
PROBLEM = {
    "title": "Bad Request",
    "detail": "Request validation failed",
    "validation-errors": [
        {"errors": [{"code": "NotSupportedChoice", "path": "filter", "detail": "The field is unknown."}]}
    ],
}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (301, "owner", "base_url"),
        (302, "owner", "base_url"),
        (400, "owner", "Request validation failed The field is unknown."),
        (401, "token", "long-lived token"),
        (402, "owner", "pay for it"),
        (403, "owner", "rights"),
        (404, "owner", "base_url"),
        (429, "slower", "too often"),
        (500, "again", "500"),
        (502, "again", "502"),
        (504, "again", "smaller"),
        (408, "again", "408"),
    ],
)
def test_status_is_what_the_page_says(status: int, kind: str, words: str) -> None:
    """Going on after a 429 or a 403 gets the account blocked."""
    found = refusal_of(LIST, Reply(status=status, body=json.dumps(PROBLEM).encode()))

    assert found is not None
    assert (found.kind, words in found.sentence) == (kind, True)


def test_slower_waits_a_second() -> None:
    """How long is never said."""
    found = refusal_of(LIST, Reply(status=429, body=b""))

    assert found is not None
    assert found.wait_s >= 1


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (LIST, 204, b""),
        (LIST, 200, b'{"_embedded":{"leads":[]}}'),
        (ONE, 200, b'{"id":30100001}'),
        (ONE, 204, b""),
        (ONE, 404, b'{"title":"Not found"}'),
        (WRITE, 200, b'{"id":30100001}'),
    ],
)
def test_success_is_no_refusal(request_: Request, status: int, body: bytes) -> None:
    """204 says that nothing was found, and so does 404 of one lead."""
    assert refusal_of(request_, Reply(status=status, body=body)) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"_embedded"'])
def test_answer_of_another_kind_is_no_success(body: bytes) -> None:
    """A page of a proxy must not be taken for an empty list, nor for a deleted lead."""
    for request in (LIST, ONE):
        found = refusal_of(request, Reply(status=200, body=body))

        assert found is not None
        assert found.kind == "again"


def test_writing_into_a_lead_that_is_not_there_is_told() -> None:
    """It was deleted between reading and writing."""
    absent = b'{"validation-errors":[{"errors":[{"path":"id","detail":"Element not found"}]}]}'

    for reply in (Reply(status=404, body=b""), Reply(status=400, body=absent)):
        found = refusal_of(WRITE, reply)

        assert found is not None
        assert found.kind == "gone"


def test_one_lead_is_told_from_other_addresses() -> None:
    """A wrong address answers 404 for everything."""
    paths = ["api/v4/leads/7", "api/v4/leads", "api/v4/leads/pipelines", "api/v4/account"]

    assert [is_one_lead(Request(method="GET", path=path)) for path in paths] == [True, False, False, False]


@given(st.sampled_from([LIST, ONE, WRITE]), st.integers(100, 599), st.binary())
def test_any_answer_has_a_verdict(request_: Request, status: int, body: bytes) -> None:
    """Whatever stands in between may answer anything."""
    found = refusal_of(request_, Reply(status=status, body=body))

    assert found is not None or status in (204, 404)
