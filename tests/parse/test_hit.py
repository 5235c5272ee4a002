"""What a page sends is read without believing more than it may say, and never breaks anything."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from closedloop.domain.visit import Visit
from closedloop.errors import CallerError
from closedloop.parse.hit import MAX_VIEWS, OLDEST, read_hit

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SENT = 1_795_000_000_000
VIEW: dict[str, Any] = {"p": "view-1", "u": "https://shop.example/", "r": "", "a": SENT - 3000}
HIT: dict[str, Any] = {"s": "default", "i": "session-0001", "v": "visitor-0001", "d": SENT, "h": [VIEW]}


def read(*, view: dict[str, Any] | None = None, **told: Any) -> Visit:  # noqa: ANN401 - any JSON
    """Return what is read of a hit, with these keys in place of the usual ones."""
    hit = {**HIT, "h": [{**VIEW, **(view or {})}], **told}
    return read_hit(json.dumps(hit).encode(), received_at=NOW)


def test_view_becomes_a_page_with_our_time() -> None:
    """A clock that is an hour off moves nothing: only its differences are used."""
    visit = read(
        view={"t": "Каталог", "s": [1500, 20]},
        d=5000,
        h=[{**VIEW, "a": 2000, "t": "Каталог", "s": [1500, 20]}],
    )

    assert visit.began_at == NOW - timedelta(seconds=3)
    page = {
        "url": "https://shop.example/",
        "referrer": "",
        "title": "Каталог",
        "at": "2026-11-24T09:59:57.000Z",
    }
    assert visit.pages == {"view-1": page}
    assert visit.seconds == {"view-1.0": 1.5, "view-1.1": 0.0}


@pytest.mark.parametrize("age_ms", [-1, -86_400_000, OLDEST / timedelta(milliseconds=1) + 1])
def test_impossible_moment_is_the_arrival(age_ms: float) -> None:
    """A laptop that slept for a month, or one that lives in the future, must not date a visit."""
    assert read(view={"a": SENT - age_ms}).began_at == NOW


def test_address_gives_marks_and_click_ids() -> None:
    """Advertising is counted by them."""
    url = "https://shop.example/?UTM_Source=yandex&utm_campaign=%D0%B2%D0%B5%D1%81%D0%BD%D0%B0+1&yclid=12&gclid=&x=1#y"

    visit = read(view={"u": url, "r": "https://ya.ru/"})

    marks = {"utm_source": "yandex", "utm_campaign": "весна 1", "yclid": "12"}
    assert visit.touches["view-1"]["marks"] == marks
    assert visit.touches["view-1"]["referrer"] == "https://ya.ru/"
    assert visit.ids == {"yclid": "12"}


def test_organic_mark_is_never_a_click() -> None:
    """An organic visit that is told to Direct as a click spoils its learning."""
    visit = read(view={"u": "https://shop.example/p?ysclid=lk3&a=1", "r": "https://ya.ru/"})

    assert visit.ids == {}
    assert visit.touches["view-1"]["marks"] == {}
    assert visit.pages["view-1"]["url"] == "https://shop.example/p?a=1"


@pytest.mark.parametrize(
    ("view", "is_touch"),
    [
        ({"r": ""}, False),
        ({"r": "https://www.shop.example/a"}, False),
        ({"r": "https://other.example/"}, True),
        ({"u": "https://shop.example/?utm_source=a"}, True),
        ({"u": "https://shop.example/?utm_source=a", "n": True}, False),
        ({"r": "https://other.example/", "n": True}, False),
    ],
)
def test_touch_is_what_came_from_outside(view: dict[str, Any], is_touch: bool) -> None:  # noqa: FBT001
    """A reload of the landing page is not a second click of the same advertisement."""
    assert bool(read(view=view).touches) is is_touch


def test_address_with_somebodys_mail_loses_it() -> None:
    """A newsletter's link names its reader; the page's address must not tell us who it is."""
    visit = read(view={"u": "https://shop.example/p?a=1&e=ivan%40mail.example&b=2"})

    assert visit.pages["view-1"]["url"] == "https://shop.example/p?a=1&b=2"


def test_cookies_become_ids() -> None:
    """Each platform knows the visitor by its own."""
    told = {
        "ym_uid": "1712345678901234567",
        "_ga": "GA1.1.5.6",
        "_ga_": "GS1.1.7",
        "_fbp": "fb.1.8",
        "_fbc": "fb.1.9",
        "x": "y",
    }

    assert read(k={**told, "_fbc": "fb.1.9", "x": "y"}).ids == {
        "ym_uid": "1712345678901234567",
        "ga_uid": "GA1.1.5.6",
        "ga_session": "GS1.1.7",
        "fbp": "fb.1.8",
        "fbc": "fb.1.9",
    }


@pytest.mark.parametrize("client_id", ["", "12", "1.7e18", "abc", 1712345678901234567, None, "1" * 21])
def test_what_is_no_client_id_is_left_out(client_id: object) -> None:
    """Prebid writes an id of its own under Metrica's name; nobody would ever be found by it."""
    assert read(k={"ym_uid": client_id}).ids == {}


@pytest.mark.parametrize(
    ("code", "is_taken"), [("ta_session0001", True), ("ta_somebodys00", False), (1, False)]
)
def test_code_of_another_session_is_not_taken(code: object, is_taken: bool) -> None:  # noqa: FBT001
    """Whoever claims another's code would get the money of another's deal."""
    assert ("ta_code" in read(k={"ta_code": code}).ids) is is_taken


def test_goals_and_forms_keep_their_places() -> None:
    """The second goal of a view is the second however often it is told."""
    goals = [["cart", SENT - 1000, {"order_price": 5}], ["", SENT], "junk", ["call", None, [1]]]

    visit = read(view={"g": goals, "f": [["form1", SENT, "1:2"], [None, None]]})

    assert visit.goals == {
        "view-1.0": {
            "goal": "cart",
            "timestamp": "2026-11-24T09:59:59.000Z",
            "params": {"order_price": 5},
            "hit": "view-1.0",
        },
        "view-1.3": {
            "goal": "call",
            "timestamp": "2026-11-24T10:00:00.000Z",
            "params": {},
            "hit": "view-1.3",
        },
    }
    assert visit.forms["view-1.0"]["transaction"] == "1:2"
    assert visit.forms["view-1.1"] == {"form": "", "at": "2026-11-24T10:00:00.000Z"}


def test_first_and_last_touch_are_those_that_the_browser_kept() -> None:
    """The click that began it all may lie months back."""
    first = {"p": "old", "u": "https://shop.example/?yclid=1", "r": "https://ya.ru/", "a": SENT - 86_400_000}

    visit = read(f=[first, None])

    assert visit.first_touch is not None
    assert (visit.first_touch["marks"], visit.last_touch) == ({"yclid": "1"}, None)
    assert visit.first_touch["at"] == "2026-11-23T10:00:00.000Z"


def test_withdrawn_consent_carries_nothing_else() -> None:
    """Nothing that came with the wish to be forgotten may be kept."""
    visit = read(x=1, k={"ym_uid": "1712345678901234567"})

    assert visit.withdrawn
    assert (visit.ids, visit.pages, visit.touches) == ({}, {}, {})


def test_bot_is_marked_by_itself_or_by_its_request() -> None:
    """A marked session stays in the table and out of the numbers."""
    body = json.dumps(HIT).encode()

    assert read(b=True).bot == "driven"
    assert read_hit(body, received_at=NOW, bot="crawler").bot == "crawler"
    assert read_hit(body, received_at=NOW).bot is None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"i": "short"}, "i"),
        ({"i": 5}, "i"),
        ({"i": "with space"}, "i"),
        ({"v": "я" * 10}, "v"),
        ({"d": "x"}, "d"),
        ({"h": [VIEW] * (MAX_VIEWS + 1)}, "h"),
        ({"h": [{**VIEW, "p": "a b"}]}, "h[0].p"),
        ({"h": [{**VIEW, "u": 5}]}, "h[0].u"),
        ({"h": [{"u": "x"}]}, "p"),
        ({"k": []}, "k"),
    ],
)
def test_wrong_hit_is_refused_by_its_key(change: dict[str, Any], key: str) -> None:
    """Whoever writes a tracker of their own looks for the place."""
    with pytest.raises(CallerError) as caught:
        read_hit(json.dumps({**HIT, **change}).encode(), received_at=NOW)

    assert caught.value.key == key


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"i":"\xff"}', b"[" * 60_000])
def test_what_is_no_hit_is_refused(body: bytes) -> None:
    """Scanners send anything to an open address."""
    with pytest.raises(CallerError):
        read_hit(body, received_at=NOW)


@pytest.mark.parametrize("half", ["\\ud83d", "\\udc00", "\\ud83d\\ud83d", "a\\ud83d b"])
def test_title_cut_inside_an_emoji_does_not_lose_the_hit(half: str) -> None:
    """Shops write emoji into titles, and scripts cut titles."""
    body = json.dumps(HIT).replace('"r": ""', f'"t": "x{half}y"').encode()

    assert read_hit(body, received_at=NOW).pages["view-1"]["title"].startswith("x")


ANY = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.dictionaries(st.sampled_from("sivkdbfhx"), ANY), st.dictionaries(st.sampled_from("purtasgfn"), ANY))
@example({}, {"g": [["\0", 1, {"\0": "\0"}]], "t": "\0"})
@example({}, {"u": "http://[", "r": "http://]"})
def test_any_hit_is_read_or_refused(change: dict[str, Any], view: dict[str, Any]) -> None:
    """The endpoint is open to the whole internet."""
    try:
        visit = read_hit(json.dumps({**HIT, "h": [{**VIEW, **view}], **change}).encode(), received_at=NOW)
    except CallerError:
        return

    told = json.dumps([dict(visit.pages), dict(visit.goals), dict(visit.ids), dict(visit.forms)])
    assert "\\u0000" not in told
    assert NOW - OLDEST <= visit.began_at <= NOW
