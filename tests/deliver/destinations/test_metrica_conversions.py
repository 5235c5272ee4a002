"""Offline conversions count twice when they are sent twice, and nobody can take them back."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.base import Batch, Destination
from closedloop.deliver.destinations.metrica_conversions import (
    MetricaConversions,
    MetricaConversionsSettings,
)
from closedloop.domain.delivery import Outcome, Sale, Skipped, Verdict, deadline
from closedloop.domain.exchange import HttpReply
from fix_destinations import NOW
from fix_metrica import BATCH_ID, YCLID, YM_UID, batch, reply, sale, told
from platforms.uploaded import read_parts

CONVERSIONS: Destination = MetricaConversions()
SETTINGS = MetricaConversionsSettings(
    counter="12345678",
    token="y0_secret",  # noqa: S106 - invented
    goals={"payment_success": "deal_paid", "qualified": "good_lead"},
)
EVERY_ID = {"ym_uid": YM_UID, "yclid": YCLID, "user_id": "visitor-1", "purchase_id": "5774608001"}
UPLOAD: dict[str, Any] = {
    "id": 2147483650,
    "comment": BATCH_ID,
    "source_quantity": 2,
    "line_quantity": 2,
    "status": "UPLOADED",
}
PAIR = (sale(deal_id="1", door="ClientId"), sale(deal_id="2", door="ClientId"))


def settings(**more: Any) -> MetricaConversionsSettings:  # noqa: ANN401 - any setting
    """Return the settings with some of them changed."""
    return msgspec.structs.replace(SETTINGS, **more)


def compiled(chosen: MetricaConversionsSettings = SETTINGS, **more: Any) -> Sale:  # noqa: ANN401
    """Return the sale as it is sent."""
    found = CONVERSIONS.compile(sale(**more), chosen)
    assert isinstance(found, Sale)
    return found


def skipped(**more: Any) -> str:  # noqa: ANN401 - any field of a sale
    """Return why a sale is not sent."""
    found = CONVERSIONS.compile(sale(**more), SETTINGS)
    assert isinstance(found, Skipped)
    return found.reason


def file_of(sent: Batch, now: datetime = NOW) -> list[dict[str, str]]:
    """Return the rows of the file that a batch goes in, read by a reader that is not ours."""
    request = CONVERSIONS.encode(sent, SETTINGS, now)
    (part,) = read_parts(dict(request.headers)["Content-Type"], request.body)
    return list(csv.DictReader(io.StringIO(part.content.decode(), newline=""), strict=True))


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


@pytest.mark.parametrize(
    ("ids", "more", "door"),
    [
        (EVERY_ID, {}, "Yclid"),
        (EVERY_ID, {"first": "ClientId"}, "ClientId"),
        ({"ym_uid": YM_UID}, {}, "ClientId"),
        ({"yclid": YCLID}, {"first": "ClientId"}, "Yclid"),
        ({"user_id": "visitor-1", "purchase_id": "57"}, {"user_id": True}, "UserId"),
        ({"user_id": "visitor-1", "purchase_id": "57"}, {}, "PurchaseId"),
        ({"yclid": "{yclid}", "ym_uid": YM_UID}, {}, "ClientId"),
    ],
)
def test_door_is_the_best_id_that_is_known(ids: dict[str, str], more: dict[str, Any], door: str) -> None:
    """By ClientID a repeated purchase loses its advertisement: it goes to the last visit before it."""
    assert compiled(settings(**more), ids=ids).door == door


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"goal": "cart"}, "cart is none of those"),
        ({"is_cancelled": True}, "before Metrica was told"),
        ({"is_cancelled": True, "told": told()}, "cannot be told a cancellation"),
        ({"told": told(), "value": Decimal(7000), "revision": 2}, "cannot be told a change"),
        ({"ids": {}, "phones": ("+79995551111",)}, "none of Yclid, ClientId, PurchaseId"),
        ({"ids": {"user_id": "visitor-1"}}, "none of"),
        ({"value": Decimal(-1)}, "the sum -1"),
    ],
)
def test_what_metrica_cannot_express_has_its_reason(more: dict[str, Any], words: str) -> None:
    """A change that goes as a second row would be a second sale."""
    assert words in skipped(**more)


def test_upload_carries_the_batch_in_its_comment() -> None:
    """It is the only thing by which an upload whose answer was lost can be found."""
    request = CONVERSIONS.encode(batch(*PAIR), SETTINGS, NOW)

    address = urlsplit(request.url)
    assert address.path == "/management/v1/counter/12345678/offline_conversions/upload"
    assert (request.method, parse_qs(address.query)) == ("POST", {"comment": [BATCH_ID]})
    assert BATCH_ID.isalnum()


@pytest.mark.parametrize(
    ("door", "told_id"),
    [("Yclid", YCLID), ("ClientId", YM_UID), ("UserId", "visitor-1"), ("PurchaseId", "5774608001")],
)
def test_file_has_one_kind_of_id(door: str, told_id: str) -> None:
    """The identifier of the goal stands in it, never its name; ids are text to the last digit."""
    (row,) = file_of(batch(sale(ids=EVERY_ID, door=door, occurred_at=NOW - timedelta(hours=1))))

    at = str(int(NOW.timestamp()) - 3600)
    assert row == {
        door: told_id,
        "Target": "deal_paid",
        "DateTime": at,
        "Price": "5000",
        "Currency": "RUB",
    }


def test_sale_without_a_sum_has_no_price() -> None:
    """A price may be left out, while nobody knows what a price of nothing does."""
    (row,) = file_of(batch(compiled(value=Decimal(0), goal="qualified")))

    assert (row["Target"], row["Price"], row["Currency"]) == ("good_lead", "", "")


SALES = st.builds(
    compiled,
    ids=st.dictionaries(
        st.sampled_from(["ym_uid", "yclid"]), st.from_regex(r"[1-9][0-9]{15,19}", fullmatch=True), min_size=1
    ),
    conversion_id=st.uuids(),
    value=st.decimals(0, 10**15, places=2),
    occurred_at=st.datetimes(datetime(2026, 11, 1), datetime(2026, 12, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(st.lists(SALES, min_size=1, max_size=8))
def test_row_says_what_the_sale_says(sales: list[Sale]) -> None:
    """Even if ever two kinds of ids came together, each stands under its own name."""
    rows = file_of(batch(*sales))

    for row, one in zip(rows, sales, strict=True):
        told_id = one.ids["yclid" if one.door == "Yclid" else "ym_uid"]
        assert [row[door] for door in ("Yclid", "ClientId") if row.get(door)] == [told_id]
        assert row[one.door] == told_id
        assert Decimal(row["Price"] or 0) == one.value


@given(st.lists(SALES, min_size=1, max_size=8))
def test_no_row_lies_in_the_future(sales: list[Sale]) -> None:
    """Metrica refuses such a row and does not say which, and the whole file cannot go again."""
    rows = file_of(batch(*sales))

    for row, one in zip(rows, sales, strict=True):
        assert int(row["DateTime"]) < NOW.timestamp()
        if one.occurred_at < NOW - timedelta(seconds=1):
            assert int(row["DateTime"]) == int(one.occurred_at.timestamp())


def test_batch_of_what_has_happened_gives_the_same_bytes() -> None:
    """It goes again after a crash before it was sent."""
    sent = batch(*PAIR)

    assert CONVERSIONS.encode(sent, SETTINGS, NOW + timedelta(hours=1)) == CONVERSIONS.encode(
        sent, SETTINGS, NOW + timedelta(hours=5)
    )


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


def test_terms_are_those_of_the_page() -> None:
    """21 days to the processing, an hour until the visit is there, and no blind repetition."""
    terms = CONVERSIONS.terms(SETTINGS)
    visited = NOW - timedelta(days=1)

    spare = timedelta(hours=3, minutes=10)
    assert deadline(sale(visited_at=visited), terms) == visited + timedelta(days=21) - spare
    assert (terms.repeat_lost_answer, terms.at_once) == (False, 1)
    assert (terms.hold, terms.gather) == (timedelta(hours=1), timedelta(minutes=10))
    assert (terms.ask_lost_after, terms.verdict_after[0]) == (timedelta(minutes=15),) * 2


def test_two_goals_of_one_deal_go_together() -> None:
    """They are two conversions, and neither replaces the other."""
    qualified = compiled(goal="qualified", conversion_id=UUID(int=3))

    rows = file_of(batch(compiled(), qualified))

    assert [row["Target"] for row in rows] == ["deal_paid", "good_lead"]
    assert not CONVERSIONS.terms(SETTINGS).one_state_per_batch
