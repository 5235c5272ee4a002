"""doctor says what is wrong in an account before money is lost by it, in a sentence that helps."""

import pytest

from closedloop.parse.base import Check
from closedloop.parse.rest.amocrm_check import read_checks
from closedloop.parse.rest.answers import Table
from closedloop.parse.rest.funnels import Stage

ACCOUNT: Table = {"id": "30000001", "subdomain": "alfashop", "currency": "RUB"}
FUNNELS = {"1": [Stage(stage_id="41000001"), Stage(stage_id="142", outcome="won")]}
FIELDS: list[Table] = [
    {"id": "500101", "name": "ID сессии", "code": None},
    {"id": "500102", "name": "_ym_uid", "code": "_YM_UID"},
]


def checks(fields: list[Table], session_field: str | None = None) -> dict[str, Check]:
    """Return what is said of an account with some fields."""
    return {one.name: one for one in read_checks(ACCOUNT, FUNNELS, fields, session_field)}


def test_account_in_order_passes() -> None:
    """What works is said, too."""
    found = checks(FIELDS)

    assert [name for name, one in found.items() if not one.is_ok] == []
    assert list(found) == ["connection", "rights", "stages", "session field"]
    assert "alfashop answers, in RUB" in found["connection"].sentence
    assert "ID сессии" in found["session field"].sentence


def test_account_without_stages_is_told() -> None:
    """Without them no lead is qualified."""
    stages = read_checks(ACCOUNT, {}, FIELDS, None)[2]

    assert (stages.is_ok, "administrator" in stages.sentence) == (False, True)


@pytest.mark.parametrize(
    ("session_field", "is_ok", "words"),
    [
        ("500101", True, "is there"),
        ("ID сессии", True, "is there"),
        ("_ym_uid", True, "is there"),
        ("500199", False, "did you mean ID сессии"),
    ],
)
def test_configured_field_must_exist(session_field: str, is_ok: bool, words: str) -> None:  # noqa: FBT001
    """A wrong digit in its id, and no deal finds its visit."""
    found = checks(FIELDS, session_field)["session field"]

    assert (found.is_ok, words in found.sentence) == (is_ok, True)


def test_account_without_a_field_is_told_to_make_one() -> None:
    """Forms have nowhere to put the session."""
    found = checks(FIELDS[1:])["session field"]

    assert (found.is_ok, "make a text field" in found.sentence) == (False, True)
