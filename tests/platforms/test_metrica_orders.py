"""Orders in the fake: one state for each, goals that stay, and two windows."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from platforms.metrica import Metrica
from platforms.metrica_data import Counter, Reached
from platforms.metrica_orders import CREATED, PAID, md5

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HEAD = "id,create_date_time,client_ids,order_status,revenue,currency\n"
TODAY = "08.03.2025 15:19:59"
SAVE = {"merge_mode": "SAVE", "delimiter_type": "COMMA"}
SAMPLE = """\
id,create_date_time,client_uniq_id,client_ids,emails,phones,order_status,revenue,cost,goals,currency
s_ord1,08.03.2025 11:56,s_user1,,"mail@example.com,mail2@example.com",,PAID,200,150,,
s_ord2,08.03.2025 11:59,,12345,mail3@example.com,,,200,150,,EUR
,07.03.2025,,34456,,79876543210,SPAM,,,,
"""


@pytest.fixture
def counter(metrica: Metrica) -> Counter:
    """Give a counter with one goal."""
    return metrica.add_counter("good_lead")


@pytest.fixture
def client(metrica: Metrica, counter: Counter) -> Iterator[httpx.Client]:
    """Give a client of that counter's orders."""
    headers = {"Authorization": f"OAuth {metrica.issue()}"}
    base = f"{metrica.url}/cdp/api/v1/counter/{counter.id}/"
    with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=10) as made:
        yield made


def upload(client: httpx.Client, content: str, params: dict[str, str] = SAVE) -> httpx.Response:
    """Upload a file."""
    files = {"file": ("orders.csv", content.encode(), "text/csv")}
    return client.post("data/simple_orders", params=params, files=files)


def pass_file(metrica: Metrica, client: httpx.Client, content: str, mode: str = "SAVE") -> str:
    """Upload a file, let Metrica look at it, and return its state."""
    told = upload(client, content, {"merge_mode": mode}).json()["uploading"]
    assert "api_validation_status" not in told
    metrica.pass_time(MINUTE)
    return str(latest(client)[0]["api_validation_status"])


def latest(client: httpx.Client, **params: str) -> list[dict[str, Any]]:
    """Return the latest uploads."""
    answer = client.get("last_uploadings", params=params)
    assert answer.status_code == 200
    return list(answer.json()["uploadings"])


def row(status: str = "PAID", revenue: str = "500", created: str = TODAY, order: str = "662") -> str:
    """Return the row of one order."""
    return f"{order},{created},1,{status},{revenue},RUB\n"


def test_documented_sample_has_the_documented_effects(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """The income is what is left after the cost; without a status an order is paid."""
    visits = [
        metrica.add_visit(counter, "9", 5 * HOUR, emails=("mail2@example.com",)),
        metrica.add_visit(counter, "12345", 5 * HOUR),
        metrica.add_visit(counter, "9", 2 * DAY, phones=("79876543210",)),
    ]

    assert pass_file(metrica, client, SAMPLE) == "PASSED"
    assert [visit.goals for visit in visits] == [[CREATED, PAID], [CREATED, PAID], ["CRM: spam order"]]
    assert visits[0].reached[1] == Reached(PAID, Decimal(50), "RUB", "s_ord1")
    assert visits[1].reached[1].currency == "EUR"


def test_goals_pile_up_while_the_status_changes(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """A payment that was taken back stays a goal: the page's own example, and the reason to tell it late."""
    visit = metrica.add_visit(counter, "1", HOUR)

    for status in ("IN_PROGRESS", "good_lead", "PAID", "PAID", "CANCELLED"):
        pass_file(metrica, client, HEAD + row(status))

    assert visit.goals == [CREATED, "good_lead", PAID, "CRM: order cancelled"]
    assert metrica.order(counter, "662").status == "CANCELLED"


def test_moment_of_an_order_stays(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """It is in the counter's zone, and cannot be changed."""
    pass_file(metrica, client, HEAD + row(created="2025-03-08 15:00:00"))
    pass_file(metrica, client, HEAD + row(created="2025-03-01", revenue="700"))

    order = metrica.order(counter, "662")
    assert (order.created.isoformat(), order.revenue) == ("2025-03-08T15:00:00+03:00", Decimal(700))


def test_rows_of_one_order_are_applied_by_chance(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """So nobody may put two into one file."""
    content = HEAD + row("PAID") + row("CANCELLED")

    states: set[str] = set()
    for _ in range(10):
        pass_file(metrica, client, content)
        states.add(metrica.order(counter, "662").status)

    assert states == {"PAID", "CANCELLED"}


@pytest.mark.parametrize(
    ("mode", "revenue", "clients"), [("SAVE", None, "2"), ("UPDATE", "500", "2"), ("APPEND", "500", "1,2")]
)
def test_mode_decides_on_what_is_left_out(
    metrica: Metrica, counter: Counter, client: httpx.Client, mode: str, revenue: str | None, clients: str
) -> None:
    """Only SAVE makes the order what the file says."""
    pass_file(metrica, client, HEAD + row())

    pass_file(metrica, client, f"id,create_date_time,client_ids\n662,{TODAY},2\n", mode)

    order = metrica.order(counter, "662")
    assert order.revenue == (None if revenue is None else Decimal(revenue))
    assert order.told["client_ids"] == clients


@pytest.mark.parametrize(
    ("age", "is_linked"), [(21 * DAY - 2 * MINUTE, True), (21 * DAY, False)], ids=["young", "old"]
)
def test_first_link_is_within_three_weeks_of_the_visit(
    metrica: Metrica, counter: Counter, client: httpx.Client, age: timedelta, *, is_linked: bool
) -> None:
    """A minute passes until Metrica looks at the file."""
    visit = metrica.add_visit(counter, "1", age)

    pass_file(metrica, client, HEAD + row())

    assert bool(visit.goals) == is_linked


def test_order_of_long_ago_is_not_linked(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """Its own age counts too: a date in the past must not be made up."""
    metrica.add_visit(counter, "1", 20 * DAY)

    pass_file(metrica, client, HEAD + row(created="01.02.2025"))

    assert metrica.order(counter, "662").visit is None


def test_linked_order_changes_for_a_hundred_and_eleven_days(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """After that changes are passed over without a word."""
    visit = metrica.add_visit(counter, "1", HOUR)
    pass_file(metrica, client, HEAD + row("IN_PROGRESS"))

    metrica.pass_time(110 * DAY)
    pass_file(metrica, client, HEAD + row("PAID"))
    metrica.pass_time(DAY)

    assert pass_file(metrica, client, HEAD + row("CANCELLED")) == "PASSED"
    assert visit.goals == [CREATED, PAID]
    assert metrica.order(counter, "662").passed_over == 1


def test_visit_after_the_order_is_not_its_own(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """Of those before it the nearest is."""
    visits = [metrica.add_visit(counter, "1", hours * HOUR) for hours in (5, 3, 1)]

    pass_file(metrica, client, HEAD + row(created="08.03.2025 13:20:00"))

    assert [bool(visit.goals) for visit in visits] == [False, True, False]


def test_client_id_goes_before_contacts(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """Contacts are hashed, each alone."""
    by_mail = metrica.add_visit(counter, "9", HOUR, emails=("a@b.ru",), phones=("79995551111",))
    by_client = metrica.add_visit(counter, "1", 2 * HOUR)
    head = "id,create_date_time,client_ids,emails_md5,phones_md5\n"
    both = f'"{md5("x@y.ru")},{md5("a@b.ru")}",{md5("79995551111")}'

    pass_file(metrica, client, f"{head}a,{TODAY},1,{both}\nb,{TODAY},,{both}\n")

    assert metrica.order(counter, "a").visit is by_client
    assert metrica.order(counter, "b").visit is by_mail


def test_orders_without_a_name_pile_up(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """Nothing can ever change them."""
    for _ in range(2):
        pass_file(metrica, client, HEAD + row(order=""))

    assert len(metrica.orders.of(counter)) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEAD,
        "id,client_ids\n1,1\n",
        f"id,create_date_time\n1,{TODAY}\n",
        HEAD + row(created="2025-03-08T15:00:00Z"),
        HEAD + row(revenue="5 000"),
        HEAD + row(status="unknown"),
        HEAD + row() + f"7,{TODAY},,PAID,1,RUB\n",
        f"id,create_date_time,emails_md5\n1,{TODAY},MAIL@EXAMPLE.COM\n",
    ],
)
def test_bad_file_fails_later_and_as_a_whole(
    metrica: Metrica, counter: Counter, client: httpx.Client, content: str
) -> None:
    """The first answer is a success, and no row is named."""
    assert pass_file(metrica, client, content) == "FAILED"
    assert metrica.orders.of(counter) == {}


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({}, "missing_parameter"),
        ({"merge_mode": "REPLACE"}, "invalid_parameter"),
        ({"merge_mode": "SAVE", "delimiter_type": "TAB"}, "invalid_parameter"),
    ],
)
def test_wrong_parameters_are_refused(client: httpx.Client, params: dict[str, str], kind: str) -> None:
    """At once."""
    answer = upload(client, HEAD + row(), params)

    assert (answer.status_code, answer.json()["errors"][0]["error_type"]) == (400, kind)


def test_file_may_pass_at_once(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """As a live test of another program saw it."""
    metrica.orders.lag = timedelta()

    told = upload(client, HEAD + row()).json()["uploading"]

    assert (told["api_validation_status"], told["elements_count"]) == ("PASSED", 1)
    assert metrica.order(counter, "662").status == "PAID"


def test_latest_uploads_are_newest_first(metrica: Metrica, client: httpx.Client) -> None:
    """A page ends strictly before its moment; without a limit it has ten."""
    for _ in range(11):
        pass_file(metrica, client, HEAD + row())

    page = latest(client)
    older = latest(client, datetime_offset=page[-1]["datetime"])

    assert [one["uploading_id"][-4:] for one in page] == [f"{number:04}" for number in range(11, 1, -1)]
    assert [one["uploading_id"][-4:] for one in older] == ["0001"]
    assert latest(client, source="UI") == []
    assert len(latest(client, limit="1000", source="API")) == 11


@pytest.mark.parametrize(
    "params", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"datetime_offset": "yesterday"}]
)
def test_question_with_wrong_parameters_is_refused(client: httpx.Client, params: dict[str, str]) -> None:
    """More than a thousand at once are not to be had."""
    assert client.get("last_uploadings", params=params).status_code == 400
