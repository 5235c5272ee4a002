"""What Metrica answers about a file of conversions, and what nobody knows: nothing of it is sent twice."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.base import Destination
from closedloop.deliver.destinations.metrica_conversions import (
    MetricaConversions,
    MetricaConversionsSettings,
)
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply
from fix_destinations import NOW
from fix_metrica import BATCH_ID, batch, reply, sale

CONVERSIONS: Destination = MetricaConversions()
SETTINGS = MetricaConversionsSettings(
    counter="12345678",
    token="y0_secret",  # noqa: S106 - invented
    goals={"payment_success": "deal_paid", "qualified": "good_lead"},
)
UPLOAD: dict[str, Any] = {
    "id": 2147483650,
    "comment": BATCH_ID,
    "source_quantity": 2,
    "line_quantity": 2,
    "status": "UPLOADED",
}
PAIR = (sale(deal_id="1", door="ClientId"), sale(deal_id="2", door="ClientId"))


def uploaded(**more: Any) -> HttpReply:  # noqa: ANN401 - any field of an upload
    """Return the answer about one upload."""
    return reply(uploading={**UPLOAD, **more})


def decoded(answer: HttpReply) -> Verdict:
    """Return the verdict for both sales of a batch."""
    first, second = CONVERSIONS.decode(batch(*PAIR), answer, SETTINGS)
    assert first == second
    return first


def learned(answer: HttpReply, reference: str = "2147483650") -> Verdict:
    """Return what is learned for both sales of a batch; the reference "" is a lost answer."""
    first, second = CONVERSIONS.learn(batch(*PAIR), reference, answer, SETTINGS)
    assert first == second
    return first


@pytest.mark.parametrize("status", ["UPLOADED", "PREPARED", "EXPORTED", "MATCHED", "NEW_IN_2027", None])
def test_upload_under_way_is_pending(status: str | None) -> None:
    """Its number is what it is asked for by."""
    found = [decoded(uploaded(status=status)), learned(uploaded(status=status))]

    assert [one.outcome for one in found] == [Outcome.ACCEPTED_PENDING] * 2
    assert {one.reference for one in found} == {"2147483650"}


def test_processed_upload_is_confirmed_with_its_counts() -> None:
    """The counts are all that Metrica ever says of rows."""
    found = learned(
        uploaded(status="PROCESSED", linked_quantity=1, user_not_found_quantity=1, goal_not_found_quantity=0)
    )

    assert found.outcome is Outcome.CONFIRMED
    assert found.reason == (
        "Metrica is done with 2 rows (PROCESSED), 1 linked to visits, 1 without a visitor, "
        "0 with a goal that the counter has not"
    )


def test_processed_upload_of_an_older_api_is_confirmed_without_counts() -> None:
    """They are new, and may be missing."""
    found = learned(uploaded(status="PROCESSED"))

    assert (found.outcome, found.reason) == (Outcome.CONFIRMED, "Metrica is done with 2 rows (PROCESSED)")


@pytest.mark.parametrize(
    "more", [{"status": "LINKAGE_FAILURE"}, {"status": "PROCESSED", "linked_quantity": 0}]
)
def test_upload_without_one_visitor_is_not_matched(more: dict[str, Any]) -> None:
    """It counts in the rate of matches, and is no error."""
    assert learned(uploaded(**more)).outcome is Outcome.NOT_MATCHED


@pytest.mark.parametrize("ask", [decoded, learned])
@pytest.mark.parametrize("status", ["UPLOADED", "PROCESSED", "LINKAGE_FAILURE"])
def test_fewer_rows_than_sent_are_partial_and_stay_so(ask: Any, status: str) -> None:  # noqa: ANN401
    """Nobody can tell which rows are missing, and the others would count twice."""
    found = ask(uploaded(line_quantity=1, status=status))

    assert found.outcome is Outcome.PARTIAL
    assert "1 of 2 rows" in found.reason
    assert "none goes again" in found.reason


def test_upload_of_which_nothing_was_taken_is_rejected() -> None:
    """All rows were bad; that much is certain."""
    assert decoded(uploaded(line_quantity=0)).outcome is Outcome.REJECT_RECORD


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(403, errors=[{"error_type": "invalid_token"}]), Outcome.REAUTH),
        (reply(403, errors=[{"error_type": "access_denied"}]), Outcome.CONFIG_BLOCKED),
        (reply(403, errors=[{"error_type": "counter_in_connect"}]), Outcome.CONFIG_BLOCKED),
        (reply(400, errors=[{"error_type": "invalid_uploading"}]), Outcome.REJECT_RECORD),
        (reply(420, errors=[{"error_type": "quota_requests_by_uid"}]), Outcome.THROTTLED),
        (reply(503, errors=[{"error_type": "backend_error"}]), Outcome.RETRY_LATER),
        (reply(200, errors=[{"error_type": "invalid_token"}]), Outcome.REAUTH),
        (reply(504, errors=[{"error_type": "timeout"}]), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=502, body=b"<html>"), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=200, body=b"<html>"), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=200, body=b'{"uploading":{"id":2147'), Outcome.UNKNOWN_OUTCOME),
        (reply(200, uploading={}), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=0, sent=True), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=0, sent=False), Outcome.RETRY_LATER),
    ],
)
def test_answer_to_an_upload_is_one_outcome(answer: HttpReply, outcome: Outcome) -> None:
    """Only what was refused in so many words goes again without a look."""
    assert decoded(answer).outcome is outcome


def test_lost_upload_is_looked_up_by_its_comment() -> None:
    """Found, it goes on as if its answer had come."""
    other = {**UPLOAD, "id": 1, "comment": "by another program"}

    found = learned(reply(uploadings=[other, UPLOAD]), "")
    processed = learned(reply(uploadings=[other, {**UPLOAD, "status": "PROCESSED"}]), "")

    assert (found.outcome, found.reference) == (Outcome.ACCEPTED_PENDING, "2147483650")
    assert (processed.outcome, processed.reference) == (Outcome.CONFIRMED, "2147483650")


def test_lost_upload_goes_again_only_when_metrica_has_none_such() -> None:
    """A list that is whole and knows nothing of it."""
    other = {**UPLOAD, "id": 1, "comment": None}

    assert learned(reply(uploadings=[]), "").outcome is Outcome.RETRY_LATER
    assert learned(reply(uploadings=[other]), "").outcome is Outcome.RETRY_LATER


UNCLEAR = [
    reply(503, errors=[{"error_type": "backend_error"}]),
    reply(429, errors=[{"error_type": "quota_requests_by_uid"}]),
    reply(403, errors=[{"error_type": "invalid_token"}]),
    reply(404, errors=[{"error_type": "not_found"}]),
    reply(400, errors=[{"error_type": "invalid_parameter"}]),
    reply(200, uploadings=None),
    HttpReply(status=200, body=b"<html>"),
    HttpReply(status=200, body=b'{"uploadings":['),
    HttpReply(status=0),
]


@pytest.mark.parametrize("answer", [*UNCLEAR, reply(uploadings=[{"id": 1}] * 10_000)])
def test_lost_upload_stays_unknown_while_nothing_is_learned(answer: HttpReply) -> None:
    """Any other verdict would send it again, or end it, without a look."""
    assert learned(answer, "").outcome is Outcome.UNKNOWN_OUTCOME


@pytest.mark.parametrize("answer", [*UNCLEAR, uploaded(id=1)])
def test_accepted_upload_stays_pending_while_nothing_is_learned(answer: HttpReply) -> None:
    """A token that expired meanwhile must not make a second sale of it."""
    found = learned(answer)

    assert (found.outcome, found.reference) == (Outcome.ACCEPTED_PENDING, "2147483650")


@given(st.integers(0, 999), st.binary() | st.sampled_from([b'{"uploading":5}', b'{"uploadings":[5,{}]}']))
def test_no_answer_stops_the_worker(status: int, body: bytes) -> None:
    """Each sale has its verdict, whatever came, and none that would end it."""
    answer = HttpReply(status=status, body=body)

    assert decoded(answer).reason
    assert learned(answer).outcome is Outcome.ACCEPTED_PENDING
    assert learned(answer, "").outcome in {Outcome.UNKNOWN_OUTCOME, Outcome.RETRY_LATER}
    assert CONVERSIONS.judge(answer, SETTINGS).reason


def test_questions_are_for_one_upload_or_for_all() -> None:
    """A lost one has no number yet."""
    one = CONVERSIONS.ask(batch(), "2147483650", SETTINGS)
    every = CONVERSIONS.ask(batch(), "", SETTINGS)

    assert one is not None
    assert every is not None
    start = "https://api-metrika.yandex.net/management/v1/counter/12345678/offline_conversions"
    assert one.url == f"{start}/uploading/2147483650"
    assert every.url == f"{start}/uploadings?limit=10000&offset=0"


def test_check_wants_the_goals_to_be_there() -> None:
    """A conversion of a goal that the counter has not vanishes without an error."""
    request = CONVERSIONS.check(SETTINGS, NOW)
    goal = {"type": "action", "conditions": [{"type": "exact", "url": "deal_paid"}]}

    judged = CONVERSIONS.judge(reply(counter={"id": 12345678, "goals": [goal]}), SETTINGS)

    assert request is not None
    assert request.url.endswith("/management/v1/counter/12345678?field=goals")
    assert (judged.outcome, "good_lead" in judged.reason) == (Outcome.CONFIG_BLOCKED, True)
    assert "deal_paid" not in judged.reason
