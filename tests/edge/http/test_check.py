"""The page /check in a real browser: it shows nothing without the key, and then what arrives, live."""

from collections.abc import Callable

import pytest

from fix_browser import Site, Tab
from fix_server import KEY, Server


def watched(hook: Server, tab: Callable[..., Tab], key: str = KEY) -> Tab:
    """Open the page and press its button."""
    one = tab()
    one.page.goto(f"{hook.url}/check?lang=en")
    one.page.fill("#key", key)
    one.page.click("#key-form button")
    return one


def test_visit_and_form_turn_green_by_themselves(hook: Server, site: Site, tab: Callable[..., Tab]) -> None:
    """The owner has two windows open and does nothing but wait."""
    one = watched(hook, tab)
    one.page.wait_for_selector("#steps li.wait >> nth=4")
    visitor = tab()
    visitor.page.goto(f"{site.url}/form-block.html")
    visitor.wait("window.initForms && document.querySelector('[name=session_id]').value")
    visitor.submit()

    one.page.wait_for_selector("#steps li.ok >> nth=2")

    assert "form-block.html" in one.page.inner_text("#steps")
    assert one.errors == []


def test_wrong_key_shows_nothing(hook: Server, tab: Callable[..., Tab]) -> None:
    """Whoever finds the address must not read the shop's pages."""
    one = watched(hook, tab, "wrong")

    one.page.wait_for_selector("#problem:not(:empty)")

    assert one.page.inner_text("#steps") == ""
    assert hook.get("/api/v1/check", key=None).status == 401


@pytest.mark.parametrize(("language", "word"), [("ru", "Копировать"), ("en", "Copy"), ("de", "Копировать")])
def test_page_speaks_russian_unless_asked(hook: Server, language: str, word: str) -> None:
    """Its reader is a Russian marketer; a developer asks for English."""
    reply = hook.get("/check", key=None, headers={"Accept-Language": language})

    assert word in reply.body.decode()
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_line_to_copy_is_that_of_this_server(hook: Server) -> None:
    """A line with a wrong host is pasted as readily as a right one."""
    labels = {"Host": "t.shop.example", "X-Forwarded-Proto": "https"}

    page = hook.get("/check", key=None, headers=labels).body.decode()

    assert "https://t.shop.example/tilda-analytics.js" in page
    assert "<b>" not in hook.get("/check", key=None, headers={"Host": "a<b>.example"}).body.decode()
