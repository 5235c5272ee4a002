"""The tracker over the life of a page: reloads, tabs, storage, networks; the table tells what came."""

from collections.abc import Callable
from typing import Any

import pytest

from fix_browser import Site, Tab
from fix_flow import Tables
from fix_tools import wait_until

OpenTab = Callable[..., Tab]
PAGE = "form-block.html"
UID = "1770146617335078468"
NO_STORAGE = """for (const name of ['sessionStorage', 'localStorage'])
    Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError'); } });"""


@pytest.fixture(autouse=True)
def empty(shared: Tables) -> None:
    """Every test begins without sessions."""
    shared.conn.execute("delete from public.user_analytics")


def documents(shared: Tables) -> list[dict[str, Any]]:
    """Return the documents of all sessions, oldest first."""
    rows = shared.conn.execute("select analytics_data from public.user_analytics order by id").fetchall()
    return [row[0] for row in rows]


def document(shared: Tables, until: Callable[[dict[str, Any]], object] = bool) -> dict[str, Any]:
    """Return the only session's document as soon as it is as wanted."""

    def is_there() -> bool:
        found = documents(shared)
        return len(found) == 1 and bool(until(found[0]))

    wait_until(is_there, what="the session", wait_s=15)
    return documents(shared)[0]


def views(found: dict[str, Any]) -> int:
    """Return how many page views a document has."""
    return len(found["visit"]["pages"])


def opened(tab: OpenTab, site: Site, path: str = PAGE, **configuration: object) -> Tab:
    """Open a page and return when its session is made."""
    one = tab(**configuration)
    one.page.goto(f"{site.url}/{path}")
    one.wait("sessionStorage.getItem('ta_session_id')")
    return one


def test_row_stands_within_a_second_of_the_arrival(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Half of all visitors are gone after ten seconds."""
    one = tab(metrika={"mode": "blocked"})

    one.page.goto(f"{site.url}/{PAGE}?utm_source=ya&yclid=77&ysclid=organic")

    wait_until(lambda: len(documents(shared)) == 1, what="the row", wait_s=1)
    found = documents(shared)[0]
    [touch] = found["visit"]["touches"].values()
    assert touch["marks"] == {"utm_source": "ya", "yclid": "77"}
    assert found["ids"]["yclid"] == "77"


def test_slow_metrica_is_waited_for(site: Site, tab: OpenTab, shared: Tables) -> None:
    """On a phone in the metro the tag comes when the form is long open."""
    one = opened(tab, site, metrika={"delay": 3000})
    document(shared)

    found = document(shared, lambda found: "ym_uid" in found["ids"])

    assert found["ids"]["ym_uid"] == UID
    one.wait(f"document.querySelector('[name=ym_uid]').value === '{UID}'")


def test_goals_of_the_page_are_seen(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Before Metrica has come, after it, and with it blocked; each once, and Metrica gets them too."""
    one = opened(tab, site, metrika={"delay": 400})
    one.run("ym(12345678, 'reachGoal', 'early', {order_price: 5})")
    one.wait("__metrika.ready")
    one.run("ym(12345678, 'reachGoal', 'late')")

    found = document(shared, lambda found: len(found["target_actions"]["yandex_goals_triggered"]) == 2)

    goals = found["target_actions"]["yandex_goals_triggered"]
    assert [(goal["goal"], goal["params"]) for goal in goals] == [("early", {"order_price": 5}), ("late", {})]
    assert one.run("__metrika.goals") == ["early", "late"]


def test_reload_is_the_same_session_and_no_second_click(site: Site, tab: OpenTab, shared: Tables) -> None:
    """People reload; the advertisement was clicked once."""
    one = opened(tab, site, f"{PAGE}?yclid=5")
    session = one.session_id
    one.page.reload()
    one.wait("sessionStorage.getItem('ta_session_id')")

    found = document(shared, lambda found: views(found) == 2)

    assert one.session_id == session
    assert len(found["visit"]["touches"]) == 1


def test_two_tabs_are_two_sessions_of_one_visitor(site: Site, tab: OpenTab, shared: Tables) -> None:
    """A shop is compared in tabs."""
    one = opened(tab, site)
    two = tab(beside=one)
    two.page.goto(f"{site.url}/form-popup.html")

    wait_until(lambda: len(documents(shared)) == 2, what="both sessions")

    ids = [found["ids"] for found in documents(shared)]
    assert ids[0]["session_id"] != ids[1]["session_id"]
    assert ids[0]["user_id"] == ids[1]["user_id"]


def test_visitor_and_first_touch_outlive_the_tab(site: Site, tab: OpenTab, shared: Tables) -> None:
    """The click that began it all lies days back; today they typed the address."""
    one = opened(tab, site, f"{PAGE}?utm_source=first&yclid=1")
    document(shared)
    one.page.close()
    two = tab(beside=one)
    two.page.goto(f"{site.url}/{PAGE}?utm_source=second")

    wait_until(lambda: len(documents(shared)) == 2, what="the second session")

    visit = documents(shared)[1]["visit"]
    assert visit["first_touch"]["marks"] == {"utm_source": "first", "yclid": "1"}
    assert visit["last_touch"]["marks"] == {"utm_source": "second"}


def test_way_back_is_a_view_of_the_same_session(site: Site, tab: OpenTab, shared: Tables) -> None:
    """The browser brings the page back as it was, without running it anew."""
    one = opened(tab, site)
    one.page.goto(f"{site.url}/form-popup.html")
    one.wait("sessionStorage.getItem('ta_session_id')")
    document(shared, lambda found: views(found) == 2)

    one.run("history.back()")

    assert views(document(shared, lambda found: views(found) == 3)) == 3
    one.wait(f"location.pathname === '/{PAGE}' && window.initForms")
    one.submit()
    assert one.sent()[0]["session_id"] == one.session_id


def test_navigation_without_loading_is_a_view(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Shops built as one page show their goods so."""
    one = opened(tab, site)
    one.run("history.pushState({}, '', '/catalogue')")
    one.run("history.pushState({}, '', '/catalogue?filter=1')")

    found = document(shared, lambda found: views(found) == 2)

    pages = sorted(found["visit"]["pages"].values(), key=lambda page: page["at"])
    assert [page["url"].removeprefix(site.url) for page in pages] == [f"/{PAGE}", "/catalogue"]


def test_time_on_the_page_is_told_when_it_is_left(site: Site, tab: OpenTab, shared: Tables) -> None:
    """How long somebody read is known only at the end, when nothing may be waited for."""
    one = opened(tab, site)
    document(shared)
    one.wait("performance.now() > 1000")
    one.page.goto("about:blank")

    found = document(shared, lambda found: found["visit"]["seconds"])

    assert 0.5 < sum(found["visit"]["seconds"].values()) < 30


def test_offline_then_online_loses_and_doubles_nothing(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Trains have tunnels."""
    one = opened(tab, site)
    document(shared)
    one.context.set_offline(True)
    one.run("ym(12345678, 'reachGoal', 'in-the-tunnel')")
    one.run("history.pushState({}, '', '/next')")
    one.wait("performance.now() > 800")

    one.context.set_offline(False)

    found = document(shared, lambda found: views(found) == 2)
    assert [goal["goal"] for goal in found["target_actions"]["yandex_goals_triggered"]] == ["in-the-tunnel"]


def test_what_was_not_sent_goes_with_the_next_page(site: Site, tab: OpenTab, shared: Tables) -> None:
    """The collector was restarted just when the visitor went on."""
    one = tab(metrika={"mode": "blocked"})
    one.page.route("**/collect", lambda route: route.abort())
    one.page.goto(f"{site.url}/{PAGE}")
    one.wait("sessionStorage.getItem('ta_session_id')")
    session = one.session_id
    one.page.unroute("**/collect")
    one.page.goto(f"{site.url}/form-popup.html")

    found = document(shared, lambda found: views(found) == 2)

    assert found["ids"]["session_id"] == session


def test_blocked_storage_still_fills_the_form(site: Site, tab: OpenTab, shared: Tables) -> None:
    """A page in a frame, or a browser that forbids cookies."""
    one = tab()
    one.page.add_init_script(NO_STORAGE)
    one.page.goto(f"{site.url}/{PAGE}")
    one.wait("window.initForms && document.querySelector('[name=session_id]').value")
    one.submit()

    found = document(shared, lambda found: found["visit"]["forms"])

    assert one.sent()[0]["session_id"] == found["ids"]["session_id"]
    assert one.errors == []


def test_own_host_keeps_the_visitor_by_a_servers_cookie(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Behind a path of the owner's site the cookie is set by a server, and storage may be emptied."""
    site.change = lambda text: text.replace("%TRACKER%", "/ta")
    one = opened(tab, site)
    document(shared)
    wait_until(lambda: "ta_user_id" in one.run("document.cookie"), what="the cookie")
    one.run("localStorage.clear()")
    two = tab(beside=one)
    two.page.goto(f"{site.url}/{PAGE}")

    wait_until(lambda: len(documents(shared)) == 2, what="the second session")

    users = {found["ids"]["user_id"] for found in documents(shared)}
    assert len(users) == 1
    [cookie] = [cookie for cookie in one.context.cookies() if cookie.get("name") == "ta_user_id"]
    assert cookie.get("value") in users
