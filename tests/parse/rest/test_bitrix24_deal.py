"""A deal is what the portal shows, to the kopeck, with every way back to its visitor, the surest first."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.deal import Step
from closedloop.parse.rest.answers import Json, Table
from closedloop.parse.rest.bitrix24_deal import (
    ItemId,
    Related,
    deal_id_of,
    deal_of,
    goal_fields,
    is_owners_field,
    linked_ids,
    read_deal_id,
    step_of,
)
from closedloop.parse.rest.bitrix24_known import Known
from closedloop.parse.rest.funnels import Stage

MOSCOW = timezone(timedelta(hours=3))
MOVED = datetime(2025, 3, 8, 15, 20, tzinfo=MOSCOW)
SESSION = "9f1c2b1e-4d5a-4c3b-8a7e-1f2d3c4b5a69"
OTHER = "0a1b2c3d-1111-4222-8333-444455556666"
AT = ItemId(2, "662")
ITEM: Table = {
    "id": "662",
    "title": "Deal",
    "categoryId": "0",
    "stageId": "WON",
    "stageSemanticId": "S",
    "opportunity": "5000.1",
    "currencyId": "RUB",
    "createdTime": "2025-03-03T14:06:40+03:00",
    "updatedTime": "2025-03-08T15:21:00+03:00",
    "movedTime": "2025-03-08T15:20:00+03:00",
    "closedate": "2025-03-08T03:00:00+03:00",
    "leadId": "365",
    "contactId": "84",
    "contactIds": ["84", "85"],
}


def known() -> Known:
    """Return a portal of which one funnel and one label are known."""
    told = Known()
    told.funnels[2] = {
        "0": [Stage(stage_id="NEW"), Stage(stage_id="PAY"), Stage(stage_id="WON", outcome="won")]
    }
    told.funnels[1032] = {
        "7": [Stage(stage_id="DT1032_7:NEW"), Stage(stage_id="DT1032_7:SUCCESS", outcome="won")]
    }
    told.labels[2] = {"UF_CRM_7": ("ID сессии",), "opportunity": ("Amount",)}
    return told


def test_won_deal_is_read_whole() -> None:
    """Sum, moment and stages go into the ledger; the planned end date is not the moment of winning."""
    deal = deal_of(AT, ITEM, Related(), known(), None)

    assert (deal.crm, deal.deal_id, deal.title, deal.funnel, deal.stage) == (
        "bitrix24",
        "662",
        "Deal",
        "0",
        "WON",
    )
    assert (deal.outcome, deal.value, deal.currency) == ("won", Decimal("5000.1"), "RUB")
    assert (deal.closed_at, deal.changed_at) == (MOVED, MOVED + timedelta(minutes=1))
    assert deal.created_at == datetime(2025, 3, 3, 14, 6, 40, tzinfo=MOSCOW)
    assert (deal.passed, deal.is_qualified, deal.findings) == (("NEW", "PAY", "WON"), True, ())


@pytest.mark.parametrize(
    ("semantic", "outcome", "closed_at"), [("P", "open", None), ("S", "won", MOVED), ("F", "lost", MOVED)]
)
def test_outcome_goes_by_the_meaning_of_the_stage(
    semantic: str, outcome: str, closed_at: datetime | None
) -> None:
    """Stages have any name: WON may be a stage in which people work."""
    deal = deal_of(AT, ITEM | {"stageSemanticId": semantic}, Related(), known(), None)

    assert (deal.outcome, deal.closed_at) == (outcome, closed_at)


def test_outcome_of_a_smart_process_goes_by_its_stage() -> None:
    """Its objects do not tell what their stage means."""
    item: Table = {"categoryId": "7", "stageId": "DT1032_7:SUCCESS", "movedTime": "2025-03-08T15:20:00+03:00"}

    deal = deal_of(ItemId(1032, "21"), item, Related(), known(), None)

    assert (deal.deal_id, deal.outcome, deal.closed_at) == ("DYNAMIC_1032_21", "won", MOVED)


def test_stages_of_the_history_are_kept() -> None:
    """A deal that was lost had been further."""
    steps = (Step(funnel="0", stage="PAY", at=MOVED),)

    deal = deal_of(
        AT, ITEM | {"stageId": "LOSE", "stageSemanticId": "F"}, Related(steps=steps), known(), None
    )

    assert (deal.steps, deal.passed, deal.is_qualified) == (steps, ("LOSE", "PAY"), True)


@pytest.mark.parametrize(
    ("told", "value"), [(None, None), ("", None), ("0", Decimal(0)), ("0.00", Decimal(0))]
)
def test_sum_that_is_not_told_is_not_zero(told: Json, value: Decimal | None) -> None:
    """Zero corrects a value that was told before, nothing leaves it."""
    assert deal_of(AT, ITEM | {"opportunity": told}, Related(), known(), None).value == value


def test_findings_go_from_the_deal_to_its_contact() -> None:
    """What stands in the deal itself is surer than what its lead or contact once had."""
    related = Related(
        lead={"ID": "365", "UF_CRM_SESSION": "sess-lead", "PHONE": [{"VALUE": "+79000000000"}]},
        contacts=[
            {"ID": "84", "UF_CRM_YM_UID": "1741000000123456789", "EMAIL": [{"VALUE": "Anna@Shop.example"}]}
        ],
    )

    deal = deal_of(AT, ITEM | {"UF_CRM_7": "sess-deal", "UF_CRM_9": "sess-9"}, related, known(), "UF_CRM_9")

    assert [(finding.kind, finding.value, finding.place) for finding in deal.findings] == [
        ("session_id", "sess-9", "deal 662, UF_CRM_9"),
        ("session_id", "sess-deal", "deal 662, ID сессии"),
        ("session_id", "sess-lead", "lead 365, UF_CRM_SESSION"),
        ("phone", "+79000000000", "lead 365, PHONE"),
        ("ym_uid", "1741000000123456789", "contact 84, UF_CRM_YM_UID"),
        ("email", "anna@shop.example", "contact 84, EMAIL"),
    ]


def test_comments_and_marks_come_last() -> None:
    """A lead's comment holds the fields that a form had no place for."""
    item = ITEM | {"utmContent": OTHER, "sourceDescription": "https://shop.example/?yclid=153"}
    related = Related(lead={"ID": "365", "COMMENTS": f"[b]session_id:[/b] {SESSION}"})

    deal = deal_of(AT, item, related, known(), None)

    assert [(finding.kind, finding.value, finding.place) for finding in deal.findings] == [
        ("yclid", "153", "deal 662, SOURCE_DESCRIPTION"),
        ("session_id", SESSION, "lead 365, comment"),
        ("session_id", OTHER, "deal 662, utmContent"),
    ]


def test_multiple_field_gives_each_of_its_values() -> None:
    """A field of several values is a list."""
    several: Table = {"UF_CRM_SESSION": ["sess-1", "", "sess-2"]}

    deal = deal_of(AT, ITEM | several, Related(), known(), None)

    assert [finding.value for finding in deal.findings] == ["sess-1", "sess-2"]


def test_goal_may_take_its_value_from_any_field() -> None:
    """Owners name the field by its code, by the old name, or as it stands on the screen."""
    item: Table = {"UF_CRM_7": "300|RUB", "opportunity": "5000", "comments": "x" * 300, "UF_CRM_8": None}

    found = goal_fields(item, {"UF_CRM_7": ("Маржа",), "opportunity": ("Маржа", "OPPORTUNITY")})

    assert found == {"UF_CRM_7": "300|RUB", "Маржа": "300|RUB", "opportunity": "5000", "OPPORTUNITY": "5000"}


@pytest.mark.parametrize(
    ("deal_id", "at"),
    [
        ("662", ItemId(2, "662")),
        ("DEAL_662", ItemId(2, "662")),
        ("DYNAMIC_1032_21", ItemId(1032, "21")),
        ("SMART_INVOICE_9", ItemId(31, "9")),
        ("LEAD_365", None),
        ("", None),
        ("0", None),
        ("662; drop", None),
        ("DYNAMIC_21", None),
    ],
)
def test_id_says_which_object_it_is(deal_id: str, at: ItemId | None) -> None:
    """Robots and events name smart processes and invoices so."""
    assert read_deal_id(deal_id) == at
    assert at is None or deal_id_of(at) == deal_id.removeprefix("DEAL_")


def test_links_are_ids_once() -> None:
    """Empty links are 0, null or an empty text; a smart process names its lead as a parent."""
    assert linked_ids(ITEM) == ("365", ["84", "85"])
    assert linked_ids({"leadId": "0", "parentId1": "7", "contactId": None, "contactIds": []}) == ("7", [])


def test_owners_fields_are_told_by_their_names() -> None:
    """Old portals do not know of the original names."""
    assert [
        name for name in ["UF_CRM_7", "ufCrm_7", "ufCrm44_7", "title", "utmTerm"] if is_owners_field(name)
    ] == [*("UF_CRM_7", "ufCrm_7", "ufCrm44_7")]


def test_funnel_that_is_not_told_is_the_first() -> None:
    """Deals had no funnels once."""
    assert step_of({"stageId": "NEW"}).funnel == "0"


ANY = st.recursive(
    st.none() | st.booleans() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*ITEM, "UF_CRM_7", "utmTerm", "comments", "PHONE"]), ANY))
def test_any_item_is_read(item: dict[str, object]) -> None:
    """One odd deal must not hold up the page that it is on."""
    told = cast("Table", item)

    deal = deal_of(AT, told, Related(lead=told, contacts=[told]), known(), "UF_CRM_7")

    assert deal.deal_id == "662"
