"""Forms that are not simply there: opened at once, drawn anew, sent while the collector is away."""

from collections.abc import Callable

from fix_browser import Site, Tab

OpenTab = Callable[..., Tab]
LISTENED = (
    "window.initForms && [...document.querySelectorAll('form.js-form-proccess')]"
    ".every(form => initForms[form.closest('.r').id])"
)
COUNTS = "[...document.forms].map(form => form.querySelectorAll('[name=session_id],[name=ym_uid]').length)"


def session_fields(tab: Tab) -> list[str]:
    """Return every session that was sent, as often as it stands in what was sent."""
    pairs: list[list[str]] = tab.run("__tilda.sent.flatMap(one => one.pairs)")
    return [value for name, value in pairs if name == "session_id"]


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
