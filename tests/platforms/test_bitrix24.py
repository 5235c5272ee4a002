"""The fake portal answers as docs/protocols/bitrix24.md says; each limit and error once."""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import CONTACT, DEAL, LEAD, Stage

SESSION = "UF_CRM_1721244482250"
SMART = 1032


@pytest.fixture
def client(bitrix24: Bitrix24) -> Iterator[httpx.Client]:
    """Give a client of the portal's webhook."""
    with httpx.Client(base_url=bitrix24.webhook_url, trust_env=False, timeout=10) as made:
        yield made


def ask(client: httpx.Client, method: str, **params: object) -> Any:  # noqa: ANN401 - whatever it says
    """Return the whole answer of one method."""
    return client.post(method, json=params).json()


def ids(client: httpx.Client, conditions: object, **params: object) -> list[int]:
    """Return the deals that a filter finds."""
    answer = ask(client, "crm.item.list", entityTypeId=DEAL, filter=conditions, **params)
    return [item["id"] for item in answer["result"]["items"]]


def test_classic_deal_has_numbers_as_text(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """A reader that counts on numbers would fail on the first real portal."""
    bitrix24.crm.add_user_field(DEAL, SESSION, "Session")
    lead_id = bitrix24.create_lead()
    bitrix24.create_deal(
        opportunity=Decimal(5000), stage_id="WON", lead_id=lead_id, close_date=date(2025, 3, 8)
    )

    deal = ask(client, "crm.deal.get", id=1)["result"]

    assert (deal["ID"], deal["OPPORTUNITY"], deal["LEAD_ID"]) == ("1", "5000.00", "1")
    assert (deal["STAGE_ID"], deal["STAGE_SEMANTIC_ID"], deal["CLOSED"]) == ("WON", "S", "Y")
    assert (deal["MOVED_TIME"], deal["CLOSEDATE"]) == (
        "2025-03-08T15:20:00+03:00",
        "2025-03-08T03:00:00+03:00",
    )
    assert (deal["COMPANY_ID"], deal["QUOTE_ID"], deal[SESSION]) == ("0", None, "")


def test_universal_deal_has_numbers(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Both families are in use, and a client may have to read both."""
    bitrix24.crm.add_user_field(DEAL, SESSION, "Session")
    bitrix24.create_contact()
    bitrix24.create_deal(opportunity=Decimal("5000.5"), contact_ids=[1], fields={SESSION: "s-1"})

    deal = ask(client, "crm.item.get", entityTypeId=2, id=1)["result"]["item"]
    original = ask(client, "crm.item.get", entityTypeId=2, id=1, useOriginalUfNames="Y")["result"]["item"]

    assert (deal["id"], deal["opportunity"], deal["contactId"], deal["contactIds"]) == (1, 5000.5, 1, [1])
    assert (deal["companyId"], deal["leadId"], deal["fm"]) == (0, None, [])
    assert (deal["ufCrm_1721244482250"], original[SESSION]) == ("s-1", "s-1")


def test_phones_are_there_only_when_filled(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The phone is what finds a visitor without a session."""
    bitrix24.create_lead(phones=["+70000000001"])
    bitrix24.create_contact(emails=["buyer@mail.example"])

    lead = ask(client, "crm.lead.get", id=1)["result"]
    contact = ask(client, "crm.contact.get", id=1)["result"]

    assert lead["PHONE"] == [{"ID": "101", "VALUE_TYPE": "WORK", "VALUE": "+70000000001", "TYPE_ID": "PHONE"}]
    assert (lead["HAS_PHONE"], lead["HAS_EMAIL"], "EMAIL" in lead) == ("Y", "N", False)
    assert ("PHONE" in contact, contact["EMAIL"][0]["VALUE"]) == (False, "buyer@mail.example")


def test_list_pages_by_fifty(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Whoever reads one page only sees fifty deals of thousands."""
    for _ in range(120):
        bitrix24.create_deal()

    pages = [ask(client, "crm.item.list", entityTypeId=2, start=start) for start in (0, 50, 100)]

    assert [len(page["result"]["items"]) for page in pages] == [50, 50, 20]
    assert [(page["total"], page.get("next")) for page in pages] == [(120, 50), (120, 100), (120, None)]


def test_many_deals_are_read_by_their_ids(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The vendor's advice for much data; the fake must not be what a test waits for."""
    for _ in range(20_000):
        bitrix24.create_deal()
    bitrix24.buckets.watch.speed = 1e6
    found = [0]

    while page := ids(client, {">id": found[-1]}, order={"id": "ASC"}, select=["id"], start=-1):
        found += page

    assert found[1:] == list(range(1, 20_001))


def test_uncounted_list_says_nothing_of_a_next_page(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """A client that goes by `next` would stop after the first page."""
    for _ in range(60):
        bitrix24.create_deal()

    page = ask(client, "crm.item.list", entityTypeId=2, start=-1)

    assert (len(page["result"]["items"]), page["total"], "next" in page) == (50, 0, False)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({">id": 2}, [3, 4]),
        ({">=updatedTime": "2025-03-08T15:21:00+03:00"}, [2, 3, 4]),
        ({">=movedTime": "2025-03-08T12:22:00+00:00"}, [3, 4]),
        ({"<movedTime": "2025-03-08 15:21:00"}, [1]),
        ({"stageSemanticId": "S"}, [2, 3]),
        ({"@id": [4, 2, 77]}, [2, 4]),
        ({"@stageSemanticId": ["S", "F"]}, [2, 3, 4]),
        ({"!stageSemanticId": "P"}, [2, 3, 4]),
        ({"!@stageId": ["WON", "LOSE"]}, [1, 3]),
        ({"<=opportunity": "200", ">opportunity": 100}, [2]),
        ({"%title": "ee"}, [3]),
        ({"categoryId": 5}, [3]),
        ({"=leadId": 0}, [1, 2, 3, 4]),
        ({"0": {"logic": "OR", "0": {"id": 1}, "1": {"stageSemanticId": "F"}}}, [1, 4]),
    ],
)
def test_filter_finds(
    bitrix24: Bitrix24, client: httpx.Client, conditions: dict[str, object], expected: list[int]
) -> None:
    """A sweep asks by moments, ids and outcomes; what a filter misses is lost money."""
    bitrix24.crm.add_funnel(DEAL, 5, "Second")
    for stage_id, title in {"NEW": "one", "WON": "two", "C5:WON": "three", "LOSE": "four"}.items():
        deal_id = bitrix24.create_deal(stage_id=stage_id, title=title)
        bitrix24.change_deal(deal_id, opportunity=Decimal(100 * deal_id))
        bitrix24.clock.forward(60)

    assert ids(client, conditions) == expected


@pytest.mark.parametrize(
    "params",
    [
        {"filter": {"nothing": 1}},
        {"filter": {">=movedTime": "yesterday"}},
        {"order": {"nothing": "ASC"}},
        {"order": {"id": "UP"}},
    ],
)
def test_universal_list_refuses_what_it_does_not_know(client: httpx.Client, params: dict[str, Any]) -> None:
    """The classic one passes over it and gives everything."""
    answer = client.post("crm.item.list", json={"entityTypeId": 2, **params})

    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_ARG_VALUE")
    assert client.post("crm.deal.list", json=params).status_code == 200


def test_smart_process_does_not_say_what_a_success_is(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Its stages must be looked up."""
    bitrix24.crm.add_smart_process(SMART)
    bitrix24.create(SMART, stage_id="DT1032_9:SUCCESS")

    item = ask(client, "crm.item.get", entityTypeId=SMART, id=1)["result"]["item"]
    refused = ask(client, "crm.item.list", entityTypeId=SMART, filter={"stageSemanticId": "S"})
    stages = ask(client, "crm.status.list", filter={"ENTITY_ID": "DYNAMIC_1032_STAGE_9"})["result"]

    assert (item["stageId"], "stageSemanticId" in item) == ("DT1032_9:SUCCESS", False)
    assert refused["error_description"] == "Invalid filter: field 'stageSemanticId' is not allowed in filter"
    assert [(one["STATUS_ID"], one["SEMANTICS"]) for one in stages][-2:] == [
        ("DT1032_9:SUCCESS", "S"),
        ("DT1032_9:FAIL", "F"),
    ]


def test_order_descends_by_any_field(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Equals come by their ids, so that pages do not overlap."""
    for amount in (1, 3, 3, 2):
        bitrix24.create_deal(opportunity=Decimal(amount))

    assert ids(client, {}, order={"opportunity": "desc"}) == [2, 3, 4, 1]


def test_classic_list_has_own_fields_only_on_request(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """A session id that was not asked for is not there, and nothing says so."""
    bitrix24.crm.add_user_field(DEAL, SESSION, "Session")
    bitrix24.create_deal(fields={SESSION: "s-1"})

    (bare,) = client.get("crm.deal.list").json()["result"]
    (whole,) = client.get("crm.deal.list?select[]=*&select[]=UF_*").json()["result"]
    (one,) = client.post("crm.deal.list.json", data={"select[0]": SESSION, "filter[>ID]": "0"}).json()[
        "result"
    ]

    assert SESSION not in bare
    assert whole == {**bare, SESSION: "s-1"}
    assert one == {SESSION: "s-1"}


def test_fields_are_described_under_both_names(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The owner knows a label, the configuration a name."""
    bitrix24.crm.add_user_field(DEAL, SESSION, "Session")

    classic = ask(client, "crm.deal.fields")["result"]
    universal = ask(client, "crm.item.fields", entityTypeId=2)["result"]["fields"]
    listed = ask(client, "crm.deal.userfield.list", filter={"LANG": "en"})["result"]

    assert (classic[SESSION]["isDynamic"], classic[SESSION]["formLabel"]) == (True, "Session")
    assert classic["MOVED_TIME"]["isReadOnly"]
    assert universal["ufCrm_1721244482250"]["upperName"] == SESSION
    assert [(one["FIELD_NAME"], one["EDIT_FORM_LABEL"]) for one in listed] == [(SESSION, "Session")]


def test_stages_of_each_funnel_have_their_semantics(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Names are free: only the semantics say what is won."""
    bitrix24.crm.add_funnel(DEAL, 5, "Second", Stage("C5:PAID", "Paid", "S"), Stage("C5:NO", "No", "F"))

    paid, _ = ask(client, "crm.status.list", filter={"ENTITY_ID": "DEAL_STAGE_5"})["result"]
    leads = ask(client, "crm.status.list", filter={"ENTITY_ID": "STATUS"}, order={"SORT": "DESC"})["result"]
    funnels = ask(client, "crm.category.list", entityTypeId=2)["result"]["categories"]

    assert (paid["STATUS_ID"], paid["SEMANTICS"], paid["EXTRA"]["SEMANTICS"]) == ("C5:PAID", "S", "success")
    assert [one["STATUS_ID"] for one in leads][:2] == ["JUNK", "CONVERTED"]
    assert [(one["id"], one["isDefault"]) for one in funnels] == [(0, "Y"), (5, "N")]


def test_history_shows_every_stage(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Won, reopened and won again is seen nowhere else."""
    bitrix24.crm.add_funnel(DEAL, 5, "Second")
    deal_id = bitrix24.create_deal()
    for stage_id in ("WON", "EXECUTING", "C5:NEW", "C5:WON"):
        bitrix24.clock.forward(timedelta(hours=1))
        bitrix24.move_deal(deal_id, stage_id)

    moves = ask(client, "crm.stagehistory.list", entityTypeId=2, filter={"OWNER_ID": deal_id})
    late = ask(
        client,
        "crm.stagehistory.list",
        entityTypeId=2,
        filter={">=CREATED_TIME": "2025-03-08T17:20:00+03:00", "STAGE_SEMANTIC_ID": "S"},
    )

    assert [(one["TYPE_ID"], one["STAGE_ID"]) for one in moves["result"]["items"]] == [
        (1, "NEW"),
        (3, "WON"),
        (2, "EXECUTING"),
        (5, "C5:NEW"),
        (3, "C5:WON"),
    ]
    assert [(one["ID"], one["CREATED_TIME"]) for one in late["result"]["items"]] == [
        (5, "2025-03-08T19:20:00+03:00")
    ]


def test_history_of_leads_has_other_names(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The vendor's page says so, and a filter by the deals' names is refused."""
    bitrix24.create_lead(stage_id="CONVERTED")

    (move,) = ask(client, "crm.stagehistory.list", entityTypeId=LEAD)["result"]["items"]

    assert (move["STATUS_ID"], move["STATUS_SEMANTIC_ID"]) == ("CONVERTED", "S")


def test_update_changes_the_deal_and_fires(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """A client that writes on every event goes round in circles."""
    bitrix24.crm.add_user_field(DEAL, SESSION, "Session")
    bitrix24.create_deal()
    bitrix24.pending.clear()
    bitrix24.clock.forward(60)

    classic = ask(client, "crm.deal.update", id=1, fields={SESSION: "s-1", "UF_CRM_NOTHING": "x"})
    universal = ask(
        client, "crm.item.update", entityTypeId=2, id=1, fields={"stageId": "WON", "opportunity": 7}
    )

    deal = bitrix24.deal(1)
    assert classic["result"] is True
    assert universal["result"]["item"]["stageId"] == "WON"
    assert (deal.fields, deal.opportunity, deal.updated - deal.created) == ({SESSION: "s-1"}, Decimal(7), 60)
    assert [event.name for event in bitrix24.pending] == ["ONCRMDEALUPDATE"] * 2


def test_contacts_of_a_deal_are_listed(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The deal itself names only the first."""
    contact_ids = [bitrix24.create_contact(), bitrix24.create_contact()]
    bitrix24.create_deal(contact_ids=contact_ids)

    contacts = ask(client, "crm.deal.contact.items.get", id=1)["result"]

    assert [(one["CONTACT_ID"], one["IS_PRIMARY"]) for one in contacts] == [(1, "Y"), (2, "N")]


def test_converted_lead_leaves_a_deal_that_points_to_it(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """The deal has no session id when the owner did not copy the field: it stands in the lead."""
    bitrix24.crm.add_user_field(LEAD, SESSION, "Session")
    lead_id = bitrix24.create_lead(fields={SESSION: "s-1"}, opportunity=Decimal(9))

    deal_id = bitrix24.convert_lead(lead_id, stage_id="WON")

    deal = ask(client, "crm.deal.get", id=deal_id)["result"]
    lead = ask(client, "crm.lead.get", id=deal["LEAD_ID"])["result"]
    assert (deal["OPPORTUNITY"], SESSION in deal) == ("9.00", False)
    assert (lead["STATUS_ID"], lead[SESSION]) == ("CONVERTED", "s-1")


def test_portal_without_leads_has_none(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """In the simple mode reading a lead fails, whatever the deal says."""
    bitrix24.create_lead()
    bitrix24.methods.mode = 2

    assert ask(client, "crm.settings.mode.get")["result"] == 2
    assert ask(client, "crm.lead.get", id=1)["error_description"] == "Not found"
    assert ask(client, "crm.lead.list")["result"] == []


def test_rights_can_be_asked_for(bitrix24: Bitrix24, client: httpx.Client) -> None:
    """Nothing but the basic methods works without a right."""
    bitrix24.scope.clear()

    refused = client.post("crm.deal.list")

    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    assert ask(client, "scope")["result"] == []
    assert ask(client, "profile")["result"]["ADMIN"] is True
    assert bitrix24.create(CONTACT) == 1
