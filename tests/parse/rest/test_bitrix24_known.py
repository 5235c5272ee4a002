"""Fields and stages have names that only the portal knows: asked once, and again when there are new ones."""

from datetime import UTC, datetime

import pytest

from closedloop.domain.deal import Step
from closedloop.parse.rest.bitrix24 import Bitrix24Api
from closedloop.parse.rest.bitrix24_known import (
    Known,
    Need,
    fields_command,
    labels_of,
    stage_needs,
    stages_command,
    stages_of,
)
from fix_conversation import play
from fix_portal import Portal, Row

AT = datetime(2025, 3, 8, tzinfo=UTC)


def stage(name: str, sort: int, semantics: str | None = None, extra: str = "process") -> Row:
    """Return a stage as `crm.status.list` shows it."""
    return {"STATUS_ID": name, "SORT": str(sort), "SEMANTICS": semantics, "EXTRA": {"SEMANTICS": extra}}


def learn(known: Known, portal: Portal, *needs: Need) -> None:
    """Let the portal tell what is needed."""
    play(Bitrix24Api(), known.learn(needs), portal)


def test_stages_stand_in_the_order_of_people() -> None:
    """What was reached before depends on the order; names of stages are free."""
    rows = [stage("WON", 60, "S"), stage("PAY", 30), stage("NEW", 10), stage("APOLOGY", 80, None, "apology")]

    found = stages_of(rows)  # type: ignore[arg-type]

    assert [(one.stage_id, one.outcome) for one in found] == [
        ("NEW", "open"),
        ("PAY", "open"),
        ("WON", "won"),
        ("APOLOGY", "lost"),
    ]


@pytest.mark.parametrize(
    ("entity_type", "funnel", "directory"),
    [
        (2, "0", "DEAL_STAGE"),
        (2, "5", "DEAL_STAGE_5"),
        (1032, "7", "DYNAMIC_1032_STAGE_7"),
        (31, "3", "SMART_INVOICE_STAGE_3"),
    ],
)
def test_each_funnel_has_a_directory_of_its_own(entity_type: int, funnel: str, directory: str) -> None:
    """The first funnel of deals has no number."""
    assert stages_command(entity_type, funnel).endswith(f"filter[ENTITY_ID]={directory}")


def test_labels_are_what_people_see() -> None:
    """A goal's value is configured by the name on the screen, or by that of the old methods."""
    told = {"opportunity": {"title": "Amount", "upperName": "OPPORTUNITY"}, "UF_CRM_7": {"title": "UF_CRM_7"}}

    assert labels_of({"fields": told}) == {"opportunity": ("Amount", "OPPORTUNITY"), "UF_CRM_7": ()}  # type: ignore[dict-item]
    assert fields_command(2) == "crm.item.fields?entityTypeId=2&useOriginalUfNames=Y"


def test_what_is_known_is_not_asked_again() -> None:
    """Every call counts against a limit that others share."""
    portal, known = Portal(), Known()
    portal.stages["DEAL_STAGE"] = [stage("NEW", 10)]
    needs = [Need(2, field="id"), Need(2, funnel="0", stage="NEW")]
    learn(known, portal, *needs)

    learn(known, portal, *needs)

    assert portal.requests == 1
    assert [one.stage_id for one in known.funnels[2]["0"]] == ["NEW"]


def test_new_stage_is_asked_for() -> None:
    """People add stages while we run; until then their deals would have reached nothing."""
    portal, known = Portal(), Known()
    portal.stages["DEAL_STAGE"] = [stage("NEW", 10)]
    learn(known, portal, Need(2, funnel="0", stage="NEW"))
    portal.stages["DEAL_STAGE"] += [stage("FRESH", 20)]

    learn(known, portal, *stage_needs(known, 2, [Step(funnel="0", stage="FRESH", at=AT)]))

    assert [one.stage_id for one in known.funnels[2]["0"]] == ["NEW", "FRESH"]


def test_what_the_portal_does_not_tell_is_asked_once() -> None:
    """A stage that was deleted stands in histories for ever."""
    portal, known = Portal(), Known()
    portal.refused["crm.status.list"] = ("ACCESS_DENIED", "")
    need = Need(2, funnel="0", stage="GONE")
    learn(known, portal, need)

    learn(known, portal, need)

    assert portal.requests == 1
    assert known.funnels == {}


@pytest.mark.parametrize(("funnel", "stage_id"), [("", "NEW"), ("x&y", "NEW"), ("0", "")])
def test_stage_without_a_funnel_is_not_asked_for(funnel: str, stage_id: str) -> None:
    """There is no directory that could be asked."""
    assert stage_needs(Known(), 2, [Step(funnel=funnel, stage=stage_id, at=AT)]) == []
