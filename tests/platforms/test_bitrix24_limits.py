"""What the fake portal refuses, in a call of its own and inside a batch."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from platforms.bitrix24 import Bitrix24


@pytest.fixture
def client(bitrix24: Bitrix24) -> Iterator[httpx.Client]:
    """Give a client of the portal's webhook."""
    with httpx.Client(base_url=bitrix24.webhook_url, trust_env=False, timeout=10) as made:
        yield made


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, error and description."""
    told = answer.json()
    return answer.status_code, told["error"], told["error_description"]


def batch(client: httpx.Client, **params: object) -> Any:  # noqa: ANN401 - whatever it says
    """Return what `batch` gives."""
    answer = client.post("batch", json=params)
    assert answer.status_code == 200
    return answer.json()["result"]


def test_deleted_deal_is_not_found(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The status is 400, and one family has no word for it."""
    bitrix24.create_deal()
    bitrix24.delete_deal(1)

    classic = client.post("crm.deal.get", json={"id": 1})
    universal = client.post("crm.item.get", json={"entityTypeId": 2, "id": 1})

    assert refusal(classic) == (400, "", "Not found")
    assert refusal(universal) == (400, "NOT_FOUND", "Element not found")
    assert bitrix24.refused == {"Not found": 1, "NOT_FOUND": 1}


@pytest.mark.parametrize("deal_id", ["", "0", "-1", "abc", None])
def test_id_that_is_none_is_refused_as_such(client: httpx.Client, deal_id: str | None) -> None:
    """It is another mistake than a deal that is gone."""
    answer = client.post("crm.deal.get", json={"id": deal_id})

    assert refusal(answer) == (400, "", "ID is not defined or invalid")


def test_type_that_is_not_there_is_refused(client: httpx.Client) -> None:
    """A smart process may have been deleted since it was configured."""
    answer = client.post("crm.item.list", json={"entityTypeId": 1032})

    assert refusal(answer) == (400, "NOT_FOUND", "Smart process not found")


def test_unknown_method_and_address_are_told_apart(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """A page of HTML says that the address is wrong."""
    method = client.post("crm.deal.nothing")
    address = client.post(f"{bitrix24.url}/crm/deal")

    assert refusal(method) == (404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
    assert (address.status_code, address.headers["content-type"]) == (404, "text/html")


def test_wrong_code_is_unauthorized(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Somebody edited the webhook, which changes the code."""
    bitrix24.code = "another"

    assert refusal(client.post("crm.deal.list")) == (401, "NO_AUTH_FOUND", "Wrong authorization data")


def test_bucket_overflows_at_fifty_and_drains(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The limit that a sweep meets first; a refused call takes no room."""
    bitrix24.buckets.watch.speed = 0
    statuses = [client.post("profile").status_code for _ in range(52)]
    bitrix24.buckets.watch.speed = 1e6

    later = client.post("profile").status_code

    assert statuses == [200] * 50 + [503] * 2
    assert later == 200
    assert bitrix24.refused == {"QUERY_LIMIT_EXCEEDED": 2}


def test_batch_is_one_call_for_the_bucket(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """That is why clients use it."""
    bitrix24.buckets.watch.speed = 0

    results = [batch(client, cmd=["profile"] * 50)["result"] for _ in range(50)]

    assert {len(result) for result in results} == {50}
    assert client.post("batch").status_code == 503


def test_method_that_worked_too_long_is_refused(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Only this method is, and the answers before said how near it was."""
    bitrix24.operating["crm.deal.list"] = 479.5
    near = client.post("crm.deal.list").json()["time"]
    bitrix24.operating["crm.deal.list"] = 480

    answers = [client.post("crm.deal.list"), client.post("crm.lead.list")]

    assert (near["operating"], near["operating_reset_at"]) == (479.5, bitrix24.clock.unix + 600)
    assert refusal(answers[0])[:2] == (429, "OPERATION_TIME_LIMIT")
    assert answers[1].status_code == 200


def test_renamed_portal_sends_on(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Whoever follows turns a POST into a GET, and sends its secret elsewhere."""
    bitrix24.renamed_to = "https://beta.b24.example"

    answer = client.post("crm.deal.list")

    assert answer.status_code == 302
    assert answer.headers["location"] == "https://beta.b24.example/rest/1/demowebhookcode0/crm.deal.list"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, "OVERLOAD_LIMIT"),
        (403, "ACCESS_DENIED"),
        (403, "user_access_error"),
        (500, "INTERNAL_SERVER_ERROR"),
        (500, "PORTAL_DELETED"),
        (503, "OVERLOAD_LIMIT"),
    ],
)
def test_portal_refuses_whatever_is_asked(
    bitrix24: Bitrix24, client: httpx.Client, status: int, error: str
) -> None:
    """A plan that ended, a portal that was closed: the owner must act, or only wait."""
    bitrix24.refuse("*", status, error, "on order")
    refused = [client.post("profile"), client.post("batch")]
    bitrix24.allow("*")

    assert [refusal(answer) for answer in refused] == [(status, error, "on order")] * 2
    assert client.post("profile").status_code == 200


def test_refusal_may_stand_in_a_success(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Some portals answer so: the status alone does not say that there is a result."""
    bitrix24.refuse("crm.deal.list", 200, "QUERY_LIMIT_EXCEEDED")

    alone = client.post("crm.deal.list")
    within = batch(client, cmd={"a": "crm.deal.list", "b": "profile"})

    assert refusal(alone) == (200, "QUERY_LIMIT_EXCEEDED", "")
    assert within["result_error"] == {"a": {"error": "QUERY_LIMIT_EXCEEDED", "error_description": ""}}
    assert list(within["result"]) == ["b"]


def test_batch_takes_what_earlier_commands_gave(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Pages that go on from the last id of the page before need one call."""
    for _ in range(60):
        bitrix24.create_deal()

    told = batch(
        client,
        cmd={
            "p": "crm.item.list?entityTypeId=2&order[id]=asc",
            "q": "crm.item.list?entityTypeId=2&filter[%3Eid]=$result[p][items][49][id]",
        },
    )

    assert [item["id"] for item in told["result"]["q"]["items"]] == list(range(51, 61))
    assert (told["result_total"], told["result_next"]) == ({"p": 60, "q": 10}, {"p": 50})
    assert (told["result_error"], list(told["result_time"])) == ([], ["p", "q"])


def test_batch_resolves_a_deal_to_its_lead(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Deal and lead in one call; a deal without a lead is a refusal inside a success."""
    lead_id = bitrix24.create_lead()
    deal_ids = [bitrix24.create_deal(lead_id=lead_id), bitrix24.create_deal()]

    first, second = (
        batch(client, cmd={"d": f"crm.deal.get?id={one}", "l": "crm.lead.get?id=$result[d][LEAD_ID]"})
        for one in deal_ids
    )

    assert first["result"]["l"]["ID"] == "1"
    assert second["result_error"]["l"]["error_description"] == "ID is not defined or invalid"


def test_batch_has_room_for_fifty(client: httpx.Client) -> None:
    """What is over ends as refusals, one by one."""
    told = batch(client, cmd={f"c{number}": "profile" for number in range(52)})

    assert len(told["result"]) == 50
    assert {name: one["error"] for name, one in told["result_error"].items()} == {
        "c50": "ERROR_BATCH_LENGTH_EXCEEDED",
        "c51": "ERROR_BATCH_LENGTH_EXCEEDED",
    }


def test_batch_in_a_batch_is_refused(client: httpx.Client) -> None:
    """It was possible once, and is no longer."""
    told = batch(client, cmd={"b": "batch?cmd[a]=profile"})

    assert told["result_error"]["b"]["error"] == "ERROR_BATCH_METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(("halt", "done"), [(0, ["c"]), (1, [])])
def test_batch_halts_on_request(client: httpx.Client, halt: int, done: list[str]) -> None:
    """Without it every command is tried."""
    told = batch(client, halt=halt, cmd={"a": "crm.deal.get?id=1", "b": "crm.deal.get?id=2", "c": "profile"})

    assert list(told["result"]) == done
    assert len(told["result_error"]) == (1 if halt else 2)


def test_empty_maps_of_a_batch_are_lists(client: httpx.Client) -> None:
    """PHP knows no difference, and strict readers fail on it."""
    failed = batch(client, cmd={"a": "crm.deal.get?id=1"})
    numbered = batch(client, cmd=["profile", "crm.deal.get?id=1", "scope"])

    assert (failed["result"], failed["result_total"], failed["result_time"]) == ([], [], [])
    assert list(numbered["result"]) == ["0", "2"]
    assert list(numbered["result_error"]) == ["1"]
