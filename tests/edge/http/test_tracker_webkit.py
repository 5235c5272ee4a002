"""The same pages in WebKit, the engine of every browser on an iPhone."""

import pytest
from selenium import webdriver

from fix_browser import SUBMIT, Site, ask, holds
from fix_flow import Tables
from fix_tools import wait_until

UID = "1770146617335078468"
PAGES = {
    "form-block.html": 1,
    "form-popup.html": 1,
    "form-zero-block.html": 4,
    "form-two-and-late.html": 2,
    "form-without-hidden.html": 2,
    "form-quiz.html": 1,
    "cookie-consent.html": 1,
}
# What a browser that forbids storage does, before the tracker comes.
NO_STORAGE = """<script>for (const name of ['sessionStorage', 'localStorage'])
    Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError'); } });
</script>"""


def views(shared: Tables, session_id: str) -> int:
    """Return how many page views a session has."""
    return len(shared.document(session_id).get("visit", {}).get("pages", {}))


def opened(driver: webdriver.WebKitGTK, site: Site, name: str, forms: int) -> None:
    """Open a page and return when its forms are drawn and listened to."""
    driver.delete_all_cookies()
    driver.get(f"{site.url}/{name}")
    holds(driver, "window.initForms && true")
    ask(driver, "(document.querySelector('a#open') || document.body).click()")
    ask(driver, "(document.querySelector('.t835__btn_next') || document.body).click()")
    holds(driver, f"document.querySelectorAll('form.js-form-proccess [type=submit]').length >= {forms}")
    holds(
        driver,
        "[...document.querySelectorAll('form.js-form-proccess')]"
        ".every(form => initForms[form.closest('.r').id])",
    )


def sent(driver: webdriver.WebKitGTK) -> list[dict[str, str]]:
    """Return what Tilda really sent."""
    told: list[dict[str, str]] = ask(driver, "__tilda.sent.map(one => Object.fromEntries(one.pairs))")
    return told


@pytest.mark.parametrize("name", PAGES)
def test_every_form_carries_the_session(
    webkit: webdriver.WebKitGTK, site: Site, shared: Tables, name: str
) -> None:
    """Half of the buyers come with it."""
    opened(webkit, site, name, PAGES[name])

    for form in range(PAGES[name]):
        ask(webkit, f"({SUBMIT})({form})")

    session = ask(webkit, "sessionStorage.ta_session_id")
    assert [told.get("session_id") for told in sent(webkit)] == [session] * PAGES[name]
    wait_until(lambda: shared.document(session).get("visit", {}).get("forms"), what="the forms")


def test_client_id_reaches_form_and_session(webkit: webdriver.WebKitGTK, site: Site, shared: Tables) -> None:
    """Metrica is asked as everywhere."""
    opened(webkit, site, "form-block.html", 1)
    holds(webkit, f"document.querySelector('[name=ym_uid]').value === '{UID}'")
    session = ask(webkit, "sessionStorage.ta_session_id")

    wait_until(lambda: shared.document(session).get("ids", {}).get("ym_uid") == UID, what="the ClientID")


def test_blocked_storage_still_fills_the_form(
    webkit: webdriver.WebKitGTK, site: Site, shared: Tables
) -> None:
    """Lockdown mode, or a page in somebody's frame."""
    site.change = lambda text: text.replace("<head>", f"<head>{NO_STORAGE}")
    opened(webkit, site, "form-block.html", 1)
    holds(webkit, "document.querySelector('[name=session_id]').value !== ''")

    ask(webkit, f"({SUBMIT})(0)")

    [told] = sent(webkit)
    wait_until(lambda: shared.document(told["session_id"]) != {}, what="the row")


def test_reload_and_way_back_are_the_same_session(
    webkit: webdriver.WebKitGTK, site: Site, shared: Tables
) -> None:
    """Safari keeps whole pages in memory."""
    opened(webkit, site, "form-block.html?yclid=5", 1)
    session = ask(webkit, "sessionStorage.ta_session_id")
    webkit.refresh()
    holds(webkit, "window.initForms && true")
    webkit.get(f"{site.url}/form-popup.html")
    holds(webkit, "window.initForms && true")
    webkit.back()

    wait_until(lambda: views(shared, session) >= 4, what="four views")
    assert ask(webkit, "sessionStorage.ta_session_id") == session
    assert len(shared.document(session)["visit"]["touches"]) == 1
