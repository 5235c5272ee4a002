"""Before consent nothing is stored and nothing is sent; after it all works without a reload."""

from collections.abc import Callable

import pytest

from fix_browser import Site, Tab
from fix_flow import Tables
from fix_tools import wait_until

OpenTab = Callable[..., Tab]
UID = "1770146617335078468"
STORED = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie]).includes('ta_')"


@pytest.fixture(autouse=True)
def empty(shared: Tables) -> None:
    """Every test begins without sessions."""
    shared.conn.execute("delete from public.user_analytics")


def sessions(shared: Tables) -> int:
    """Return how many sessions there are."""
    return int(shared.one("select count(*) from public.user_analytics"))


def opened(site: Site, tab: OpenTab, name: str, attribute: str, script: str = "") -> tuple[Tab, list[str]]:
    """Open a page whose tag has this attribute; return it with every request to the collector."""
    site.change = lambda text: text.replace('data-site="default"', f'data-site="default" {attribute}')
    one = tab(metrika={"delay": 50})
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url) if "/collect" in request.url else None)
    if script:
        one.page.add_init_script(script)
    one.page.goto(f"{site.url}/{name}")
    one.wait("window.tildaAnalytics && window.initForms && performance.now() > 600")
    return one, asked


REQUIRED = 'data-consent="required"'


def test_banner_is_waited_for_and_understood(site: Site, tab: OpenTab, shared: Tables) -> None:
    """The fine is for the one request that left before the click."""
    one, asked = opened(site, tab, "cookie-consent.html", REQUIRED)
    assert (asked, one.run(STORED), sessions(shared)) == ([], False, 0)
    assert one.run("document.querySelector('[name=session_id]').value") == ""

    one.page.click("#accept-all")

    one.wait(f"document.querySelector('[name=ym_uid]').value === '{UID}'")
    wait_until(lambda: sessions(shared) == 1, what="the session")
    one.submit()
    assert one.sent()[0]["session_id"] == one.session_id


@pytest.mark.parametrize(("mode", "uid"), [("blocked", ""), ("stub", ""), ("nocookie", UID)])
def test_consent_without_a_working_metrica_fills_the_session(
    site: Site, tab: OpenTab, mode: str, uid: str
) -> None:
    """Whoever blocks Metrica may still say yes."""
    one, _ = opened(
        site, tab, "cookie-consent.html", REQUIRED, f"window.__metrikaConfig = {{mode: '{mode}'}}"
    )
    one.page.click("#accept-all")
    one.wait(f"window.__metrika && document.querySelector('[name=ym_uid]').value === '{uid}'")

    one.submit()

    [told] = one.sent()
    assert (told["session_id"], told["ym_uid"], one.errors) == (one.session_id, uid, [])


def test_refusal_stores_and_sends_nothing(site: Site, tab: OpenTab, shared: Tables) -> None:
    """The form is sent all the same, and says nothing of the visitor."""
    one, asked = opened(site, tab, "cookie-consent.html", REQUIRED)
    one.page.click("#reject-all")
    one.wait("performance.now() > 1500")

    one.submit()

    told = one.sent()[0]
    assert (told["session_id"], told["ym_uid"]) == ("", "")
    assert (asked, one.run(STORED), sessions(shared)) == ([], False, 0)


def test_refused_and_then_given_works_without_a_reload(site: Site, tab: OpenTab, shared: Tables) -> None:
    """A banner of the owner's own speaks through the small interface."""
    one, asked = opened(site, tab, "form-block.html", REQUIRED)
    one.run("tildaAnalytics.consent(false)")
    one.wait("performance.now() > 900")
    assert (asked, sessions(shared)) == ([], 0)

    one.run("tildaAnalytics.consent(true)")

    one.wait("document.querySelector('[name=session_id]').value !== ''")
    wait_until(lambda: sessions(shared) == 1, what="the session")


def test_choice_is_remembered(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Nobody wants to be asked on every page."""
    one, _ = opened(site, tab, "form-block.html", REQUIRED)
    one.run("tildaAnalytics.consent(true)")
    wait_until(lambda: sessions(shared) == 1, what="the session")

    one.page.reload()

    one.wait("document.querySelector('[name=session_id]').value !== ''")


def test_consent_taken_back_forgets_the_visitor(site: Site, tab: OpenTab, shared: Tables) -> None:
    """In the browser and on the server."""
    one, _ = opened(site, tab, "form-block.html", "")
    wait_until(lambda: sessions(shared) == 1, what="the session")

    one.run("tildaAnalytics.consent(false)")

    told = "select analytics_data -> 'visit' ->> 'consent' from public.user_analytics"
    wait_until(lambda: shared.one(told) == "withdrawn", what="the withdrawal")
    assert shared.one("select analytics_data -> 'ids' ->> 'ym_uid' from public.user_analytics") is None
    kept = one.run("Object.keys({...localStorage, ...sessionStorage}).filter(name => name.startsWith('ta_'))")
    assert kept == ["ta_consent"]


SIGNALS = {
    "doNotTrack": "Object.defineProperty(navigator, 'doNotTrack', { value: '1' })",
    "globalPrivacyControl": "Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })",
}


@pytest.mark.parametrize("signal", SIGNALS)
def test_signal_of_the_browser_is_respected_where_the_owner_says_so(
    site: Site, tab: OpenTab, shared: Tables, signal: str
) -> None:
    """An owner who promises it must be able to keep the promise."""
    one, asked = opened(site, tab, "form-block.html", 'data-dnt="respect"', SIGNALS[signal])

    assert (asked, one.run(STORED), sessions(shared)) == ([], False, 0)


@pytest.mark.parametrize("signal", SIGNALS)
def test_signal_changes_nothing_by_default(site: Site, tab: OpenTab, shared: Tables, signal: str) -> None:
    """It is an option."""
    opened(site, tab, "form-block.html", "", SIGNALS[signal])

    wait_until(lambda: sessions(shared) == 1, what="the session")
