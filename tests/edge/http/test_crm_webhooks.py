"""A CRM's webhook gets its answer at once: 200 for everything authentic, a sentence for everything else."""

import pytest

from fix_flow import Tables
from fix_server import KEY, Reply, Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EVENT = "event=ONCRMDEALUPDATE&data[FIELDS][ID]=662"
LEAD = "leads[status][0][id]=1&leads[status][0][status_id]=142&leads[status][0][price]=5"


def send(
    server: Server,
    path: str,
    body: str | bytes = EVENT,
    *,
    query: str = "",
    method: str = "POST",
    **headers: str,
) -> Reply:
    """Send a webhook without any key but those given."""
    labels = {**FORM, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return server.request(method, path, query=query, headers=labels, key=None, content=body)


@pytest.mark.parametrize(
    ("path", "query", "headers"),
    [
        ("/webhooks/default/bitrix24", f"key={KEY}", {}),
        ("/webhooks/default/bitrix24/", f"token={KEY}", {}),
        (f"/webhooks/default/bitrix24/{KEY}", "", {}),
        (f"/webhooks/default/bitrix24/{KEY}/robot", "", {}),
        ("/webhooks/default/bitrix24", "", {"X_Webhook_Key": KEY}),
        ("/webhooks/default/bitrix24", "", {"Authorization": f"Bearer {KEY}"}),
        ("/webhooks/default/amocrm", f"key={KEY}", {}),
    ],
)
def test_key_is_found_wherever_a_crm_can_put_it(
    hook: Server, shared: Tables, path: str, query: str, headers: dict[str, str]
) -> None:
    """Only an address can be given to most of them."""
    before = int(shared.one("select count(*) from closedloop.webhook"))

    reply = send(hook, path, LEAD if "amocrm" in path else EVENT, query=query, **headers)

    assert (reply.status, reply.body) == (200, b"ok")
    assert shared.one("select count(*) from closedloop.webhook") == before + 1
    assert KEY not in hook.log()


@pytest.mark.parametrize("crm", ["bitrix24", "amocrm"])
@pytest.mark.parametrize("query", ["", "key=wrong"])
def test_without_the_key_nothing_is_kept(hook: Server, shared: Tables, crm: str, query: str) -> None:
    """Anybody can find the address."""
    before = shared.one("select count(*) from closedloop.webhook")

    reply = send(hook, f"/webhooks/default/{crm}", query=query)

    assert reply.status == 403
    assert "error" in reply.json()
    assert shared.one("select count(*) from closedloop.webhook") == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/webhooks/default/bitrix24", 405),
        ("PUT", "/webhooks/default/amocrm", 405),
        ("POST", "/webhooks/shop/bitrix24", 404),
        ("POST", "/webhooks/default/sap", 404),
    ],
)
def test_wrong_address_is_told(hook: Server, method: str, path: str, status: int) -> None:
    """A typing error is found by its sentence."""
    assert send(hook, path, query=f"key={KEY}", method=method).status == status


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_megabyte_is_the_limit(hook: Server, more: int, status: int) -> None:
    """A card with hundreds of fields passes."""
    body = LEAD.encode() + b"&x=" + b"y" * (1024 * 1024 - len(LEAD) - 3 + more)

    assert send(hook, "/webhooks/default/amocrm", body, query=f"key={KEY}").status == status


def test_answers_are_counted(hook: Server) -> None:
    """By sender and outcome."""
    send(hook, "/webhooks/default/amocrm", LEAD, query="key=wrong")

    metrics = hook.get("/metrics", key=None).body.decode()
    assert 'closedloop_webhooks_total{outcome="forged",source="amocrm"}' in metrics
