"""What platforms answer is read for people and for the queue, whatever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.answers import MAX_EXCERPT, MAX_WAIT_S, is_page, verdict_of, wait_of, words_of
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply

DATE = "Tue, 24 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "99999999"}, MAX_WAIT_S),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "١٢"}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "Tue, 24 Nov 2026 10:02:00 GMT", "date": DATE}, 120),
        ({"retry-after": "Tue, 24 Nov 2026 10:02:00 -0000", "date": DATE}, 120),
        ({"retry-after": "Tue, 24 Nov 2020 10:02:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Tue, 24 Nov 2026 10:02:00 GMT"}, None),
    ],
)
def test_wait_is_what_the_platform_asks_for(headers: dict[str, str], wait_s: float | None) -> None:
    """Whoever asks for peace and gets none closes the door."""
    assert wait_of(HttpReply(status=429, headers=headers)) == wait_s


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (HttpReply(status=0), "no answer came"),
        (HttpReply(status=0, sent=False), "no connection"),
        (HttpReply(status=204), "HTTP 204"),
        (HttpReply(status=500, body=b'{"error":\n "no\x00 \x1b[31m"}'), 'HTTP 500: {"error": "no [31m"}'),
        (
            HttpReply(
                status=502, body=b"<html><head><title>502 Bad\nGateway</title></head><body>nginx</body>"
            ),
            "HTTP 502: 502 Bad Gateway",
        ),
        (HttpReply(status=404, body=b"<body><h1>Not</h1><p>found</p>"), "HTTP 404: Not found"),
        (HttpReply(status=400, body=b"token=hunter2 is wrong"), "HTTP 400: token=*** is wrong"),
        (HttpReply(status=400, body=b"\xff" + "Жди".encode()), "HTTP 400: \ufffdЖди"),
    ],
)
def test_answer_is_one_line_for_people(reply: HttpReply, words: str) -> None:
    """It stands in the journal and on a screen, and must hold no key."""
    assert words_of(reply, ["hunter2", ""]) == words


@pytest.mark.parametrize(
    ("reply", "is_html"),
    [
        (HttpReply(status=200, headers={"content-type": "text/html; charset=utf-8"}, body=b"OK"), True),
        (HttpReply(status=200, body=b"\n <!DOCTYPE HTML><p>"), True),
        (HttpReply(status=200, headers={"content-type": "application/json"}, body=b"{}"), False),
        (HttpReply(status=200), False),
    ],
)
def test_page_for_people_is_known(reply: HttpReply, *, is_html: bool) -> None:
    """A proxy says 200 and has never asked the platform."""
    assert is_page(reply) is is_html


def test_verdict_has_words_and_wait() -> None:
    """The queue needs the one, the owner the other."""
    reply = HttpReply(status=429, headers={"retry-after": "5"}, body=b"slow down")

    told = Verdict(outcome=Outcome.THROTTLED, reason="HTTP 429: slow down", wait_s=5)
    assert verdict_of(reply, Outcome.THROTTLED) == told


@given(st.binary(max_size=6000), st.text(), st.text(), st.integers(0, 999))
def test_any_answer_is_read(body: bytes, retry_after: str, date: str, status: int) -> None:
    """It comes from outside."""
    reply = HttpReply(status=status, headers={"retry-after": retry_after, "date": date}, body=body)

    verdict = verdict_of(reply, Outcome.RETRY_LATER)
    assert verdict.reason.isprintable()
    assert len(verdict.reason) <= MAX_EXCERPT + len("HTTP 999: ")
    assert verdict.wait_s is None or 0 <= verdict.wait_s <= MAX_WAIT_S
