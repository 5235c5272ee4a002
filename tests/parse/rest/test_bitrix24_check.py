"""doctor says what is wrong in a portal before money is lost by it, in a sentence that helps."""

import pytest

from closedloop.parse.base import Check
from closedloop.parse.rest.answers import Json
from closedloop.parse.rest.bitrix24 import Bitrix24Api
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, Answers
from closedloop.parse.rest.bitrix24_check import check_commands, read_checks
from fix_conversation import play
from fix_portal import Portal

STAGES = [{"STATUS_ID": "NEW", "SORT": "10"}, {"STATUS_ID": "WON", "SORT": "20", "SEMANTICS": "S"}]


def portal() -> Portal:
    """Return a portal in which nothing is wrong."""
    made = Portal()
    made.stages["DEAL_STAGE"] = STAGES
    made.fields[2] = {
        "id": {"title": "ID"},
        "UF_CRM_7": {"title": "ID сессии"},
        "UF_CRM_8": {"title": "Цвет"},
    }
    return made


def check(portal: Portal, session_field: str | None = None) -> dict[str, Check]:
    """Return what doctor says of a portal."""
    api = Bitrix24Api(session_field=session_field)
    return {one.name: one for one in play(api, api.check(), portal)}


def test_portal_in_order_passes_in_one_call() -> None:
    """What works is said, too."""
    made = portal()

    found = check(made)

    assert [name for name, one in found.items() if not one.is_ok] == []
    assert list(found) == ["connection", "rights", "stages", "session field"]
    assert "UF_CRM_7" in found["session field"].sentence
    assert made.requests == 1


def test_all_commands_may_be_refused() -> None:
    """One refused command would hide what else is wrong."""
    assert [name for name in check_commands() if not name.startswith(OPTIONAL)] == []


@pytest.mark.parametrize(
    ("entity_type", "is_ok", "words"),
    [(2, False, "deals"), (3, False, "contacts"), (1, True, "leads cannot")],
)
def test_what_may_not_be_read_is_named(entity_type: int, is_ok: bool, words: str) -> None:  # noqa: FBT001
    """A portal without leads is in order."""
    made = portal()
    made.refused[f"crm.item.list {entity_type}"] = ("ACCESS_DENIED", "")

    rights = check(made)["rights"]

    assert (rights.is_ok, words in rights.sentence) == (is_ok, True)


def test_webhook_without_the_permission_is_told() -> None:
    """It is a tick in the webhook's settings."""
    results: dict[str, Json] = {f"{OPTIONAL}{name}": {} for name in ("deals", "leads", "contacts")}
    results[f"{OPTIONAL}scope"] = ["task"]

    rights = read_checks(Answers(results=results), None)[1]

    assert (rights.is_ok, "permission CRM" in rights.sentence) == (False, True)


def test_stages_that_cannot_be_read_are_told() -> None:
    """Without them no deal is qualified."""
    made = portal()
    made.stages = {}

    assert not check(made)["stages"].is_ok


@pytest.mark.parametrize(
    ("session_field", "is_ok", "words"),
    [
        ("UF_CRM_7", True, "is there"),
        ("ID сессии", True, "is there"),
        ("ufCrm_7", True, "is there"),
        ("UF_CRM_99", False, "did you mean UF_CRM_7"),
    ],
)
def test_configured_field_must_exist(session_field: str, is_ok: bool, words: str) -> None:  # noqa: FBT001
    """A wrong digit in its name, and no deal finds its visit."""
    found = check(portal(), session_field)["session field"]

    assert (found.is_ok, words in found.sentence) == (is_ok, True)


def test_portal_without_a_field_is_told_to_make_one() -> None:
    """Forms have nowhere to put the session."""
    made = portal()
    made.fields = {}

    found = check(made)["session field"]

    assert (found.is_ok, "make a text field" in found.sentence) == (False, True)


def test_field_of_leads_is_enough() -> None:
    """Forms make leads, and the deal's lead is read."""
    made = portal()
    made.fields = {1: {"UF_CRM_9": {"title": "session_id"}}}

    assert check(made)["session field"].is_ok
