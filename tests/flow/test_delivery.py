"""A conversion leaves for the owner's own server, signed, and follows its deal."""

import base64
import json
from typing import Any

import pytest
from standardwebhooks import Webhook

from fix_flow import Tables, deal
from fix_server import MakeServer, Server
from fix_tools import wait_until
from platforms.receiver import Receiver

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
CONFIG = """
[[sites.default.destinations]]
name = "own"
type = "webhook"
url = "{url}/hook"
secrets = ["env:OWN_SECRET"]
private_address = true
"""


@pytest.fixture
def shop(server: MakeServer, receiver: Receiver) -> Server:
    """Give a server that tells the receiver of every conversion."""
    return server(config=CONFIG.format(url=receiver.url), environment={"OWN_SECRET": SECRET})


def events(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the events that came, their signatures verified by the standard's own library."""
    told: list[dict[str, Any]] = []
    for call in receiver.calls:
        Webhook(SECRET).verify(call.request.body, dict(call.request.headers))
        told.append(json.loads(call.request.body))
    return told


def test_conversion_and_its_change_leave_signed(shop: Server, receiver: Receiver, tables: Tables) -> None:
    """Each state once, in its order."""
    tables.add_session("s-1", ym_uid="1712345678901234567")

    assert shop.post(deal("s-1", "662", goal_value=5000)).status == 200
    wait_until(lambda: len(receiver.calls) == 1, what="the conversion")
    assert shop.post(deal("s-1", "662", goal_value=4000)).status == 200
    wait_until(lambda: len(receiver.calls) == 2, what="its change")

    first, second = events(receiver)
    assert [one["type"] for one in (first, second)] == ["conversion.created", "conversion.changed"]
    assert [one["data"]["value"] for one in (first, second)] == ["5000", "4000"]
    assert first["data"]["deal_id"] == "662"


def test_receiver_that_is_down_gets_it_later(shop: Server, receiver: Receiver, tables: Tables) -> None:
    """The hook's answer does not wait for it."""
    tables.add_session("s-1")
    receiver.go_down()
    assert shop.post(deal("s-1", "662")).status == 200
    wait_until(lambda: tables.one("select attempt from closedloop.delivery") == 1, what="an attempt")

    receiver.come_up()
    tables.conn.execute("update closedloop.delivery set due_at = now()")

    wait_until(lambda: len(events(receiver)) == 1, what="the conversion")


def test_killed_server_delivers_what_it_had_recorded(
    shop: Server, receiver: Receiver, tables: Tables
) -> None:
    """What counts is told, whoever dies."""
    tables.add_session("s-1")
    gate = receiver.faults.hold(done=False)
    shop.post(deal("s-1", "662"))
    gate.wait_reached()
    shop.kill()
    gate.open()
    receiver.calls.clear()

    shop.start()
    tables.conn.execute("update closedloop.delivery_batch set lease_until = now()")

    wait_until(lambda: len(events(receiver)) >= 1, what="the conversion")
    ids = {call.request.headers["webhook-id"] for call in receiver.calls}
    assert len(ids) == 1
