"""A manager reads in the deal which advertisement it came from, or that nobody knows; never a guess."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.origin import Origin, origin_of

MARKS = {"utm_source": "yandex", "utm_medium": "cpc", "utm_campaign": "winter"}
PREDECESSOR = ["vk", "social", "autumn", None, None, "", "https://away.vk.example/x", "away.vk.example"]


def touch(referrer: str = "", **marks: str) -> dict[str, Any]:
    """Return one visit from outside, as the tracker writes it."""
    return {"url": "https://shop.example/", "referrer": referrer, "at": "x", "marks": marks}


def document(*touches: dict[str, Any], **ids: str) -> dict[str, Any]:
    """Return a session's document with its first and last touch."""
    names = ("first_touch", "last_touch")
    return {"ids": {"session_id": "s-1", **ids}, "visit": dict(zip(names, touches, strict=False))}


def source(told: object) -> str:
    """Return what is written as the source."""
    return origin_of(told, "session_id").source


def test_marks_of_the_owner_are_source_and_campaign() -> None:
    """They are what the owner pays for, in the owner's own words."""
    assert origin_of(document(touch(**MARKS)), "session_id") == Origin(
        source="yandex / cpc", campaign="winter", match="found by the session of the form"
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (document(touch(**MARKS), touch(utm_source="mail")), "yandex / cpc"),
        (document(touch("https://ya.example/"), touch(utm_source="mail")), "mail"),
        (document(touch("https://www.ya.example/search")), "ya.example"),
        (document(touch(yclid="17")), "yandex / cpc"),
        (document(touch(), gbraid="x"), "google / cpc"),
        (document(touch("https://l.facebook.example/"), fbclid="x"), "facebook / cpc"),
        (document(touch(), rb_clickid="x"), "vk / cpc"),
        (document(touch(utm_source="spring", utm_medium=""), yclid="17"), "spring / cpc"),
        (document(touch()), "direct"),
        (document(touch("https://[broken")), "direct"),
    ],
)
def test_source_is_the_most_certain_thing_known(told: dict[str, Any], expected: str) -> None:
    """Marks before click ids before the page that linked here; the first visit before the last."""
    assert source(told) == expected


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"ids": {"ym_uid": "17"}},
        {"ids": {"session_id": "s-1"}, "visit": {"version": 1, "consent": "withdrawn"}},
        {"visit": {"first_touch": None}},
        {"traffic": None},
    ],
)
def test_unknown_visit_is_not_called_direct(told: object) -> None:
    """A blocked tracker and a visitor who forbade it must not make direct traffic look good."""
    assert source(told) == ""


def test_predecessor_of_the_tracker_is_understood() -> None:
    """An adopted table has years of its sessions, and they earn deals."""
    told = {"ids": {"session_id": "s-1"}, "traffic": PREDECESSOR}

    assert source(told) == "vk / social"
    assert origin_of(told, "ym_uid").campaign == "autumn"
    assert source({"traffic": [None] * 5 + ["17"]}) == "yandex / cpc"
    assert source({"traffic": [None] * 6 + ["https://ya.example/"]}) == "ya.example"
    assert source({"traffic": []}) == "direct"


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        (None, "no session found"),
        ("session_id", "found by the session of the form"),
        ("ym_uid", "found by Metrica's ClientID"),
        ("phone", "found by the phone"),
        ("gclid", "found by gclid"),
    ],
)
def test_match_is_told_in_words(rule: str | None, match: str) -> None:
    """A manager who doubts it sees what it was found by."""
    assert origin_of({}, rule).match == match


def test_deal_without_a_session_has_no_source() -> None:
    """Whatever document stands beside it is somebody else's."""
    assert origin_of(document(touch(**MARKS)), None) == Origin(
        source="", campaign="", match="no session found"
    )


def test_texts_are_one_short_line() -> None:
    """A field of a CRM takes so much; what an address carries is anybody's to write."""
    told = origin_of(document(touch(utm_source="a\n\0\x1b[31mb", utm_campaign="x" * 999)), "session_id")

    assert told.source == "a [31mb"
    assert len(told.campaign) == 250


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(
            st.sampled_from(["visit", "ids", "traffic", "first_touch", "last_touch", "marks", "referrer"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(json)
def test_any_document_is_read(told: object) -> None:
    """The table belongs to the owner, and other scripts write into it."""
    found = origin_of(told, "session_id")

    assert all(text.isprintable() for text in (found.source, found.campaign, found.match))
