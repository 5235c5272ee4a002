"""The fake portal answers and sends as docs/protocols/bitrix24.md says; each limit and fault once."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from platforms.bitrix24 import Bitrix24
from platforms.receiver import Receiver


@pytest.fixture
def client(bitrix24: Bitrix24) -> Iterator[httpx.Client]:
    """Give a client of the portal's webhook."""
    with httpx.Client(base_url=bitrix24.webhook_url, trust_env=False, timeout=10) as made:
        yield made


def ask(client: httpx.Client, method: str, **params: object) -> Any:  # noqa: ANN401 - whatever it says
    """Return the whole answer of one method."""
    return client.post(method, json=params).json()


def test_classic_deal_has_numbers_as_text(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """A reader that counts on numbers would fail on the first real portal."""
    deal_id = bitrix24.create_deal(opportunity=Decimal(5000), stage_id="WON")

    deal = ask(client, "crm.deal.get", id=deal_id)["result"]

    assert (deal["ID"], deal["OPPORTUNITY"], deal["LEAD_ID"]) == ("1", "5000.00", None)
    assert (deal["STAGE_ID"], deal["STAGE_SEMANTIC_ID"]) == ("WON", "S")
    assert deal["MOVED_TIME"] == "2025-03-08T15:20:00+03:00"


def test_list_pages_by_fifty(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Whoever reads one page only sees fifty deals of thousands."""
    for _ in range(120):
        bitrix24.create_deal()

    pages = [ask(client, "crm.item.list", entityTypeId=2, start=start) for start in (0, 50, 100)]

    assert [len(page["result"]["items"]) for page in pages] == [50, 50, 20]
    assert [(page["total"], page.get("next")) for page in pages] == [(120, 50), (120, 100), (120, None)]


def test_batch_takes_what_earlier_commands_gave(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """One call instead of three is what keeps a client below the limit."""
    for _ in range(60):
        bitrix24.create_deal()
    last = ask(
        client,
        "batch",
        cmd={
            "p": "crm.item.list?entityTypeId=2&order[id]=asc",
            "q": "crm.item.list?entityTypeId=2&filter[>id]=$result[p][items][49][id]",
        },
    )["result"]

    assert [item["id"] for item in last["result"]["q"]["items"]] == list(range(51, 61))
    assert last["result_error"] == []


def test_pending_events_are_posted_as_the_portal_does(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """The bytes are those of tests/recorded/bitrix24/event-deal-update.http."""
    deal_id = bitrix24.create_deal(id=662)
    bitrix24.move_deal(deal_id, "WON")

    statuses = bitrix24.send(f"{receiver.url}/in?key=k")

    assert statuses == [200, 200]
    assert [body["event"] for body in receiver.bodies] == ["ONCRMDEALADD", "ONCRMDEALUPDATE"]
    assert receiver.calls[0].request.body == (
        b"event=ONCRMDEALADD&event_handler_id=17&data%5BFIELDS%5D%5BID%5D=662&ts=1741436400"
        b"&auth%5Bdomain%5D=alfa.b24.example"
        b"&auth%5Bclient_endpoint%5D=https%3A%2F%2Falfa.b24.example%2Frest%2F"
        b"&auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.b24.example%2Frest%2F"
        b"&auth%5Bmember_id%5D=00112233445566778899aabbccddeeff"
        b"&auth%5Bapplication_token%5D=demoapplicationtoken000000000001"
    )
    assert bitrix24.pending == []
