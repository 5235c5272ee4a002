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
from closedloop.deliver.fields import fields_of, read_settings
from closedloop.domain.delivery import Sale, Skipped, deadline
from closedloop.errors import ConfigError
from fix_destinations import NOW
from fix_metrica import BATCH_ID, YCLID, YM_UID, batch, sale, told
from platforms.uploaded import read_parts

CONVERSIONS: Destination = MetricaConversions()
SETTINGS = MetricaConversionsSettings(
    counter="12345678",
    token="y0_secret",  # noqa: S106 - invented
    goals={"payment_success": "deal_paid", "qualified": "good_lead"},
)
EVERY_ID = {"ym_uid": YM_UID, "yclid": YCLID, "user_id": "visitor-1", "purchase_id": "5774608001"}
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


def test_terms_are_those_of_the_page() -> None:
    """21 days to the processing, an hour until the visit is there, and no blind repetition."""
    terms = CONVERSIONS.terms(SETTINGS)
    visited = NOW - timedelta(days=1)

    spare = timedelta(hours=3, minutes=10)
    assert deadline(sale(visited_at=visited), terms) == visited + timedelta(days=21) - spare
    assert (terms.repeat_lost_answer, terms.at_once) == (False, 1)
    assert (terms.hold, terms.gather) == (timedelta(hours=1), timedelta(minutes=10))
    assert (terms.ask_lost_after, terms.verdict_after[0]) == (timedelta(minutes=15),) * 2


def test_every_setting_says_what_it_is() -> None:
    """Form, check and reference are made from nothing else."""
    fields = fields_of(MetricaConversionsSettings)

    assert all(field.title and field.help and field.examples for field in fields)
    assert [field.name for field in fields if field.is_secret is not False] == ["token"]


def test_settings_without_goals_are_refused() -> None:
    """Nothing would ever be sent, and nobody would know why."""
    told: dict[str, object] = {"counter": 1, "token": "t", "base_url": "http://127.0.0.1"}

    with pytest.raises(ConfigError) as caught:
        read_settings(MetricaConversionsSettings, told)

    assert [line.split()[0] for line in caught.value.mistakes] == ["base_url", "goals"]
    with pytest.raises(ConfigError, match="goals is wrong"):
        read_settings(MetricaConversionsSettings, {**told, "goals": {}})


def test_two_goals_of_one_deal_go_together() -> None:
    """They are two conversions, and neither replaces the other."""
    qualified = compiled(goal="qualified", conversion_id=UUID(int=3))

    rows = file_of(batch(compiled(), qualified))

    assert [row["Target"] for row in rows] == ["deal_paid", "good_lead"]
    assert not CONVERSIONS.terms(SETTINGS).one_state_per_order
