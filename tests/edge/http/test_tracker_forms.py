"""Forms that are not simply there: half parsed, opened at once, drawn anew; each is filled, and once."""

from collections.abc import Callable

from fix_browser import HELD, Site, Tab

OpenTab = Callable[..., Tab]
FIELDS = "document.querySelectorAll('form.js-form-proccess [name=session_id]')"
HIDDEN = '<div class="t-input-group t-input-group_hd" data-input-lid="1004"'
LISTENED = (
    "window.initForms && [...document.querySelectorAll('form.js-form-proccess')]"
    ".every(form => initForms[form.closest('.r').id])"
)


def session_fields(tab: Tab) -> list[str]:
    """Return the session of each sending's body, as many times as it stands there."""
    pairs: list[list[str]] = tab.run("__tilda.sent.flatMap(one => one.pairs)")
    return [value for name, value in pairs if name == "session_id"]


def test_form_that_is_still_being_parsed_gets_no_second_field(site: Site, tab: OpenTab) -> None:
    """On a slow line the script comes before the end of the page, and Tilda sends the last of two fields."""
    site.change = lambda text: text.replace(HIDDEN, HELD + HIDDEN)
    one = tab()
    one.page.goto(f"{site.url}/form-block.html", wait_until="commit")
    one.wait("document.querySelector('[name=Email]') && sessionStorage.getItem('ta_session_id')")
    site.rest.set()
    one.wait(LISTENED)

    one.submit()

    assert session_fields(one) == [one.session_id]
