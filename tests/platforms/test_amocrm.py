"""The fake account answers as docs/protocols/amocrm.md says; each limit and error once."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from platforms.amocrm import AmoCrm
from platforms.amocrm_data import LOST, PIPELINE, WON, CustomField

SESSION, UID, UTM, PROGRAM, PAID, CONSENT = 500101, 500102, 500110, 500104, 500105, 500203
SECOND = 4500002


@pytest.fixture
def client(amocrm: AmoCrm) -> Iterator[httpx.Client]:
    """Give a client with the long-lived token."""
    headers = {"Authorization": f"Bearer {amocrm.tokens.long_lived}"}
    with httpx.Client(base_url=amocrm.url, headers=headers, trust_env=False, timeout=10) as made:
        yield made


def found(client: httpx.Client, query: str) -> list[int]:
    """Return the leads of one page of a list."""
    answer = client.get(f"/api/v4/leads?{query}")
    return [] if answer.status_code == 204 else [lead["id"] for lead in answer.json()["_embedded"]["leads"]]


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and title of a refusal."""
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == answer.status_code
    return answer.status_code, told["title"]


def add_fields(account: AmoCrm) -> None:
    """Add a field of each kind that the tests write."""
    account.add_field(CustomField(SESSION, "Session"))
    account.add_field(CustomField(UID, "_ym_uid", "tracking_data", "_YM_UID"))
    account.add_field(CustomField(UTM, "utm_source", "tracking_data", "UTM_SOURCE"))
    account.add_field(CustomField(PROGRAM, "Program", "select", enums={"Standard": 853001}))
    account.add_field(CustomField(PAID, "Paid on", "date"))
    account.add_field(CustomField(CONSENT, "Consent", "checkbox"))


def test_empty_lead_has_null_for_its_fields(amocrm: AmoCrm, client: httpx.Client) -> None:
    """A reader that loops over the fields fails on the first empty card."""
    lead_id = amocrm.create_lead(price=Decimal("5000.50"))

    lead = client.get(f"/api/v4/leads/{lead_id}").json()

    assert (lead["price"], lead["custom_fields_values"], lead["closed_at"]) == (5000, None, None)
    assert (lead["pipeline_id"], lead["status_id"], "price_with_minor_units" in lead) == (
        PIPELINE,
        41000001,
        False,
    )


def test_minor_units_stand_beside_the_cut_price(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Newer accounts have them, and the price is whole all the same."""
    amocrm.account.has_minor_units = True
    lead_id = amocrm.create_lead(price=Decimal("100.50"))

    lead = client.get(f"/api/v4/leads/{lead_id}").json()

    assert (lead["price"], lead["price_with_minor_units"]) == (100, 100.5)


def test_values_are_objects_whatever_their_kind(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Unlike in a webhook, dates too; an empty field is not there."""
    add_fields(amocrm)
    values = {SESSION: "s-1", UID: "1741", UTM: None, PROGRAM: "Standard", PAID: 1741381200, CONSENT: True}
    lead_id = amocrm.create_lead(fields={**values})

    fields = client.get(f"/api/v4/leads/{lead_id}").json()["custom_fields_values"]

    assert [(one["field_id"], one["field_code"], one["values"]) for one in fields] == [
        (SESSION, None, [{"value": "s-1"}]),
        (UID, "_YM_UID", [{"value": "1741"}]),
        (PROGRAM, None, [{"value": "Standard", "enum_id": 853001, "enum_code": None}]),
        (PAID, None, [{"value": 1741381200}]),
        (CONSENT, None, [{"value": True}]),
    ]


def test_lead_has_its_contacts_only_on_request(amocrm: AmoCrm, client: httpx.Client) -> None:
    """The phone that finds a visitor stands in the contact."""
    contact_id = amocrm.create_contact(phones=["+7 900 123-45-67", "8 (000) 000"], emails=["a@b.example"])
    lead_id = amocrm.create_lead(contact_ids=[contact_id])

    bare = client.get(f"/api/v4/leads/{lead_id}").json()["_embedded"]
    whole = client.get(f"/api/v4/leads/{lead_id}?with=contacts,loss_reason").json()["_embedded"]
    (contact,) = client.get(f"/api/v4/contacts?filter[id][]={contact_id}&with=leads").json()["_embedded"][
        "contacts"
    ]

    assert ("contacts" in bare, [one["id"] for one in whole["contacts"]]) == (False, [contact_id])
    assert contact["_embedded"]["leads"][0]["id"] == lead_id
    phones, emails = contact["custom_fields_values"]
    assert (phones["field_code"], phones["values"][1]["enum_code"]) == ("PHONE", "MOB")
    assert (emails["field_type"], emails["values"][0]["value"]) == ("multitext", "a@b.example")
    assert client.get(f"/api/v4/contacts/{contact_id}").json()["id"] == contact_id


def test_closing_and_reopening_moves_the_moment(amocrm: AmoCrm, client: httpx.Client) -> None:
    """A reopened lead was not won at any time."""
    lead_id = amocrm.create_lead()
    amocrm.clock.forward(timedelta(hours=1))
    amocrm.move_lead(lead_id, WON)
    won = client.get(f"/api/v4/leads/{lead_id}").json()
    amocrm.move_lead(lead_id, 41000002)

    reopened = client.get(f"/api/v4/leads/{lead_id}").json()

    assert (won["status_id"], won["closed_at"] - won["created_at"]) == (WON, 3600)
    assert (reopened["closed_at"], reopened["updated_at"]) == (None, won["updated_at"])


@pytest.mark.parametrize(
    "path", ["leads/1", "contacts/1", "leads?filter[id][]=1", "leads?page=2", "contacts"]
)
def test_nothing_is_an_answer_without_a_body(client: httpx.Client, path: str) -> None:
    """It is not an error, and no JSON."""
    answer = client.get(f"/api/v4/{path}")

    assert (answer.status_code, answer.content) == (204, b"")


def test_deleted_lead_is_nothing_until_it_is_restored(amocrm: AmoCrm, client: httpx.Client) -> None:
    """The bin can be seen only by those who ask for it."""
    lead_id = amocrm.create_lead()
    amocrm.delete_lead(lead_id)
    gone = client.get(f"/api/v4/leads/{lead_id}").status_code

    listed, in_bin = found(client, "limit=250"), found(client, "with=only_deleted")
    amocrm.restore_lead(lead_id)

    assert (gone, listed, in_bin) == (204, [], [lead_id])
    assert client.get(f"/api/v4/leads/{lead_id}").status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4]),
        ("filter[id][]=3&filter[id][]=1", [1, 3]),
        ("filter[id]=2", [2]),
        ("filter[statuses][0][pipeline_id]=4500001&filter[statuses][0][status_id]=142", [2]),
        (
            (
                "filter[statuses][0][pipeline_id]=4500001&filter[statuses][0][status_id]=142"
                "&filter[statuses][1][pipeline_id]=4500002&filter[statuses][1][status_id]=142"
            ),
            [2, 3],
        ),
        ("filter[pipeline_id]=4500002", [3]),
        ("filter[updated_at][from]=1741436520", [3, 4]),
        ("filter[updated_at][from]=1741436460&filter[updated_at][to]=1741436520", [2, 3]),
        ("filter[closed_at]=1", [2, 3, 4]),
        ("order[updated_at]=desc", [4, 3, 2, 1]),
        ("order[id]=desc&limit=2", [4, 3]),
        ("limit=2&page=2", [3, 4]),
    ],
)
def test_list_finds(amocrm: AmoCrm, client: httpx.Client, query: str, expected: list[int]) -> None:
    """A sweep asks by moments, ids and statuses; what it misses is lost money."""
    amocrm.crm.add_pipeline(SECOND, "Second", {42000001: "New"})
    amocrm.create_lead(id=1)
    for lead_id, pipeline_id, status_id in ((2, PIPELINE, WON), (3, SECOND, WON), (4, PIPELINE, LOST)):
        amocrm.clock.forward(60)
        amocrm.create_lead(id=lead_id, pipeline_id=pipeline_id, status_id=status_id)

    assert found(client, query) == expected


def test_pages_are_followed_to_the_last(amocrm: AmoCrm, client: httpx.Client) -> None:
    """At most 250 to a page, whatever is asked for; the last has no next one."""
    for _ in range(20_000):
        amocrm.create_lead()
    amocrm.window.watch.speed = 1e6
    pages: list[int] = []
    url: str | None = f"{amocrm.url}/api/v4/leads?limit=1000&order[updated_at]=asc&filter[updated_at][from]=1"

    while url is not None:
        told = client.get(url).json()
        pages.append(len(told["_embedded"]["leads"]))
        url = told["_links"].get("next", {}).get("href")

    assert pages == [250] * 80


def test_too_large_a_page_times_out(amocrm: AmoCrm, client: httpx.Client) -> None:
    """A smaller one may be had."""
    amocrm.api.max_page = 100
    amocrm.create_lead()

    answers = [client.get(f"/api/v4/leads?limit={limit}") for limit in (250, 100)]

    assert [answer.status_code for answer in answers] == [504, 200]
    assert answers[0].headers["content-type"] == "text/html"


def test_dictionaries_tell_fields_and_statuses(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Won and lost have the same numbers in each pipeline; nothing else has."""
    amocrm.crm.add_pipeline(SECOND, "Second", {42000001: "New"})
    add_fields(amocrm)

    pipelines = client.get("/api/v4/leads/pipelines").json()["_embedded"]["pipelines"]
    fields = client.get("/api/v4/leads/custom_fields?limit=4").json()
    one = client.get(f"/api/v4/leads/pipelines/{SECOND}").json()

    assert [[status["id"] for status in one["_embedded"]["statuses"]] for one in pipelines] == [
        [41000001, 41000002, 41000003, WON, LOST],
        [42000001, WON, LOST],
    ]
    assert (fields["_total_items"], len(fields["_embedded"]["custom_fields"])) == (6, 4)
    assert "next" in fields["_links"]
    assert fields["_embedded"]["custom_fields"][3]["enums"][0]["value"] == "Standard"
    assert one["name"] == "Second"


def test_account_tells_who_it_is(amocrm: AmoCrm, client: httpx.Client) -> None:
    """A set-up that points to another account is found out by it."""
    account = client.get("/api/v4/account").json()
    place = client.get("/oauth2/account/subdomain").json()

    assert (account["id"], account["currency"]) == (30000001, "RUB")
    assert (place["subdomain"], place["domain"]) == ("alfashop", amocrm.account.domain)


def test_patch_writes_fields_and_fires(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Fields are named by number or code; those that are not named stay."""
    add_fields(amocrm)
    lead_id = amocrm.create_lead(fields={SESSION: "s-1", UTM: "yandex"})
    amocrm.pending.clear()
    changes = [
        {"field_code": "_YM_UID", "values": [{"value": "1741"}]},
        {"field_id": UTM, "values": None},
    ]

    several = client.patch("/api/v4/leads", json=[{"id": lead_id, "custom_fields_values": changes}])
    one = client.patch(f"/api/v4/leads/{lead_id}", json={"price": 7, "status_id": WON})

    lead = amocrm.lead(lead_id)
    assert (several.json()["_embedded"]["leads"][0]["id"], one.json()["id"]) == (lead_id, lead_id)
    assert (lead.fields, lead.price, lead.status_id) == (
        {SESSION: "s-1", UID: "1741", UTM: None},
        Decimal(7),
        WON,
    )
    assert [event.setting for event in amocrm.pending] == ["update_lead", "status_lead", "update_lead"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": 5}, "id"),
        (
            {"id": 1, "custom_fields_values": [{"field_id": 9}]},
            "custom_fields_values.0.field_id",
        ),
        ({"id": 1, "status_id": 7}, "status_id"),
        ({"id": 1, "price": "a lot"}, "price"),
    ],
)
def test_patch_changes_all_or_nothing(
    amocrm: AmoCrm, client: httpx.Client, change: dict[str, Any], path: str
) -> None:
    """The refusal names the element and the key."""
    amocrm.create_lead(id=1)
    amocrm.create_lead(id=2)

    answer = client.patch("/api/v4/leads", json=[{"id": 2, "name": "new"}, change])

    assert problem(answer) == (400, "Bad Request")
    (error,) = answer.json()["validation-errors"]
    assert (error["request_id"], error["errors"][0]["path"]) == ("1", path)
    assert amocrm.lead(2).name != "new"


def test_body_that_is_no_json_is_refused(client: httpx.Client) -> None:
    """It changes nothing."""
    assert problem(client.patch("/api/v4/leads", content=b"[{")) == (400, "Bad Request")
    assert problem(client.get("/api/v4/nothing")) == (404, "Not Found")
