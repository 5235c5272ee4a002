"""Bitrix24 is asked in few calls, and a deal that it does not show is not taken for a deleted one."""

import json
from datetime import UTC, datetime

import pytest

from closedloop.domain.deal import Deal
from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CallerError
from closedloop.parse.base import CrmApi
from closedloop.parse.rest.bitrix24 import Bitrix24Api
from fix_conversation import play
from fix_portal import Portal, Row

STAGES = [
    {"STATUS_ID": "NEW", "SORT": "10"},
    {"STATUS_ID": "PAY", "SORT": "20"},
    {"STATUS_ID": "WON", "SORT": "30", "SEMANTICS": "S"},
]


def item(number: int, **further: object) -> Row:
    """Return an item as crm.item.list shows it."""
    return {
        "id": number,
        "title": f"Deal {number}",
        "categoryId": 0,
        "stageId": "PAY",
        "stageSemanticId": "P",
        "opportunity": 5000.5,
        "currencyId": "RUB",
        "updatedTime": "2025-03-08T15:20:00+03:00",
        "leadId": 0,
        "contactIds": [],
        **further,
    }


def portal(*items: Row) -> Portal:
    """Return a portal with deals and one funnel."""
    made = Portal()
    made.items[2] = {one["id"]: one for one in items}
    made.stages["DEAL_STAGE"] = STAGES
    return made


def read(made: Portal, *deal_ids: str, api: Bitrix24Api | None = None) -> dict[str, Deal | None]:
    """Return what is read of deals."""
    api = api or Bitrix24Api()
    return dict(play(api, api.read_deals(deal_ids), made))


def test_api_is_what_every_adapter_is() -> None:
    """The loops know no CRM by name; the bucket of the portal is shared with others."""
    api: CrmApi = Bitrix24Api()

    assert (api.name, api.calls_per_second) == ("bitrix24", 2)
    assert api.burst < 50


def test_deal_is_read_with_all_that_belongs_to_it() -> None:
    """The session is found in the lead that the deal was."""
    made = portal(item(662, leadId=365, contactIds=[84], UF_CRM_7="300|RUB"))
    made.rows["crm.lead.list"] = [{"ID": "365", "UF_CRM_1": "sess-1"}]
    made.rows["crm.contact.list"] = [{"ID": "84", "PHONE": [{"VALUE": "8 900 000-00-00"}]}]
    made.fields = {1: {"UF_CRM_1": {"title": "session_id"}}, 2: {"UF_CRM_7": {"title": "Маржа"}}}

    deal = read(made, "662")["662"]

    assert deal is not None
    assert (str(deal.value), deal.passed, deal.is_qualified) == ("5000.5", ("NEW", "PAY"), True)
    assert deal.fields["Маржа"] == "300|RUB"
    assert [(finding.value, finding.place) for finding in deal.findings] == [
        ("sess-1", "lead 365, session_id"),
        ("+79000000000", "contact 84, PHONE"),
    ]


def test_steps_are_read_when_they_are_wanted() -> None:
    """They cost calls, and goals on stages that were skipped over need them."""
    made = portal(item(662, stageId="LOSE", stageSemanticId="F"))
    made.history = [
        {"ID": 1, "OWNER_ID": 662, "CREATED_TIME": "2025-03-08T15:20:00+03:00", "STAGE_ID": "PAY"}
    ]

    without, with_steps = (
        read(made, "662", api=Bitrix24Api(with_steps=wanted))["662"] for wanted in (False, True)
    )

    assert without is not None
    assert with_steps is not None
    assert (without.passed, without.is_qualified) == (("LOSE",), False)
    assert (with_steps.passed, with_steps.is_qualified) == (("LOSE", "PAY"), True)


def test_known_portal_costs_a_call_for_a_deal_without_links() -> None:
    """Names and stages are remembered."""
    made, api = portal(item(1), item(2)), Bitrix24Api()
    read(made, "1", api=api)
    made.requests = 0

    read(made, "2", api=api)

    assert made.requests == 1


def test_many_deals_are_read_in_few_calls() -> None:
    """A bulk action changes a thousand deals at once."""
    made = portal(*(item(number, leadId=number) for number in range(1, 1001)))

    found = read(made, *map(str, range(1, 1001)))

    assert all(found[str(number)] for number in range(1, 1001))
    assert made.requests <= 4


def test_deleted_deal_is_none() -> None:
    """Its money is taken back."""
    assert read(portal(item(1)), "1", "2").get("2", "absent") is None


def test_deal_that_may_not_be_seen_is_not_deleted() -> None:
    """Its list leaves it out just as a deleted one; its own page says why."""
    made = portal()
    made.refused["crm.item.get"] = ("ACCESS_DENIED", "Access denied")

    assert read(made, "662") == {}


def test_deal_that_the_list_left_out_is_still_read() -> None:
    """Lists lag, and leave out what the portal alone knows."""
    made = portal(item(662))
    hidden = made.items.pop(2)

    def answer(request: Request) -> Reply:
        commands = json.dumps(dict(request.body or {}))
        made.items[2] = hidden if "may_get_" in commands else {}
        return made(request)

    api = Bitrix24Api()

    found = play(api, api.read_deals(["662"]), answer)

    assert found["662"] is not None


def test_smart_processes_and_invoices_are_read() -> None:
    """Robots of smart processes call with such ids; a type that was deleted takes its objects with it."""
    made = portal(item(21))
    made.items[1032] = {21: item(21, categoryId=7, stageId="DT1032_7:SUCCESS", stageSemanticId=None)}
    made.items[31] = {9: item(9)}
    made.stages["DYNAMIC_1032_STAGE_7"] = [{"STATUS_ID": "DT1032_7:SUCCESS", "SORT": "1", "SEMANTICS": "S"}]

    found = read(made, "21", "DYNAMIC_1032_21", "SMART_INVOICE_9", "DYNAMIC_2000_1", "LEAD_7")

    assert [(deal_id, deal.outcome if deal else None) for deal_id, deal in found.items()] == [
        ("21", "open"),
        ("DYNAMIC_1032_21", "won"),
        ("SMART_INVOICE_9", "open"),
        ("DYNAMIC_2000_1", None),
    ]


def test_no_deal_is_no_call() -> None:
    """Every call counts against a limit that others share."""
    made = portal()

    assert read(made) == {}
    assert made.requests == 0


def test_changed_deals_come_complete() -> None:
    """The sweep finds visits as well as the webhook does."""
    made, api = portal(item(662, leadId=365)), Bitrix24Api()
    made.rows["crm.lead.list"] = [{"ID": "365", "UF_CRM_SESSION_ID": "sess-1"}]

    page = play(api, api.changed_deals(api.first_cursor(datetime(2025, 3, 8, tzinfo=UTC))), made)

    assert [finding.value for deal in page.deals for finding in deal.findings] == ["sess-1"]


def test_fields_are_written_by_their_own_names() -> None:
    """Without the original names the portal would pass them over and say nothing."""
    api = Bitrix24Api()

    request = next(api.write_fields("DYNAMIC_1032_21", {"UF_CRM_9": "yandex / cpc"}))

    assert request == Request(
        method="POST",
        path="crm.item.update",
        body={
            "entityTypeId": 1032,
            "id": 21,
            "fields": {"UF_CRM_9": "yandex / cpc"},
            "useOriginalUfNames": "Y",
        },
    )


def test_fields_are_written() -> None:
    """The owner sees in the deal where it came from."""
    made, api = portal(item(662)), Bitrix24Api()

    play(api, api.write_fields("662", {"UF_CRM_9": "yandex"}), made)

    assert made.items[2][662]["UF_CRM_9"] == "yandex"


def test_fields_of_nothing_are_not_written() -> None:
    """An id that is none must not reach another object."""
    with pytest.raises(CallerError, match="deal_id"):
        next(Bitrix24Api().write_fields("LEAD_7", {"UF_CRM_9": "x"}))
