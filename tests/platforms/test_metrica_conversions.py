"""Offline conversions in the fake: it names no bad row, and what comes twice counts twice."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from platforms.metrica import Metrica
from platforms.metrica_data import Counter

HOUR = timedelta(hours=1)


@pytest.fixture
def counter(metrica: Metrica) -> Counter:
    """Give a counter with one goal."""
    return metrica.add_counter("deal_paid")


@pytest.fixture
def client(metrica: Metrica, counter: Counter) -> Iterator[httpx.Client]:
    """Give a client of that counter's offline conversions."""
    headers = {"Authorization": f"OAuth {metrica.issue()}"}
    base = f"{metrica.url}/management/v1/counter/{counter.id}/offline_conversions/"
    with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=10) as made:
        yield made


def upload(client: httpx.Client, content: str, name: str = "file", **params: str) -> httpx.Response:
    """Upload a file."""
    files = {name: ("conversions.csv", content.encode(), "text/csv")}
    return client.post("upload", params=params, files=files)


def uploaded(client: httpx.Client, content: str, **params: str) -> Any:  # noqa: ANN401 - whatever it says
    """Return what is said of an upload that was taken."""
    answer = upload(client, content, **params)
    assert answer.status_code == 200
    return answer.json()["uploading"]


def state(client: httpx.Client, upload_id: int) -> Any:  # noqa: ANN401 - whatever it says
    """Return what is said of an upload now."""
    return client.get(f"uploading/{upload_id}").json()["uploading"]


def row(metrica: Metrica, client_id: str = "1", target: str = "deal_paid", ago: timedelta = HOUR) -> str:
    """Return one row of a conversion some time ago."""
    return f"{client_id},{target},{metrica.clock.unix - int(ago.total_seconds())},500,RUB\n"


HEAD = "ClientId,Target,DateTime,Price,Currency\n"


def test_conversion_is_linked_to_the_visit_before_it(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """The documented example: bought on the 10th, sent on the 20th, counts for the visit of the 5th."""
    visits = [metrica.add_visit(counter, "1", timedelta(days=days)) for days in (19, 15, 9)]

    made = uploaded(client, HEAD + row(metrica, ago=timedelta(days=10)), comment="batch1")
    metrica.pass_time(timedelta(hours=1))

    assert (made["status"], made["source_quantity"], made["line_quantity"]) == ("UPLOADED", 1, 1)
    assert [visit.goals for visit in visits] == [[], ["deal_paid"], []]
    assert state(client, made["id"])["status"] == "PROCESSED"
    assert state(client, made["id"])["linked_quantity"] == 1


def test_upload_goes_through_its_states(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """By the fake's clock, so that no test waits."""
    metrica.add_visit(counter, "1", HOUR)
    made = uploaded(client, HEAD + row(metrica))["id"]

    states: list[str] = []
    for minutes in (0, 5, 15, 40):
        metrica.pass_time(timedelta(minutes=minutes))
        states.append(state(client, made)["status"])

    assert states == ["UPLOADED", "EXPORTED", "MATCHED", "PROCESSED"]


def test_the_same_file_again_counts_again(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """Nothing protects against it, and nothing takes it back."""
    visit = metrica.add_visit(counter, "1", HOUR)
    for _ in range(2):
        uploaded(client, HEAD + row(metrica), comment="same")
    metrica.pass_time(HOUR)

    assert visit.goals == ["deal_paid", "deal_paid"]


@pytest.mark.parametrize(
    ("column", "value"), [("UserId", "u1"), ("Yclid", "77"), ("PurchaseId", "p1"), ("ClientId", "1")]
)
def test_every_kind_of_id_finds_its_visit(
    metrica: Metrica, counter: Counter, client: httpx.Client, column: str, value: str
) -> None:
    """The click's own visit, even if another came later."""
    first = metrica.add_visit(counter, "1", 3 * HOUR, user_id="u1", yclid="77", purchase_id="p1")
    later = metrica.add_visit(counter, "1", HOUR)

    at = metrica.clock.unix - 2 * 3600
    uploaded(client, f"{column},Target,DateTime\n{value},deal_paid,{at}\n")
    metrica.pass_time(HOUR)

    assert (first.goals, later.goals) == (["deal_paid"], [])


def test_window_counts_from_the_last_visit_to_the_linking(
    metrica: Metrica, counter: Counter, client: httpx.Client
) -> None:
    """Twenty minutes are lost on the way: a file sent in the last of them is too late."""
    visit = metrica.add_visit(counter, "1", timedelta(days=21) - timedelta(minutes=19))

    made = uploaded(client, HEAD + row(metrica))["id"]
    metrica.pass_time(timedelta(days=1))

    assert visit.goals == []
    assert state(client, made)["status"] == "LINKAGE_FAILURE"
    assert state(client, made)["user_not_found_quantity"] == 1


def test_unknown_goal_is_only_counted(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """It costs the conversion, and no error says so."""
    metrica.add_visit(counter, "1", HOUR)

    made = uploaded(client, HEAD + row(metrica, target="Deal paid") + row(metrica))["id"]
    metrica.pass_time(HOUR)

    told = state(client, made)
    assert (told["goal_not_found_quantity"], told["linked_quantity"]) == (1, 1)


@pytest.mark.parametrize(
    "bad",
    [
        ",deal_paid,1,5,RUB",
        "1.7E+18,deal_paid,1,5,RUB",
        "1,,1,5,RUB",
        "1,deal_paid,2025-03-08,5,RUB",
        "1,deal_paid,99999999999,5,RUB",
        '1,deal_paid,1,"5,00",RUB',
        "1,deal_paid,1,5,roubles",
    ],
)
def test_bad_row_is_left_out_without_a_word(client: httpx.Client, bad: str) -> None:
    """Only the count is less, so that a client has to be right before."""
    made = uploaded(client, f"{HEAD}{bad}\n1,deal_paid,1,,\n")

    assert (made["source_quantity"], made["line_quantity"]) == (2, 1)


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        ("", "file", "invalid_uploading"),
        ("Target,DateTime\ndeal_paid,1\n", "file", "invalid_uploading"),
        ("ClientId,DateTime\n1,1\n", "file", "invalid_uploading"),
        ("ClientId,Target\n1,deal_paid\n", "file", "invalid_uploading"),
        (HEAD, "file", "invalid_uploading"),
        (HEAD + "1,deal_paid\n", "file", "invalid_uploading"),
        (HEAD + "1,deal_paid,1,,\n", "data", "missing_parameter"),
    ],
)
def test_what_is_no_file_of_conversions_is_refused(
    client: httpx.Client, content: str, name: str, kind: str
) -> None:
    """As a whole, at once."""
    answer = upload(client, content, name)

    assert (answer.status_code, answer.json()["errors"][0]["error_type"]) == (400, kind)
    assert client.get("uploadings").json() == {"uploadings": []}


def test_body_that_is_no_form_is_refused(client: httpx.Client) -> None:
    """A bare CSV is a usual mistake."""
    assert client.post("upload", content=HEAD).status_code == 400


def test_comment_has_letters_and_digits_only(client: httpx.Client) -> None:
    """Punctuation may be refused, so nobody should need it."""
    assert upload(client, HEAD + "1,deal_paid,1,,\n", comment="batch-1").status_code == 400


def test_list_is_newest_first_and_has_pages(metrica: Metrica, client: httpx.Client) -> None:
    """An upload whose answer was lost is found here by its comment."""
    for number in range(3):
        uploaded(client, HEAD + "1,deal_paid,1,,\n", comment=f"b{number}")
    other = metrica.add_counter()

    pages = [client.get("uploadings", params=page).json() for page in ({}, {"limit": 1, "offset": 1})]

    assert [[one["comment"] for one in page["uploadings"]] for page in pages] == [["b2", "b1", "b0"], ["b1"]]
    assert metrica.conversions.of(other) == []
    assert client.get("uploadings", params={"limit": 10_001}).status_code == 400


def test_upload_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    """It is the same error as that of a counter."""
    assert client.get("uploading/1").json()["errors"][0]["error_type"] == "not_found"


def test_older_api_has_no_counts(metrica: Metrica, client: httpx.Client) -> None:
    """They came in 2026."""
    metrica.conversions.is_old = True

    made = uploaded(client, HEAD + "1,deal_paid,1,,\n")

    assert "linked_quantity" not in made
    assert made["line_quantity"] == 1
