"""The fake account answers and delivers as docs/protocols/amocrm.md says; each limit and fault once."""

from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest

from platforms.amocrm import AmoCrm
from platforms.amocrm_data import WON, CustomField
from platforms.receiver import Receiver


@pytest.fixture
def client(amocrm: AmoCrm) -> Iterator[httpx.Client]:
    """Give a client with the long-lived token."""
    headers = {"Authorization": f"Bearer {amocrm.tokens.long_lived}"}
    with httpx.Client(base_url=amocrm.url, headers=headers, trust_env=False, timeout=10) as made:
        yield made


def test_lead_has_its_contacts_only_on_request(amocrm: AmoCrm, client: httpx.Client) -> None:
    """The phone that finds a visitor stands in the contact."""
    contact_id = amocrm.create_contact(phones=["+7 900 123-45-67"])
    lead_id = amocrm.create_lead(price=Decimal("5000.50"), contact_ids=[contact_id])

    bare = client.get(f"/api/v4/leads/{lead_id}").json()
    whole = client.get(f"/api/v4/leads/{lead_id}?with=contacts").json()

    assert (bare["price"], bare["custom_fields_values"], bare["closed_at"]) == (5000, None, None)
    assert "contacts" not in bare["_embedded"]
    assert whole["_embedded"]["contacts"][0]["id"] == contact_id


def test_status_is_delivered_as_the_account_does(amocrm: AmoCrm, receiver: Receiver) -> None:
    """The names and their order are those of tests/recorded/amocrm/lead-status-won.http."""
    amocrm.add_field(CustomField(500101, "Session"))
    amocrm.subscribe(f"{receiver.url}/in?key=k", ["status_lead"])
    lead_id = amocrm.create_lead(price=Decimal("5000.50"), fields={500101: "s-1"})
    amocrm.move_lead(lead_id, WON)

    (delivery,) = amocrm.send()

    assert delivery.is_delivered
    assert list(receiver.bodies[0]) == [
        "account[subdomain]",
        "account[id]",
        "account[_links][self]",
        *(
            f"leads[status][0][{name}]"
            for name in (
                *("id", "name", "status_id", "old_status_id", "price", "responsible_user_id"),
                *("last_modified", "modified_user_id", "created_user_id", "date_create", "pipeline_id"),
                *("account_id", "custom_fields][0][id", "custom_fields][0][name"),
                *("custom_fields][0][values][0][value", "created_at", "updated_at"),
            )
        ),
    ]
    assert receiver.bodies[0]["leads[status][0][price]"] == "5000"
