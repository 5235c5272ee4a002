"""The field of the session is found under whatever its owner calls it, or the owner is told what to do."""

import pytest

from closedloop.parse.rest.session_check import session_check

SPELLED = [["UF_CRM_17", "Session ID"], ["UF_CRM_18", "Margin"]]


@pytest.mark.parametrize(
    ("spelled", "wanted", "is_ok", "sentence"),
    [
        (SPELLED, "ufCrm_17", True, "The field ufCrm_17 is there."),
        (SPELLED, None, True, "The session is looked for in UF_CRM_17."),
        (SPELLED, "UF_CRM_71", False, "Not there: did you mean UF_CRM_17?"),
        (SPELLED[1:], "UF_CRM_71", False, "Not there: make it, or leave session_field out."),
        (SPELLED[1:], None, False, "None there."),
    ],
)
def test_sentence_says_what_to_do(
    spelled: list[list[str]], wanted: str | None, sentence: str, *, is_ok: bool
) -> None:
    """`doctor` is read by whoever set the field up, or forgot to."""
    check = session_check(spelled, wanted, not_there="Not there", none_there="None there.")

    assert (check.name, check.is_ok, check.sentence) == ("session field", is_ok, sentence)
