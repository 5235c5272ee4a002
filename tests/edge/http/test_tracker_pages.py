"""Every form of every page carries the session at the moment when Tilda reads it, in Chromium."""

from collections.abc import Callable

import pytest

from fix_browser import Site, Tab
from fix_flow import Tables
from fix_server import Server
from fix_tools import wait_until

UID = "1770146617335078468"
OpenTab = Callable[..., Tab]
# Each page, and how many forms Tilda sends from it.
PAGES = {
    "form-block.html": 1,
    "form-popup.html": 1,
    "form-zero-block.html": 4,
    "form-two-and-late.html": 3,
    "form-without-hidden.html": 2,
}
# What becomes of Metrica, and the ClientID that a form can carry then.
METRICA = {"ok": UID, "blocked": None, "stub": None, "nocookie": UID}


def ready(tab: Tab, forms: int) -> None:
    """Return when the page has drawn its forms and Tilda listens to them; its pop-up is open."""
    tab.wait("window.initForms")
    tab.run("document.querySelector('a#open') && document.querySelector('a#open').click()")
    tab.wait(f"document.querySelectorAll('form.js-form-proccess [type=submit]').length >= {forms}")
    tab.wait(
        "[...document.querySelectorAll('form.js-form-proccess')]"
        ".every(form => initForms[form.closest('.r').id])"
    )


@pytest.mark.parametrize("mode", METRICA)
@pytest.mark.parametrize("name", PAGES)
def test_every_form_carries_the_session(site: Site, tab: Callable[..., Tab], name: str, mode: str) -> None:
    """A deal whose form was sent without it is never found."""
    one = tab(metrika={"mode": mode, "delay": 50}, tilda={"zeroDelay": 50})
    one.page.add_init_script("window.__lateAfter = 300")
    one.page.goto(f"{site.url}/{name}")
    ready(one, PAGES[name])
    if METRICA[mode]:
        one.wait(f"__metrika.calls.some(call => call[1] === 'getClientID') && __metrika.uid === '{UID}'")

    for form in range(PAGES[name]):
        one.submit(form)

    sent = one.sent()
    assert [told.get("session_id") for told in sent] == [one.session_id] * PAGES[name]
    assert {told.get("ym_uid") or None for told in sent} == {METRICA[mode]}
    assert one.errors == []


@pytest.mark.parametrize("mode", METRICA)
def test_quiz_is_filled_at_its_last_step(site: Site, tab: OpenTab, mode: str) -> None:
    """Its form is none to a script that looks once."""
    one = tab(metrika={"mode": mode, "delay": 50})
    one.page.goto(f"{site.url}/form-quiz.html")
    one.wait("window.initForms && true")
    one.page.click(".t835__btn_next")
    ready(one, 1)

    one.submit()

    [told] = one.sent()
    assert (told["session_id"], told["ym_uid"] or None) == (one.session_id, METRICA[mode])
    assert one.errors == []


def test_second_sending_carries_it_again(site: Site, tab: OpenTab) -> None:
    """Tilda clears the fields after the first; the visitor asks for another thing."""
    one = tab(tilda={"answerIn": 10})
    one.page.goto(f"{site.url}/form-block.html")
    ready(one, 1)
    one.submit()
    one.wait("__tilda.log.some(one => one.what === 'cleared')")

    one.submit()

    assert [told["session_id"] for told in one.sent()] == [one.session_id] * 2


def test_page_that_overwrites_the_field_does_not_win(site: Site, tab: OpenTab) -> None:
    """An old script of the owner may still write its own id, or nothing."""
    one = tab()
    one.page.goto(f"{site.url}/form-block.html")
    ready(one, 1)
    one.run("document.querySelector('[name=session_id]').value = 'of-the-old-script'")

    one.submit()

    assert one.sent()[0]["session_id"] == one.session_id


def test_form_of_another_host_and_search_get_nothing(site: Site, tab: OpenTab) -> None:
    """An id in an address of somebody else's is a leak."""
    one = tab()
    one.page.goto(f"{site.url}/form-without-hidden.html")
    ready(one, 2)
    one.wait("document.querySelectorAll('[name=session_id]').length === 2")

    ours = "[name=session_id],[name=ym_uid]"
    counts = one.run(f"[...document.forms].map(form => form.querySelectorAll('{ours}').length)")

    assert sorted(counts) == [0, 0, 2, 2]


PLAIN = """<!DOCTYPE html><script async src="%TRACKER%/tilda-analytics.js" data-site="default"></script>
<form method="post" action="/lead"><input name="phone" value="1"><button>Send</button></form>
<form action="/search"><input name="q"></form>"""


def test_plain_form_of_another_builder_carries_it(site: Site, tab: OpenTab, shared: Tables) -> None:
    """Not every page is Tilda's."""
    site.pages["plain.html"] = PLAIN
    one = tab()
    one.page.goto(f"{site.url}/plain.html")
    one.wait("document.querySelector('form [name=session_id]')")
    session = one.session_id

    with one.page.expect_navigation():
        one.page.click("button")

    assert site.posted == [("/lead", f"phone=1&session_id={session}")]
    wait_until(lambda: shared.document(session).get("visit", {}).get("forms"), what="the form")


@pytest.mark.parametrize("name", PAGES)
def test_collector_that_is_off_changes_nothing_for_the_page(site: Site, tab: OpenTab, name: str) -> None:
    """A dead server of ours must not cost the owner one lead."""
    site.collector = "http://127.0.0.1:9"
    one = tab(tilda={"zeroDelay": 50})
    one.page.add_init_script("window.__lateAfter = 300")
    one.page.goto(f"{site.url}/{name}")
    ready(one, PAGES[name])

    for form in range(PAGES[name]):
        one.submit(form)

    assert (len(one.sent()), one.errors) == (PAGES[name], [])


LINKS = ["https://wa.me/79001234567?text=Code {ta_code}", "https://t.me/bot?start=%7Bta_code%7D"]


@pytest.mark.parametrize("link", LINKS)
def test_messenger_link_carries_a_code_of_the_session(
    site: Site, tab: OpenTab, shared: Tables, hook: Server, link: str
) -> None:
    """The deal begins in a chat, and the CRM knows nothing but what was written there."""
    site.pages["links.html"] = PLAIN + f'<a id="chat" href="{link}">chat</a><a id="other" href="/x">x</a>'
    one = tab()
    one.page.goto(f"{site.url}/links.html")
    one.wait("/ta_[0-9a-f]{12}/.test(document.getElementById('chat').href)")
    code = one.run("/ta_[0-9a-f]{12}/.exec(document.getElementById('chat').href)[0]")
    wait_until(lambda: "ta_code" in shared.document(one.session_id).get("ids", {}), what="the code")

    reply = hook.post({"ta_code": f"Здравствуйте! Код {code}", "deal_id": code})

    assert reply.status == 200
    assert len(shared.goals(one.session_id)) == 1
    assert one.run("document.getElementById('other').getAttribute('href')") == "/x"
