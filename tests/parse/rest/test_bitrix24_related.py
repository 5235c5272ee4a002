"""A deal without a session may have a lead with one: leads, contacts and history come in few calls."""

from closedloop.parse.rest.answers import Table
from closedloop.parse.rest.bitrix24 import Bitrix24Api
from closedloop.parse.rest.bitrix24_deal import ItemId, Related
from closedloop.parse.rest.bitrix24_related import MAX_CONTACTS, read_related
from fix_conversation import play
from fix_portal import Portal, Row


def read(portal: Portal, items: dict[ItemId, Table], *, with_steps: bool = False) -> dict[ItemId, Related]:
    """Return what the portal tells of some items."""
    return play(Bitrix24Api(), read_related(items, with_steps=with_steps), portal)


def entered(number: int, owner: int, stage: str, minute: int) -> Row:
    """Return an entry of the history of stages."""
    at = f"2025-03-08T15:{minute:02}:00+03:00"
    return {"ID": number, "OWNER_ID": owner, "CREATED_TIME": at, "CATEGORY_ID": 5, "STAGE_ID": stage}


def test_each_deal_gets_its_own() -> None:
    """Fifty deals are asked about together, and money must not change hands."""
    portal = Portal()
    portal.rows["crm.lead.list"] = [{"ID": "1", "TITLE": "one"}, {"ID": "2", "TITLE": "two"}]
    portal.rows["crm.contact.list"] = [{"ID": "7"}, {"ID": "8"}]
    items: dict[ItemId, Table] = {
        ItemId(2, "10"): {"leadId": "2", "contactIds": ["8", "7"]},
        ItemId(2, "11"): {"leadId": "1", "contactId": "9"},
        ItemId(2, "12"): {},
    }

    found = read(portal, items)

    assert [related.lead.get("TITLE") for related in found.values()] == ["two", "one", None]
    assert [[one["ID"] for one in related.contacts] for related in found.values()] == [["8", "7"], [], []]
    assert portal.requests == 1


def test_portal_without_leads_still_tells_contacts() -> None:
    """In the simple mode reading leads is refused."""
    portal = Portal()
    portal.refused["crm.lead.list"] = ("ACCESS_DENIED", "Access denied")
    portal.rows["crm.contact.list"] = [{"ID": "7"}]

    found = read(portal, {ItemId(2, "10"): {"leadId": "2", "contactIds": ["7"]}})

    assert found == {ItemId(2, "10"): Related(lead={}, contacts=[{"ID": "7"}])}


def test_deal_without_links_costs_no_call() -> None:
    """Every call counts against a limit that others share."""
    portal = Portal()

    read(portal, {ItemId(2, "10"): {}})

    assert portal.requests == 0


def test_people_of_a_company_are_not_all_read() -> None:
    """A deal may have hundreds of contacts, of whom hardly the fiftieth was on the site."""
    portal = Portal()
    portal.rows["crm.contact.list"] = [{"ID": str(number)} for number in range(1, 100)]

    found = read(portal, {ItemId(2, "10"): {"contactIds": [str(number) for number in range(1, 100)]}})

    assert len(found[ItemId(2, "10")].contacts) == MAX_CONTACTS


def test_history_is_read_to_its_end() -> None:
    """A deal that went to and fro fills pages, and its neighbours must not lose theirs."""
    portal = Portal()
    portal.history = [
        *(entered(number, 10, f"C5:{number}", number % 60) for number in range(1, 121)),
        entered(121, 11, "C5:NEW", 5),
    ]
    items: dict[ItemId, Table] = {ItemId(2, "10"): {}, ItemId(2, "11"): {}}

    found = read(portal, items, with_steps=True)

    assert len(found[ItemId(2, "10")].steps) == 120
    assert [(step.funnel, step.stage) for step in found[ItemId(2, "11")].steps] == [("5", "C5:NEW")]
    assert portal.requests == 3


def test_history_stands_in_the_order_of_time() -> None:
    """What was entered last decides."""
    portal = Portal()
    portal.history = [entered(1, 10, "C5:B", 20), entered(2, 10, "C5:A", 10), entered(3, 10, "", 30)]

    found = read(portal, {ItemId(2, "10"): {}}, with_steps=True)

    assert [step.stage for step in found[ItemId(2, "10")].steps] == ["C5:A", "C5:B"]


def test_history_that_is_refused_is_none() -> None:
    """The deal itself is told all the same."""
    portal = Portal()
    portal.refused["crm.stagehistory.list"] = ("ENTITY_TYPE_NOT_SUPPORTED", "")

    found = read(portal, {ItemId(2, "10"): {}}, with_steps=True)

    assert found[ItemId(2, "10")].steps == ()
