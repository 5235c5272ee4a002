"""Every field is filled within half a second of being known, and a form has it once."""

from collections.abc import Callable

import pytest

from fix_browser import HELD, Site, Tab

OpenTab = Callable[..., Tab]
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


def test_metrica_that_a_tag_manager_brings_late_is_seen_soon(site: Site, tab: OpenTab) -> None:
    """Its snippet is put into the page when the tracker has long looked for it."""
    one = tab()
    one.page.goto(f"{site.url}/cookie-consent.html")
    one.wait("performance.now() > 1200")
    one.run("loadMetrika()")

    took = one.run(BETWEEN, ["/_ym_uid/.test(document.cookie)", "document.forms[0].ym_uid.value"])

    assert took < FILLED_MS
