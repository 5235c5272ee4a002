"""Orders are what Yandex Direct learns from: one state for each, taken back when the deal is."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.base import Batch, Destination
from closedloop.deliver.destinations.metrica_orders import HEADER, MetricaOrders, MetricaOrdersSettings
from closedloop.deliver.fields import fields_of, read_settings
from closedloop.domain.delivery import Sale, Skipped, deadline
from closedloop.errors import ConfigError
from fix_destinations import NOW
from fix_metrica import BATCH_ID, YM_UID, batch, sale, told
from platforms.uploaded import read_parts

ORDERS: Destination = MetricaOrders()
SETTINGS = MetricaOrdersSettings(
    counter="12345678",
    token="y0_secret",  # noqa: S106 - invented
    goals={"qualified": "good_lead", "deal_lost": "CANCELLED"},
)


def compiled(**more: Any) -> Sale:  # noqa: ANN401 - any field of a sale
    """Return the sale as it is sent."""
    found = ORDERS.compile(sale(**more), SETTINGS)
    assert isinstance(found, Sale)
    return found


def skipped(**more: Any) -> str:  # noqa: ANN401 - any field of a sale
    """Return why a sale is not sent."""
    found = ORDERS.compile(sale(**more), SETTINGS)
    assert isinstance(found, Skipped)
    return found.reason


def file_of(sent: Batch, settings: MetricaOrdersSettings = SETTINGS) -> list[dict[str, str]]:
    """Return the rows of the file that a batch goes in, read by a reader that is not ours."""
    request = ORDERS.encode(sent, settings, NOW)
    (part,) = read_parts(dict(request.headers)["Content-Type"], request.body)
    return list(csv.DictReader(io.StringIO(part.content.decode(), newline=""), strict=True))


def row_of(**more: Any) -> dict[str, str]:  # noqa: ANN401 - any field of a sale
    """Return the row of one sale."""
    (row,) = file_of(batch(compiled(**more)))
    return row


def test_upload_replaces_whole_orders() -> None:
    """With another mode a sum that was left out would stay, and lists would grow."""
    request = ORDERS.encode(batch(), SETTINGS, NOW)

    address = urlsplit(request.url)
    assert (request.method, address.path) == ("POST", "/cdp/api/v1/counter/12345678/data/simple_orders")
    assert parse_qs(address.query) == {"merge_mode": ["SAVE"], "delimiter_type": ["COMMA"]}
    assert dict(request.headers)["Authorization"] == "OAuth y0_secret"


def test_row_of_a_paid_deal_is_whole() -> None:
    """The status is always told: left empty, every new lead would be a sale."""
    row = row_of(emails=("mail@yandex.ru",), phones=("+79995551111", "+79995551111"))

    assert tuple(row) == HEADER
    assert row == {
        "id": "662",
        "create_date_time": "2026-11-24 13:00:00",
        "client_ids": YM_UID,
        "emails_md5": "3c56ff8fef0f6c65b36b2d25720fe276",
        "phones_md5": "f09f2c3d48f31e2a802944ade2e5aec5",
        "order_status": "PAID",
        "revenue": "5000",
        "currency": "RUB",
    }


def test_several_contacts_stand_in_one_cell() -> None:
    """Each hashed alone; a comma between them must not start a column."""
    row = row_of(emails=("a@b.ru", "c@d.ru", "почта@пример.рф"), phones=())

    assert len(row["emails_md5"].split(",")) == 2
    assert row["order_status"] == "PAID"


@pytest.mark.parametrize(
    ("goal", "status"),
    [
        ("deal_created", "IN_PROGRESS"),
        ("payment_success", "PAID"),
        ("qualified", "good_lead"),
        ("deal_lost", "CANCELLED"),
    ],
)
def test_goal_is_a_status(goal: str, status: str) -> None:
    """Created at once, so that the order is linked while the visit is young."""
    assert row_of(goal=goal)["order_status"] == status


def test_goal_of_no_setting_is_skipped() -> None:
    """It may be meant for another platform."""
    assert "cart is none of those" in skipped(goal="cart")


def test_cancelled_order_is_worth_nothing() -> None:
    """Whoever sums up revenue must not count what was given back."""
    row = row_of(is_cancelled=True, told=told(), revision=2)

    assert (row["order_status"], row["revenue"]) == ("CANCELLED", "0")
    assert row_of(goal="deal_lost")["revenue"] == "0"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"is_cancelled": True}, "before Metrica was told"),
        ({"is_cancelled": True, "told": told(goal="deal_created")}, "before Metrica was told"),
        ({"is_cancelled": True, "goal": "deal_lost", "told": told()}, "told by its other goals"),
        ({"goal": "deal_created", "told": told(goal="payment_success")}, "stands further already"),
        ({"goal": "qualified", "told": told(goal="payment_success")}, "stands further already"),
        ({"goal": "deal_created", "told": told(goal="qualified")}, "stands further already"),
        (
            {"goal": "deal_created", "is_cancelled": True, "told": told(goal="payment_success")},
            "stands further already",
        ),
        ({"ids": {"yclid": "1"}}, "no ClientID, no phone and no e-mail"),
        ({"ids": {}, "emails": ("почта@пример.рф",)}, "not in Latin letters"),
        ({"value": Decimal(-1)}, "the sum -1"),
        ({"currency": "BTS"}, "no currency"),
    ],
)
def test_state_that_cannot_be_told_has_its_reason(more: dict[str, Any], words: str) -> None:
    """A goal on the way never undoes a payment, and nothing is taken back that was never told."""
    assert words in skipped(**more)


@pytest.mark.parametrize(
    "more",
    [
        {"told": told(goal="deal_created")},
        {"told": told(is_cancelled=True, goal="payment_success")},
        {"told": told(), "value": Decimal(7000)},
        {"told": told(goal="qualified"), "goal": "deal_lost"},
        {"told": told(goal="goal_of_old_settings"), "goal": "qualified"},
        {"ids": {}, "phones": ("+79995551111",)},
    ],
)
def test_state_that_goes_on_is_sent(more: dict[str, Any]) -> None:
    """Paid after created, paid again after a cancellation, another sum, known by its phone alone."""
    assert compiled(**more).order_id == "662"


def test_sale_that_may_have_come_there_is_cancelled_too() -> None:
    """Its answer was lost, then the deal: the order would stand there as paid for ever."""
    assert row_of(is_cancelled=True, attempt=1)["order_status"] == "CANCELLED"


def test_cancellation_goes_even_with_a_sum_that_cannot() -> None:
    """A sale that was taken back must not stay in the reports because of its last value."""
    row = row_of(is_cancelled=True, told=told(), value=Decimal(-1))

    assert (row["order_status"], row["revenue"]) == ("CANCELLED", "0")


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"deal_created_at": NOW - timedelta(days=2)}, "2026-11-22 13:00:00"),
        ({}, "2026-11-24 13:00:00"),
        (
            {
                "deal_created_at": NOW - timedelta(days=2),
                "told": told(created_at=NOW - timedelta(days=9)),
            },
            "2026-11-15 13:00:00",
        ),
    ],
)
def test_moment_of_an_order_never_changes(more: dict[str, Any], shown: str) -> None:
    """Metrica refuses to move an order; what it was told first stays, whatever is learned later."""
    assert row_of(**more)["create_date_time"] == shown


def test_compiled_sale_says_under_which_moment_the_order_stands() -> None:
    """It is kept with what was told, so that the next state has the same."""
    assert compiled().deal_created_at == NOW
    assert compiled(told=told(created_at=NOW - timedelta(days=9))).deal_created_at == NOW - timedelta(days=9)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(sorted(available_timezones() - {"localtime"})),
)
def test_moments_are_in_the_zone_of_the_counter(at: datetime, zone: str) -> None:
    """Metrica reads them so: with UTC every order before three in the morning lands on the day before."""
    settings = MetricaOrdersSettings(counter="1", token="t", timezone=zone)  # noqa: S106 - invented

    (row,) = file_of(batch(sale(occurred_at=at)), settings)

    shown = datetime.strptime(row["create_date_time"], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
    assert shown == at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, microsecond=0)


def test_zone_that_is_none_is_refused() -> None:
    """At the start, and not at the first sale."""
    told = {"counter": 1, "token": "t", "timezone": "Europe/Moskow"}

    with pytest.raises(ConfigError) as caught:
        read_settings(MetricaOrdersSettings, told)

    mistake = "timezone is no time zone: 'Europe/Moskow'; did you mean 'Europe/Moscow'?"
    assert caught.value.mistakes == [mistake]


SALES = st.builds(
    sale,
    deal_id=st.none() | st.sampled_from(["1", "2", " 1", "\n"]) | st.text(max_size=5),
    conversion_id=st.uuids(),
    goal=st.sampled_from(["deal_created", "payment_success", "qualified"]),
    revision=st.integers(1, 5),
    value=st.decimals(0, 10**15, places=2),
    ids=st.fixed_dictionaries({"ym_uid": st.from_regex(r"[1-9][0-9]{16,19}", fullmatch=True)}),
    occurred_at=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(st.lists(SALES, min_size=1, max_size=8))
def test_no_file_holds_one_order_twice(sales: list[Sale]) -> None:
    """Metrica applies rows of one order in random order: half of the time the older state would win."""
    rows = file_of(batch(*sales))

    orders = [row["id"] for row in rows]
    assert "" not in orders
    assert len(orders) == len(set(orders))
    assert len(rows) <= len(sales)


@given(st.lists(SALES, min_size=1, max_size=8))
def test_rows_keep_ids_and_sums_to_the_digit(sales: list[Sale]) -> None:
    """An id that went through a float belongs to somebody else."""
    rows = file_of(batch(*sales))

    for row in rows:
        assert row["client_ids"] in {one.ids["ym_uid"] for one in sales}
        assert Decimal(row["revenue"]) in {one.value for one in sales}


def test_newest_state_of_an_order_is_the_one_that_goes() -> None:
    """If ever two come together, the payment counts."""
    created = sale(goal="deal_created", occurred_at=NOW)
    revised = sale(revision=2, value=Decimal(7000))

    (row,) = file_of(batch(revised, created, sale()))

    assert (row["order_status"], row["revenue"]) == ("PAID", "7000")


def test_same_batch_gives_the_same_bytes() -> None:
    """It goes again after a crash, hours later."""
    sent = batch(sale(deal_id="1"), sale(deal_id="2"))

    assert ORDERS.encode(sent, SETTINGS, NOW) == ORDERS.encode(sent, SETTINGS, NOW + timedelta(hours=5))


def test_orders_of_a_refused_file_part_until_each_is_alone() -> None:
    """Halved each time, by the order alone: all states of one stay together."""
    orders = [str(number) for number in range(64)]

    doors = [{compiled(deal_id=order, attempt=attempt).door for order in orders} for attempt in range(11)]

    assert doors[0] == {""}
    assert [len(some) for some in doors[1:4]] == [2, 4, 8]
    assert len(doors[10]) > 60
    assert compiled(attempt=3).door == compiled(attempt=3, revision=2, told=told()).door


def test_terms_are_those_of_the_page() -> None:
    """The first row within 21 days of the visit, changes within 111, less what processing takes."""
    terms = ORDERS.terms(SETTINGS)
    visited = NOW - timedelta(days=1)
    spare = timedelta(hours=3, minutes=10)

    assert deadline(sale(visited_at=visited), terms) == visited + timedelta(days=21) - spare
    assert deadline(sale(visited_at=visited, told=told()), terms) == visited + timedelta(days=111) - spare
    assert (terms.repeat_lost_answer, terms.at_once, terms.hold) == (True, 1, timedelta())
    assert (terms.gather, terms.one_state_per_order) == (timedelta(minutes=10), True)


def test_every_setting_says_what_it_is() -> None:
    """Form, check and reference are made from nothing else."""
    fields = fields_of(MetricaOrdersSettings)

    assert all(field.title and field.help and field.examples for field in fields)
    assert [field.name for field in fields if field.is_secret is not False] == ["token"]


def test_order_without_a_deal_has_the_name_of_its_conversion() -> None:
    """Without a name repeated rows would pile up in Metrica."""
    assert row_of(deal_id=None)["id"] == str(UUID(int=2))
    assert row_of(deal_id="\x00")["id"] == str(UUID(int=2))
    assert BATCH_ID in ORDERS.encode(batch(), SETTINGS, NOW).body.decode()
