"""What Metrica answers about a file of orders; whatever it was, each order of it has a verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.base import Destination
from closedloop.deliver.destinations.metrica_orders import MetricaOrders, MetricaOrdersSettings
from closedloop.domain.delivery import Outcome, Verdict
from closedloop.domain.exchange import HttpReply
from fix_destinations import NOW
from fix_metrica import batch, reply, sale

ORDERS: Destination = MetricaOrders()
SETTINGS = MetricaOrdersSettings(
    counter="12345678",
    token="y0_secret",  # noqa: S106 - invented
    goals={"qualified": "good_lead", "deal_lost": "CANCELLED"},
)
PASSED = {"uploading_id": "a1b2c3", "api_validation_status": "PASSED", "elements_count": 1}


def decoded(answer: HttpReply, sales: int = 1) -> Verdict:
    """Return the verdict for every sale of a batch."""
    sent = batch(*(sale(deal_id=str(number)) for number in range(sales)))
    first, *others = ORDERS.decode(sent, answer, SETTINGS)
    assert others == [first] * (sales - 1)
    return first


def learned(answer: HttpReply, sales: int = 1) -> Verdict:
    """Return what is learned for every sale of a batch whose upload is a1b2c3."""
    sent = batch(*(sale(deal_id=str(number)) for number in range(sales)))
    first, *others = ORDERS.learn(sent, "a1b2c3", answer, SETTINGS)
    assert others == [first] * (sales - 1)
    return first


def test_every_sale_has_a_verdict() -> None:
    """Also one whose row gave way to a newer state of its order."""
    verdicts = ORDERS.decode(batch(sale(), sale(revision=2)), HttpReply(status=0), SETTINGS)

    assert [one.outcome for one in verdicts] == [Outcome.UNKNOWN_OUTCOME] * 2


def test_accepted_file_is_pending_until_the_list_says_so() -> None:
    """The first answer of a file that fails later is a success too."""
    first = decoded(reply(uploading=PASSED), sales=3)
    later = learned(reply(uploadings=[{"uploading_id": "other"}, PASSED]), sales=3)

    assert (first.outcome, first.reference) == (Outcome.ACCEPTED_PENDING, "a1b2c3")
    assert (later.outcome, later.reason) == (Outcome.CONFIRMED, "Metrica took the file (PASSED, 1 rows)")


@pytest.mark.parametrize(
    "answer",
    [
        reply(uploadings=[]),
        reply(uploadings=[{**PASSED, "api_validation_status": ""}]),
        reply(uploadings=[{"uploading_id": "a1b2c3"}]),
        reply(uploadings="none"),
        reply(503, errors=[{"error_type": "backend_error"}]),
        reply(429, errors=[{"error_type": "quota_requests_by_uid"}]),
        reply(403, errors=[{"error_type": "invalid_token"}]),
        reply(400, errors=[{"error_type": "invalid_parameter"}]),
        HttpReply(status=0),
        HttpReply(status=200, body=b"<html>"),
    ],
)
def test_what_was_not_learned_is_still_pending(answer: HttpReply) -> None:
    """A question that failed says nothing of the upload: it must neither end nor go again."""
    found = learned(answer)

    assert (found.outcome, found.reference) == (Outcome.ACCEPTED_PENDING, "a1b2c3")


def test_refused_file_goes_again_in_smaller_ones() -> None:
    """One bad row must not hold a thousand good ones; alone it is set aside with the reason."""
    failed = {**PASSED, "api_validation_status": "FAILED"}

    assert decoded(reply(uploading=failed), sales=2).outcome is Outcome.RETRY_LATER
    assert learned(reply(uploadings=[failed]), sales=2).outcome is Outcome.RETRY_LATER
    assert learned(reply(uploadings=[failed])).outcome is Outcome.REJECT_RECORD
    assert "FAILED" in learned(reply(uploadings=[failed])).reason


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(403, errors=[{"error_type": "invalid_token"}]), Outcome.REAUTH),
        (reply(403, errors=[{"error_type": "access_denied"}]), Outcome.CONFIG_BLOCKED),
        (reply(400, errors=[{"error_type": "invalid_uploading"}]), Outcome.REJECT_RECORD),
        (reply(429, errors=[{"error_type": "quota_parallel_requests"}]), Outcome.THROTTLED),
        (reply(503, errors=[{"error_type": "backend_error"}]), Outcome.RETRY_LATER),
        (reply(200, errors=[{"error_type": "backend_error"}]), Outcome.RETRY_LATER),
        (HttpReply(status=504, body=b"<html>"), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=200, body=b"<html>"), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=200, body=b'{"uploading":{"uplo'), Outcome.UNKNOWN_OUTCOME),
        (reply(200, success=True), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=0, sent=True), Outcome.UNKNOWN_OUTCOME),
        (HttpReply(status=0, sent=False), Outcome.RETRY_LATER),
    ],
)
def test_answer_to_an_upload_is_one_outcome(answer: HttpReply, outcome: Outcome) -> None:
    """An unknown one goes again all the same, since rows replace each other."""
    assert decoded(answer).outcome is outcome


@given(st.integers(0, 999), st.binary() | st.sampled_from([b'{"uploading":5}', b'{"uploadings":[5,{}]}']))
def test_no_answer_stops_the_worker(status: int, body: bytes) -> None:
    """Each sale has its verdict, whatever came."""
    answer = HttpReply(status=status, body=body)

    assert decoded(answer, sales=2).reason
    assert learned(answer, sales=2).outcome is Outcome.ACCEPTED_PENDING
    assert ORDERS.judge(answer, SETTINGS).reason


def test_question_is_for_the_latest_uploads() -> None:
    """There is no question for one; after a lost answer none is needed."""
    request = ORDERS.ask(batch(), "a1b2c3", SETTINGS)

    assert request is not None
    assert request.url.endswith("/cdp/api/v1/counter/12345678/last_uploadings?limit=1000&source=API")
    assert ORDERS.ask(batch(), "", SETTINGS) is None


def test_check_asks_for_the_counter_and_reads_its_zone() -> None:
    """With the wrong zone every order of the night lands on the wrong day, and nothing complains."""
    request = ORDERS.check(SETTINGS, NOW)
    counter = {"time_zone_name": "Asia/Tokyo", "permission": "edit"}

    assert request is not None
    assert request.url.endswith("/management/v1/counter/12345678?field=goals")
    assert "Asia/Tokyo" in ORDERS.judge(reply(counter=counter), SETTINGS).reason


def test_check_wants_the_goals_of_the_settings_only() -> None:
    """CANCELLED is a status of Metrica's own."""
    goal = {"type": "action", "conditions": [{"type": "exact", "url": "good_lead"}]}

    assert "good_lead" in ORDERS.judge(reply(counter={"name": "shop", "goals": []}), SETTINGS).reason
    assert ORDERS.judge(reply(counter={"goals": [goal], "id": 1}), SETTINGS).outcome is Outcome.CONFIRMED
