"""Forms that are not simply there: half read, opened at once, drawn anew; each is filled soon, and once."""

from collections.abc import Callable

import pytest

from fix_browser import HELD, Site, Tab

OpenTab = Callable[..., Tab]
UID = "1770146617335078468"
FILLED_MS = 500
LISTENED = (
    "window.initForms && [...document.querySelectorAll('form.js-form-proccess')]"
    ".every(form => initForms[form.closest('.r').id])"
)
# Milliseconds between two things that come to hold.
BETWEEN = """async ([first, second]) => {
    const moment = async expression => {
        while (!(0, eval)(expression)) await new Promise(done => setTimeout(done, 10));
        return performance.now();
    };
    const known = await moment(first);
    return await moment(second) - known;
}"""
COUNTS = "[...document.forms].map(form => form.querySelectorAll('[name=session_id],[name=ym_uid]').length)"


def session_fields(tab: Tab) -> list[str]:
    """Return every session that was sent, as often as it stands in what was sent."""
    pairs: list[list[str]] = tab.run("__tilda.sent.flatMap(one => one.pairs)")
    return [value for name, value in pairs if name == "session_id"]


# The page's own hidden field comes after the script's, and before it.
@pytest.mark.parametrize(
    "place", ['<div class="t-form__inputsbox">', '<div class="t-input-group t-input-group_hd"']
)
def test_form_that_is_still_being_parsed_gets_no_second_field(site: Site, tab: OpenTab, place: str) -> None:
    """On a slow line the script comes before the end of the page, and Tilda sends both fields."""
    site.change = lambda text: text.replace(place, HELD + place, 1)
    one = tab()
    one.page.goto(f"{site.url}/form-block.html", wait_until="commit")
    one.wait("document.forms.length && sessionStorage.getItem('ta_session_id')")
    site.rest.set()
    one.wait(LISTENED)

    one.submit()

    assert session_fields(one) == [one.session_id]


@pytest.mark.parametrize("mode", ["ok", "nocookie"])
def test_fields_are_filled_as_soon_as_both_are_known(site: Site, tab: OpenTab, mode: str) -> None:
    """A script of the owner's may read the form before anybody presses its button."""
    one = tab(metrika={"mode": mode, "delay": 1500})
    one.page.goto(f"{site.url}/form-block.html")

    session = one.run(BETWEEN, ["sessionStorage.ta_session_id", "document.forms[0].session_id.value"])
    client = one.run(BETWEEN, ["__metrika.calls.length", "document.forms[0].ym_uid.value"])

    assert max(session, client) < FILLED_MS


def test_metrica_that_a_tag_manager_brings_late_is_in_the_form(site: Site, tab: OpenTab) -> None:
    """Its snippet comes when the tracker has long looked for it, and the visitor is quick."""
    one = tab()
    one.page.goto(f"{site.url}/cookie-consent.html")
    one.wait(LISTENED)
    one.run("loadMetrika()")
    one.wait("/_ym_uid/.test(document.cookie)")

    one.submit()

    assert [told["ym_uid"] for told in one.sent()] == [UID]


def test_pop_up_that_is_opened_at_once_is_filled(site: Site, tab: OpenTab) -> None:
    """Some visitors came for that button."""
    one = tab()
    one.page.add_init_script("addEventListener('DOMContentLoaded', () => document.links[0].click())")
    one.page.goto(f"{site.url}/form-popup.html")
    one.wait(LISTENED)
    one.wait("document.querySelector('.t-popup_show [name=session_id]').value !== ''")

    one.submit()

    assert session_fields(one) == [one.session_id]


REDRAW = """() => document.querySelectorAll('.zero-form-rendered').forEach(place => {
    place.querySelector('form').remove();
    place.classList.remove('zero-form-rendered');
    __tilda.renderZero(place);
})"""


def test_form_that_is_drawn_anew_has_its_fields_once(site: Site, tab: OpenTab) -> None:
    """Zero Block draws its forms again when a phone is turned."""
    one = tab(metrika={"delay": 50})
    one.page.goto(f"{site.url}/form-without-hidden.html")
    full = f"{COUNTS}.sort().join() === '0,0,2,2'"
    one.wait(full)
    for _ in range(3):
        one.run(REDRAW)
        one.wait(full)
    one.wait(LISTENED)

    one.submit(1)

    assert session_fields(one) == [one.session_id]


def test_collector_that_takes_no_hits_changes_nothing_for_the_form(site: Site, tab: OpenTab) -> None:
    """The script was loaded, then the server fell."""
    one = tab(metrika={"delay": 50})
    one.page.route("**/collect", lambda route: route.abort())
    one.page.goto(f"{site.url}/form-two-and-late.html")
    one.wait(LISTENED)
    one.submit(0)
    one.wait("__tilda.log.some(one => one.what === 'cleared')")

    one.submit(1)

    assert (session_fields(one), one.errors) == ([one.session_id] * 2, [])
