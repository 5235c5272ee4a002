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
    deal = bitrix24.create_deal(opportunity=Decimal(5000), fields={FIELD: SESSION}, title="Order")
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


def won(portal: Bitrix24, worth: int, session: str = SESSION) -> int:
    """Make a deal that is won, and return its id."""
    deal = portal.create_deal(opportunity=Decimal(worth), fields={FIELD: session})
    portal.move_deal(deal, "WON")
    return deal


def test_goal_list_shows_the_present_state_of_a_deal(shop: Shop, bitrix24: Bitrix24, tables: Tables) -> None:
    """Changed, refunded in part, reopened, lost, won again: each webhook says only that something changed."""
    one = shop()
    tables.add_session(SESSION)
    deal = won(bitrix24, 5000)

    def after(*, worth: int | None = None, stage: str | None = None) -> list[int]:
        bitrix24.clock.forward(1)
        if worth is not None:
            bitrix24.change_deal(deal, opportunity=Decimal(worth))
        if stage is not None:
            bitrix24.move_deal(deal, stage)
        bitrix24.send(address(one))
        wait_until(lambda: not tables.one("select count(*) from closedloop.deal_task"), what="read back")
        wait_until(lambda: not waiting(tables), what="read")
        wait_until(lambda: not tables.one("select count(*) from closedloop.deal_task"), what="read back")
        return [goal["value"] for goal in goals(tables)]

    assert after() == [5000]
    assert after(worth=4500) == [4500]
    assert after(stage="EXECUTING") == []
    assert after(stage="LOSE") == []
    assert after(stage="WON", worth=4700) == [4700]
    kinds = "select string_agg(kind, ' ' order by entry) from closedloop.journal where kind <> 'found'"
    assert tables.one(kinds) == "matched revised cancelled reinstated revised moved"


def waiting(tables: Tables) -> int:
    """Return how many webhooks wait for work."""
    return int(tables.one("select count(*) from closedloop.webhook where outcome = 'waiting'"))


def test_deleted_deal_takes_its_goal_with_it(shop: Shop, bitrix24: Bitrix24, tables: Tables) -> None:
    """A test order is deleted, not lost."""
    one = shop()
    tables.add_session(SESSION)
    deal = won(bitrix24, 5000)
    bitrix24.send(address(one))
    wait_until(lambda: bool(goals(tables)), what="the goal")

    bitrix24.delete_deal(deal)
    bitrix24.send(address(one))

    wait_until(lambda: goals(tables) == [], what="the goal is gone")
    reason = "select detail ->> 'reason' from closedloop.journal where kind = 'cancelled'"
    assert tables.one(reason) == "deleted"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"application_token": "demoapplicationtoken000000000009"}, "forged"),
        ({"application_token": ""}, "forged"),
        ({"ago": 7200}, "stale"),
    ],
)
def test_webhook_that_is_not_believed_is_refused_and_counted(
    shop: Shop, bitrix24: Bitrix24, tables: Tables, change: dict[str, Any], kind: str
) -> None:
    """Anybody can post to an address."""
    one = shop()
    won(bitrix24, 5000)
    bitrix24.queue.application_token = change.get("application_token", TOKEN)
    bitrix24.clock.forward(-change.get("ago", 0))

    assert set(bitrix24.send(address(one))) == {403}

    assert tables.one("select count(*) from closedloop.webhook") == 0
    counted = f'closedloop_webhooks_total{{outcome="{kind}",source="bitrix24"}} 2.0'
    assert counted in one.get("/metrics", key=None).body.decode()


def test_portal_that_is_down_is_asked_until_it_answers(
    shop: Shop, bitrix24: Bitrix24, tables: Tables
) -> None:
    """Its webhooks are answered meanwhile, and at once."""
    one = shop()
    tables.add_session(SESSION)
    won(bitrix24, 5000)
    bitrix24.go_down()

    started = time.monotonic()
    assert set(bitrix24.send(address(one))) == {200}
    assert time.monotonic() - started < 2
    wait_until(lambda: not waiting(tables), what="the webhooks are read")
    bitrix24.come_up()

    wait_until(lambda: bool(goals(tables)), what="the goal")


def bad_gateway(portal: Bitrix24) -> None:
    """Let the next call be answered by the server before the portal."""
    portal.faults.answer(502, "batch")


def dropped(portal: Bitrix24) -> None:
    """Let the next call be dropped before it is worked on."""
    portal.faults.drop("batch")


def answer_lost(portal: Bitrix24) -> None:
    """Let the next call be dropped after it is worked on."""
    portal.faults.drop("batch", done=True)


@pytest.mark.parametrize("fault", [bad_gateway, dropped, answer_lost])
def test_answer_that_fails_is_asked_for_again(
    shop: Shop, bitrix24: Bitrix24, tables: Tables, fault: Callable[[Bitrix24], None]
) -> None:
    """Networks do."""
    one = shop()
    tables.add_session(SESSION)
    fault(bitrix24)
    won(bitrix24, 5000)

    bitrix24.send(address(one))

    wait_until(lambda: bool(goals(tables)), what="the goal")


def test_many_events_of_one_deal_are_read_once_or_a_few_times(
    shop: Shop, bitrix24: Bitrix24, tables: Tables
) -> None:
    """A robot that saves in a loop must not use up the portal's limit."""
    one = shop()
    tables.add_session(SESSION)
    won(bitrix24, 5000)
    (event, *_) = bitrix24.pending
    bitrix24.faults.slow(1, "batch")

    bitrix24.send(address(one), [event] * 60, senders=8)

    wait_until(lambda: bool(goals(tables)), what="the goal")
    wait_until(lambda: not waiting(tables), what="all read")
    wait_until(lambda: not tables.one("select count(*) from closedloop.deal_task"), what="read back")
    assert len(bitrix24.calls_of("batch")) < 30
    assert goals(tables) == [{"goal": "payment_success", "value": 5000, "deal_id": "1"}]


def test_robot_with_values_in_its_address_is_a_conversion(
    shop: Shop, bitrix24: Bitrix24, tables: Tables
) -> None:
    """Its goal is the owner's own word, beside what the deal earns by itself."""
    one = shop()
    tables.add_session(SESSION)
    deal = bitrix24.create_deal(opportunity=Decimal(700), fields={FIELD: SESSION})
    template = (
        f"{address(one)}?key={one.key}&session_id={{=Document:{FIELD}}}&goal_name=prepaid"
        "&goal_value={=Document:OPPORTUNITY}"
    )

    assert bitrix24.run_robot(template, deal) == 200

    wait_until(lambda: bool(goals(tables)), what="the goal")
    assert goals(tables) == [{"goal": "prepaid", "value": 700, "deal_id": str(deal)}]
    assert one.key not in one.log()


def test_robot_without_the_key_is_refused(shop: Shop, bitrix24: Bitrix24) -> None:
    """It has no application token: what it says of its portal is public."""
    one = shop()
    deal = won(bitrix24, 5)

    assert bitrix24.run_robot(f"{address(one)}?deal_id={{{{ID}}}}", deal) == 403
    assert bitrix24.run_robot(f"{address(one)}/{one.key}?deal_id={{{{ID}}}}", deal) == 200


def test_webhook_that_cannot_be_read_stays_with_its_reason(shop: Shop, tables: Tables) -> None:
    """It was authentic: 200 for its sender, and the owner sees what it was."""
    one = shop()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = "event=ONCRMDEALUPDATE&data[FIELDS][ID]=%FF%FE"

    assert one.post(body, path=PATH, query=f"key={one.key}", headers=form, key=None).status == 200

    failed = "select reason from closedloop.webhook where outcome = 'failed'"
    wait_until(lambda: tables.one(failed) is not None, what="the webhook has failed")
    assert "UTF-8" in tables.one(failed)
