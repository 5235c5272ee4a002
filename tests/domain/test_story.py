"""Every entry of a journal is a sentence that a marketer can read."""

import pytest

from closedloop.domain.story import sentence


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        ("matched", {}, "recorded, and found its session"),
        ("matched", {"late": True}, "found its session late"),
        ("unmatched", {}, "recorded; no session answers yet, so it waits for one"),
        (
            "found",
            {"session_id": "s-1 (deal 662, UF_CRM_1)"},
            "found in the CRM: session_id s-1 (deal 662, UF_CRM_1)",
        ),
        (
            "revised",
            {"value": "400", "currency": "RUB", "value_before": "500", "currency_before": "RUB"},
            "now 400 RUB, before 500 RUB",
        ),
        ("cancelled", {"reason": "lost"}, "counts no longer: the deal is lost"),
        ("reinstated", {}, "counts again: the deal is won again"),
        (
            "worthless",
            {"problem": "the deal has nothing in the field Margin"},
            "has no value: the deal has nothing in the field Margin",
        ),
        ("something new", {"x": 1}, "something new"),
    ],
)
def test_entry_is_told_in_a_sentence(kind: str, told: dict[str, object], said: str) -> None:
    """A kind that is not known is named, and never hides the rest."""
    assert sentence(kind, told) == said


@pytest.mark.parametrize(
    "kind", ["repeated", "stale", "revised", "moved", "cancelled", "worthless", "erased"]
)
def test_entry_without_its_details_is_still_told(kind: str) -> None:
    """Older entries may lack some."""
    assert sentence(kind, {}) != ""
