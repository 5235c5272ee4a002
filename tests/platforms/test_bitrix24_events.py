"""What the fake portal sends: which change fires what, the bytes of events and robots, and nothing twice."""

from decimal import Decimal
from pathlib import Path

import pytest

from fix_tools import REPOSITORY
from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import DEAL, LEAD, Event
from platforms.receiver import Receiver

SESSION = "UF_CRM_1721244482250"
ID = "data[FIELDS][ID]"
SMART = 1032


def recorded(name: str) -> tuple[str, dict[str, str], bytes]:
    """Return target, headers and body of a recorded request."""
    path: Path = REPOSITORY / "tests" / "recorded" / "bitrix24" / f"{name}.http"
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first.split(" ")[1], dict(line.split(": ", 1) for line in lines), body


def names(portal: Bitrix24) -> list[str]:
    """Return what waits to be sent, and forget it."""
    found = [event.name.removeprefix("ONCRM") for event in portal.pending]
    portal.pending.clear()
    return found


def test_changes_fire_events_of_their_type(bitrix24: Bitrix24) -> None:
    """An event says that something happened, never what."""
    bitrix24.crm.add_smart_process(SMART)
    deal_id = bitrix24.create_deal()
    bitrix24.move_deal(deal_id, "WON")
    bitrix24.change_deal(deal_id, opportunity=Decimal(5))
    bitrix24.delete_deal(deal_id)
    bitrix24.create_lead()
    bitrix24.create_contact()
    bitrix24.create(SMART)

    assert names(bitrix24) == [
        *("DEALADD", "DEALUPDATE", "DEALUPDATE", "DEALDELETE"),
        *("LEADADD", "CONTACTADD", "DYNAMICITEMADD"),
    ]


def test_another_funnel_fires_nothing(bitrix24: Bitrix24) -> None:
    """A deal that is won on its way into another funnel is found by a sweep only."""
    bitrix24.crm.add_funnel(DEAL, 5, "Second")
    deal_id = bitrix24.create_deal()
    names(bitrix24)
    bitrix24.clock.forward(60)

    bitrix24.move_deal(deal_id, "C5:WON")

    deal = bitrix24.deal(deal_id)
    assert names(bitrix24) == []
    assert (deal.category_id, deal.semantics, deal.moved - deal.created) == (5, "S", 60)


def test_equal_events_of_one_hit_are_one(bitrix24: Bitrix24) -> None:
    """Counting events is not counting changes."""
    deal_id = bitrix24.create_deal()
    names(bitrix24)

    with bitrix24.one_hit():
        bitrix24.move_deal(deal_id, "WON")
        bitrix24.change_deal(deal_id, title="a")
    bitrix24.change_deal(deal_id, title="b")

    assert names(bitrix24) == ["DEALUPDATE", "DEALUPDATE"]


def test_merged_deals_are_a_deletion_and_an_update(bitrix24: Bitrix24) -> None:
    """The sale of the absorbed deal must not vanish with it, nor count twice."""
    kept_id = bitrix24.create_deal()
    absorbed_id = bitrix24.create_deal(fields={SESSION: "s-1"}, contact_ids=[7])
    bitrix24.pending.clear()

    bitrix24.merge_deals(kept_id, absorbed_id)

    assert bitrix24.pending == [
        Event("ONCRMDEALDELETE", DEAL, absorbed_id),
        Event("ONCRMDEALUPDATE", DEAL, kept_id),
    ]
    assert (bitrix24.deal(kept_id).fields, bitrix24.deal(kept_id).contact_ids) == ({SESSION: "s-1"}, [7])


@pytest.mark.parametrize(
    ("name", "event", "handler_id", "unix"),
    [
        ("event-deal-update", Event("ONCRMDEALUPDATE", DEAL, 662), 17, 1741436402),
        ("event-deal-delete", Event("ONCRMDEALDELETE", DEAL, 640), 18, 1741440000),
        ("event-lead-update", Event("ONCRMLEADUPDATE", LEAD, 365), 21, 1741000841),
        ("event-deal-add-no-handler-id", Event("ONCRMDEALADD", DEAL, 662), None, 1741000003),
        ("event-dynamic-item-update", Event("ONCRMDYNAMICITEMUPDATE", SMART, 21), 509, 1741436500),
    ],
)
def test_event_has_the_recorded_bytes(
    bitrix24: Bitrix24, receiver: Receiver, name: str, event: Event, handler_id: int | None, unix: int
) -> None:
    """A parser that reads these reads what real portals sent."""
    target, headers, body = recorded(name)
    bitrix24.clock.set(unix)
    bitrix24.queue.has_handler_ids = handler_id is not None
    bitrix24.queue.handler_ids[event.name] = handler_id or 0

    bitrix24.send(receiver.url + target, [event])

    (call,) = receiver.calls
    assert (call.request.target, call.request.body) == (target, body)
    assert list(call.request.headers) == [label.lower() for label in headers]
    assert call.request.headers["user-agent"] == headers["User-Agent"]


def test_test_decides_what_is_sent_and_in_which_order(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """Lost, doubled and late events are the usual case, not the exception."""
    for _ in range(3):
        bitrix24.create_deal()
    first, second, third = bitrix24.pending
    bitrix24.pending.remove(second)

    bitrix24.send(receiver.url, [third, first, third])

    assert [body[ID] for body in receiver.bodies] == ["3", "1", "3"]
    assert bitrix24.pending == []


@pytest.mark.parametrize("status", [404, 500])
def test_refused_event_is_never_sent_again(bitrix24: Bitrix24, receiver: Receiver, status: int) -> None:
    """Whatever a receiver does not keep is lost."""
    receiver.react = lambda _: status
    bitrix24.create_deal()

    statuses = bitrix24.send(receiver.url) + bitrix24.send(receiver.url)

    assert statuses == [status]
    assert len(receiver.calls) == 1


def test_event_to_a_receiver_that_is_down_is_lost(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """The portal does not even notice."""
    bitrix24.create_deal()
    receiver.go_down()

    assert bitrix24.send(receiver.url) == [0]
    assert bitrix24.pending == []


def test_bulk_action_is_a_burst(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """Hundreds of deals that are changed at once are as many calls, by several senders."""
    for _ in range(300):
        bitrix24.create_deal()

    statuses = bitrix24.send(receiver.url, senders=8)

    assert statuses == [200] * 300
    assert {int(body[ID]) for body in receiver.bodies} == set(range(1, 301))


def test_slow_receiver_is_called_less_often(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """A receiver that works before it answers holds up its own events."""
    bitrix24.queue.slow_after_s, bitrix24.queue.watch.speed = 0.05, 100
    receiver.faults.slow(0.06)
    bitrix24.create_deal()
    bitrix24.create_deal()

    bitrix24.send(receiver.url)

    assert len(bitrix24.queue.pauses) == 1


ROBOT = "/functions/v1/crm-conversion-hook?key=demo-url-key-11"
SESSION_ID = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"


@pytest.mark.parametrize(
    ("name", "rest", "goal"),
    [
        (
            "robot-deal-won",
            (
                f"&session_id={{{{=Document:{SESSION}}}}}&goal_name={{=Document:TITLE}}"
                "&goal_value={=Document:OPPORTUNITY}&currency={=Document:CURRENCY_ID}&deal_id={{ID}}"
            ),
            "payment_success",
        ),
        (
            "robot-deal-money-field",
            (
                f"&session_id={{=Document:{SESSION}}}&ym_uid=1741000000123456789&goal_name={{{{TITLE}}}}"
                "&goal_value={=Document:UF_CRM_PAID}&deal_id={=Document:ID}"
                "&occurred_at={=Document:MOVED_TIME}"
            ),
            "payment_success",
        ),
        (
            "robot-literal-placeholder",
            "&session_id={{=Document:UF_CRM_SESSION}}&goal_value={=Document:NOTHING}&deal_id=662",
            "",
        ),
        (
            "robot-ampersand-in-value",
            (
                "&goal_name={=Document:TITLE}&goal_value=5000"
                f"&session_id={{=Document:{SESSION}}}&deal_id={{=Document:ID}}"
            ),
            "Кофе & чай: заказ №15",
        ),
    ],
)
def test_robot_has_the_recorded_bytes(
    bitrix24: Bitrix24, receiver: Receiver, name: str, rest: str, goal: str
) -> None:
    """All that it says stands in the query of its POST, and `&` in a value is not escaped."""
    bitrix24.crm.add_user_field(DEAL, SESSION, "Session")
    bitrix24.crm.add_user_field(DEAL, "UF_CRM_PAID", "Paid", "money")
    fields = {SESSION: SESSION_ID, "UF_CRM_PAID": "5 000|RUB"}
    bitrix24.create_deal(id=662, title=goal, opportunity=Decimal(5000), fields=fields)

    bitrix24.run_robot(receiver.url + ROBOT + rest, 662)

    target, headers, body = recorded(name)
    (call,) = receiver.calls
    assert call.request.target == target.replace("OPPORTUNITY", "NOTHING")
    assert call.request.body == body
    assert list(call.request.headers) == [label.lower() for label in headers]


def test_robot_of_a_smart_process_names_type_and_item(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """The id stands after the last underscore."""
    bitrix24.crm.add_smart_process(SMART)
    bitrix24.create(SMART, id=21)

    bitrix24.run_robot(f"{receiver.url}/", 21, SMART)

    assert receiver.calls[0].request.body == recorded("robot-smart-process")[2]


@pytest.mark.parametrize(
    ("title", "escapes", "target"),
    [
        ("a+b", True, "/?t=a%2Bb&d=1"),
        ("a+b", False, "/?t=a+b&d=1"),
        ("50%", True, "/?t=50%25&d=1"),
        ("no #5", True, "/?t=no%20"),
        ("a=b/c?", True, "/?t=a=b/c?&d=1"),
        ("a\nb", True, "/?t=a_b&d=1"),
        ("да", False, "/?t=%D0%B4%D0%B0&d=1"),
    ],
)
def test_robot_escapes_as_its_module_does(
    bitrix24: Bitrix24, receiver: Receiver, title: str, target: str, *, escapes: bool
) -> None:
    """What a person types into a title changes which parameters arrive."""
    bitrix24.create_deal(title=title)

    bitrix24.run_robot(f"{receiver.url}/?t={{=Document:TITLE}}&d={{{{ID}}}}", 1, escapes=escapes)

    assert receiver.calls[0].request.target == target


def test_robot_prints_money_as_the_portal_is_set(bitrix24: Bitrix24, receiver: Receiver) -> None:
    """Nobody may count on one form of it."""
    bitrix24.queue.money = "{amount:.0f}|{currency}"
    bitrix24.create_deal(opportunity=Decimal(5000))

    bitrix24.run_robot(f"{receiver.url}/?v={{=Document:OPPORTUNITY}}", 1)

    assert receiver.calls[0].request.target == "/?v=5000%7CRUB"
