"""Whom the fake Metrica lets in and how it refuses, as the real one does: one status means three things."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fix_tools import wait_until
from platforms.http import DROPPED
from platforms.metrica import CALLS_PER_DAY, OWNER, Metrica
from platforms.metrica_data import Counter

UPLOADS = "offline_conversions/uploadings"


@pytest.fixture
def counter(metrica: Metrica) -> Counter:
    """Give a counter with one goal."""
    return metrica.add_counter("deal_paid")


@pytest.fixture
def client(metrica: Metrica, counter: Counter) -> Iterator[httpx.Client]:
    """Give a client of that counter with its owner's token."""
    headers = {"Authorization": f"OAuth {metrica.issue()}"}
    base = f"{metrica.url}/management/v1/counter/{counter.id}/"
    with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=10) as made:
        yield made


def error(answer: httpx.Response) -> tuple[int, str]:
    """Return status and kind of a refusal, whose shape is checked."""
    told = answer.json()
    assert told["code"] == answer.status_code
    assert told["message"] == told["errors"][0]["message"]
    return answer.status_code, told["errors"][0]["error_type"]


def oauth(token: str) -> dict[str, str]:
    """Return the header that a token goes in."""
    return {"Authorization": f"OAuth {token}"}


@pytest.mark.parametrize("told", ["", "OAuth wrong", "Bearer y0_demo_0", "y0_demo_0"])
def test_caller_without_a_good_token_is_forbidden(client: httpx.Client, told: str) -> None:
    """With 403 and not 401, which a client that goes by the status takes for missing rights."""
    answer = client.get(UPLOADS, headers={"Authorization": told})

    assert error(answer) == (403, "invalid_token")


def test_token_may_expire_in_the_middle(metrica: Metrica, client: httpx.Client) -> None:
    """Whoever changes the password ends all tokens of the account."""
    before = client.get(UPLOADS).status_code
    metrica.expire("y0_demo_0")

    assert (before, error(client.get(UPLOADS))) == (200, (403, "invalid_token"))
    assert metrica.refused == {"invalid_token": 1}


def test_guest_may_look_and_not_write(metrica: Metrica, counter: Counter, client: httpx.Client) -> None:
    """The token is good, the rights are not; that is another person's mistake."""
    client.headers.update(oauth(metrica.issue("guest")))
    stranger = error(client.get(""))
    metrica.let("guest", counter, "view")

    assert stranger == (403, "access_denied")
    assert client.get("").json()["counter"]["permission"] == "view"
    assert error(client.get(UPLOADS)) == (403, "access_denied")


def test_counter_of_an_organisation_is_closed(counter: Counter, client: httpx.Client) -> None:
    """The third meaning of 403."""
    counter.is_in_connect = True

    assert error(client.get(UPLOADS)) == (403, "counter_in_connect")


@pytest.mark.parametrize(
    "path",
    ["/management/v1/counter/1/offline_conversions/uploadings", "/management/v1/counter/x", "nothing"],
)
def test_what_is_not_there_is_not_found(client: httpx.Client, path: str) -> None:
    """A counter with a wrong number, and any other address."""
    assert error(client.get(path)) == (404, "not_found")


def test_counter_tells_zone_rights_and_goals(counter: Counter, client: httpx.Client) -> None:
    """Goals only on request."""
    short, whole = (client.get("", params=params).json()["counter"] for params in ({}, {"field": "goals"}))
    counter.is_deleted = True

    goal: dict[str, Any] = whole["goals"][0]
    assert (short["time_zone_name"], short["permission"]) == ("Europe/Moscow", "own")
    assert (short["status"], "goals" in short) == ("Active", False)
    assert (goal["type"], goal["conditions"]) == ("action", [{"type": "exact", "url": "deal_paid"}])
    assert client.get("").json()["counter"]["status"] == "Deleted"


def test_thirty_calls_a_second_are_let_in(metrica: Metrica, client: httpx.Client) -> None:
    """The limit of an address."""
    metrica.window.watch.speed = 0

    answers = [client.get(UPLOADS) for _ in range(31)]

    assert [answer.status_code for answer in answers[:30]] == [200] * 30
    assert error(answers[30]) == (429, "quota_requests_by_ip")


def test_three_calls_of_a_login_are_let_in_at_once(metrica: Metrica, client: httpx.Client) -> None:
    """All programs with the login share them."""
    gate = metrica.faults.hold(times=3, done=False)
    threads = [threading.Thread(target=client.get, args=(UPLOADS,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: metrica.under_way[OWNER] == 3, what="three calls under way")

    refused = error(client.get(UPLOADS))
    gate.open()
    for thread in threads:
        thread.join()

    assert refused == (429, "quota_parallel_requests")
    assert client.get(UPLOADS).status_code == 200


@pytest.mark.parametrize("status", [429, 420])
def test_calls_of_a_day_come_back_at_midnight(metrica: Metrica, client: httpx.Client, status: int) -> None:
    """Two pages of the vendor name two statuses."""
    metrica.too_many = status
    metrica.spent[OWNER, f"{metrica.clock.now:%Y-%m-%d}"] = CALLS_PER_DAY
    refused = error(client.get(UPLOADS))

    metrica.pass_time(timedelta(hours=12))

    assert refused == (status, "quota_requests_by_uid")
    assert client.get(UPLOADS).status_code == 200


def test_upload_that_times_out_is_stored(metrica: Metrica, client: httpx.Client) -> None:
    """A client must not take 504 for a refusal."""
    metrica.time_out()
    content = b"ClientId,Target,DateTime\n1,deal_paid,1\n"

    late = client.post("offline_conversions/upload", files={"file": ("a.csv", content, "text/csv")})

    assert error(late) == (504, "timeout")
    assert len(client.get(UPLOADS).json()["uploadings"]) == 1


def test_upload_that_is_dropped_may_be_stored(metrica: Metrica, client: httpx.Client) -> None:
    """The answer is what was lost, and nothing tells the two apart."""
    content = b"ClientId,Target,DateTime\n1,deal_paid,1\n"
    for done in (True, False):
        metrica.faults.drop("upload", done=done)
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("offline_conversions/upload", files={"file": ("a.csv", content, "text/csv")})

    assert [call.status for call in metrica.calls] == [DROPPED] * 2
    assert len(client.get(UPLOADS).json()["uploadings"]) == 1
