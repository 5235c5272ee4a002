"""The whole way: a page, its form, Tilda's webhook, a deal won in the CRM, the goal in the session's row."""

from collections.abc import Callable

from fix_browser import Site, Tab
from fix_flow import Tables
from fix_server import KEY, Server
from fix_tools import wait_until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


DEAL = {
    "phone": "8 900 123-45-67",
    "deal_id": "D-1",
    "goal_name": "payment_success",
    "goal_value": "5 000,00",
}


def part(tables: Tables, session: str, path: str) -> object:
    """Return what stands at a path of a session's document."""
    query = (
        "select jsonb_path_query_first(analytics_data, %s::jsonpath)"
        " from public.user_analytics where session_id = %s"
    )
    return tables.one(query, path, session)


def test_deal_by_phone_reaches_the_visit_of_its_form(
    hook: Server, site: Site, tab: Callable[..., Tab]
) -> None:
    """The manager knows the phone and nothing else; the advertisement is paid by what this finds."""
    assert hook.database_url is not None
    visitor = tab(metrika={"delay": 50})
    visitor.page.goto(f"{site.url}/form-block.html?utm_source=yandex&yclid=123456")
    visitor.wait("window.initForms && document.querySelector('[name=ym_uid]').value")
    visitor.submit()
    session, form = visitor.session_id, visitor.run("__tilda.webhook(0)")

    tables = Tables(hook.database_url)
    wait_until(lambda: part(tables, session, "$.ids.session_id") == session, what="the visit")
    lead = hook.post(form, path="/webhooks/default/tilda", query=f"key={KEY}", headers=FORM, key=None)
    assert (lead.status, hook.post(DEAL).status) == (200, 200)

    [goal] = tables.goals(session)
    assert (goal["goal"], goal["value"], goal["deal_id"]) == ("payment_success", 5000, "D-1")
    marks = {"utm_source": "yandex", "yclid": "123456"}
    assert part(tables, session, "$.visit.touches.*.marks") == marks
    wait_until(lambda: part(tables, session, "$.visit.forms.*") is not None, what="the sent form")
    tables.conn.close()
