"""Deals of Bitrix24, told by webhooks that are lost, doubled and forged, and by the sweep that needs none."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from fix_flow import Tables
from fix_server import MakeServer, Server
from fix_tools import wait_until
from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import DEAL

PATH = "/webhooks/default/bitrix24"
TOKEN = "demoapplicationtoken000000000001"  # noqa: S105 - invented
FIELD = "UF_CRM_1721244482"
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"

CONFIG = """
[sites.default.bitrix24]
rest_url = "env:BITRIX24_REST_URL"
application_token = "env:BITRIX24_TOKEN"
private_address = true
sweep_minutes = {sweep}
"""


Shop = Callable[..., Server]


@pytest.fixture
def shop(server: MakeServer, bitrix24: Bitrix24) -> Shop:
    """Give a server that reads back from the portal; it sweeps at its start and then, unless told, never."""
    bitrix24.clock.set(time.time() - 60)
    bitrix24.crm.add_user_field(DEAL, FIELD, "ID сессии")

    def started(sweep: float = 600) -> Server:
        environment = {"BITRIX24_REST_URL": bitrix24.webhook_url, "BITRIX24_TOKEN": TOKEN}
        return server(config=CONFIG.format(sweep=sweep), environment=environment)

    return started


def address(one: Server) -> str:
    """Return where the portal sends its webhooks."""
    return f"{one.url}{PATH}"


def goals(tables: Tables, session: str = SESSION) -> list[dict[str, Any]]:
    """Return goal, value and deal of the CRM's goals of a session."""
    return [{name: goal[name] for name in ("goal", "value", "deal_id")} for goal in tables.goals(session)]


def test_won_deal_of_a_webhook_is_a_goal_of_its_session(
    shop: Shop, bitrix24: Bitrix24, tables: Tables
) -> None:
    """The webhook says nothing but an id: all else is read back."""
    one = shop()
    tables.add_session(SESSION)
    deal = bitrix24.create_deal(
        opportunity=Decimal(5000), fields={FIELD: SESSION}, title="Order"
    )
    bitrix24.move_deal(deal, "WON")

    statuses = bitrix24.send(address(one))

    assert set(statuses) == {200}
    wait_until(lambda: bool(goals(tables)), what="the goal")
    assert goals(tables) == [{"goal": "payment_success", "value": 5000, "deal_id": str(deal)}]


def test_server_that_was_down_reads_what_it_never_heard(
    shop: Shop, bitrix24: Bitrix24, tables: Tables
) -> None:
    """Bitrix24 never asks twice."""
    one = shop()
    one.terminate()
    for number in range(120):
        deal = bitrix24.create_deal(opportunity=Decimal(number), fields={FIELD: f"s-{number}"})
        bitrix24.move_deal(deal, "WON")
    bitrix24.pending.clear()

    one.start()

    wait_until(lambda: len(tables.deals()) == 120, what="all deals", wait_s=60)
