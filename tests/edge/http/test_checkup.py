"""The page says what works and what is missing, in the owner's words."""

import tomllib
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest

from closedloop.edge.http.checkup import Checkup
from closedloop.edge.http.recent import Refused
from closedloop.store.latest import Latest, LatestConversion, LatestLead, LatestVisit

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NOTHING = Latest(visits=[], lead=None, conversion=None)


PAGES = (
    '{"a": {"url": "https://shop.example/a", "at": "1"}, "b": {"url": "https://shop.example/b", "at": "2"}}'
)


def seen(latest: Latest, *refused: Refused) -> dict[str, tuple[str, str]]:
    """Return state and sentence of each step by its name."""
    return {one.step: (one.state, one.said) for one in Checkup("en").steps(latest, refused)}


def visit(**told: Any) -> LatestVisit:  # noqa: ANN401 - the fields of LatestVisit
    """Return a visit of one page."""
    fields: dict[str, Any] = {
        "at": NOW,
        "ym_uid": None,
        "bot": None,
        "pages": PAGES,
        "forms": "{}",
        **told,
    }
    return LatestVisit(**fields)


def lead(**told: Any) -> LatestLead:  # noqa: ANN401 - the fields of LatestLead
    """Return a lead whose session is known."""
    flags: dict[str, Any] = {"has_session": True, "has_ym_uid": False, "is_matched": True, **told}
    return LatestLead(at=NOW, form_name="Cart", **flags)


def test_newcomer_is_told_what_to_do() -> None:
    """Every step waits, and every one says what for."""
    steps = list(Checkup("ru").steps(NOTHING, []))

    assert {one.state for one in steps} == {"wait"}
    assert all(one.mend for one in steps)


def test_finished_set_up_is_green() -> None:
    """Nothing is left to do, and nothing pretends that there is."""
    latest = Latest(
        visits=[visit(ym_uid="17", forms='{"a.0": {}}')],
        lead=lead(),
        conversion=LatestConversion(at=NOW, goal="payment_success", is_matched=True),
    )

    steps = list(Checkup("en").steps(latest, []))

    assert {one.state for one in steps} == {"ok"}
    assert "https://shop.example/b" in steps[0].said


@pytest.mark.parametrize(
    ("latest", "step", "state"),
    [
        (Latest(visits=[visit(bot="crawler")], lead=None, conversion=None), "Script on the page", "wait"),
        (Latest(visits=[visit()], lead=None, conversion=None), "Metrica's ClientID", "wait"),
        (Latest(visits=[], lead=lead(has_session=False), conversion=None), "Tilda's webhook", "fail"),
        (Latest(visits=[], lead=lead(is_matched=False), conversion=None), "Form and visit", "wait"),
        (
            Latest(visits=[], lead=None, conversion=LatestConversion(at=NOW, goal="g", is_matched=False)),
            "Deal from the CRM",
            "wait",
        ),
    ],
)
def test_each_fault_has_its_step(latest: Latest, step: str, state: str) -> None:
    """One wrong mark sends an owner looking in the wrong place for an hour."""
    assert seen(latest)[step][0] == state


def test_pages_that_were_turned_away_are_named() -> None:
    """A forgotten address in origins looks like a script that is not there."""
    refused = Refused(at=NOW, origin="https://new.shop.example")

    assert seen(NOTHING, refused)["Address of the page"] == (
        "fail",
        "pages of https://new.shop.example were turned away",
    )


def test_every_sentence_is_there_in_both_languages() -> None:
    """Half a translation is none."""
    text = (resources.files("closedloop.edge.http") / "pages" / "check.toml").read_text(encoding="utf-8")

    sentences = [one for part in tomllib.loads(text).values() for one in part.values()]

    assert all(set(one) == {"en", "ru"} and all(one.values()) for one in sentences)
