"""Who gets the webhooks of the fake account, and is tried again when, and is switched off."""

import httpx
import pytest

from platforms.amocrm import AmoCrm
from platforms.amocrm_webhooks import Delivery
from platforms.receiver import Receiver

MINUTE = 60


def trials(amocrm: AmoCrm, receiver: Receiver, *statuses: int) -> list[int]:
    """Return the minutes of all attempts at one body that is answered with `statuses`, the last for ever."""
    left = list(statuses)
    receiver.react = lambda _: left.pop(0) if len(left) > 1 else left[0]
    amocrm.subscribe(receiver.url)
    amocrm.create_lead()
    start = amocrm.clock.unix
    (delivery,) = amocrm.send()
    amocrm.pass_time(24 * 60 * MINUTE)
    return [(attempt.at - start) // MINUTE for attempt in delivery.attempts]


@pytest.mark.parametrize(
    ("statuses", "minutes"),
    [
        ([200], [0]),
        ([299], [0]),
        ([301], [0, 5, 20]),
        ([404], [0, 5, 20]),
        ([413, 200], [0, 5]),
        ([500], [0, 5, 20, 35, 95]),
        ([499], [0, 5, 20, 35, 95]),
        ([400, 400, 500], [0, 5, 20, 35, 95]),
        ([500, 500, 400], [0, 5, 20]),
        ([500, 500, 500, 204], [0, 5, 20, 35]),
        ([500, 500, 500, 404], [0, 5, 20, 35]),
    ],
)
def test_failures_are_repeated_as_documented(
    amocrm: AmoCrm, receiver: Receiver, statuses: list[int], minutes: list[int]
) -> None:
    """Whoever answers late or wrongly gets the same sale up to five times within 95 minutes."""
    assert trials(amocrm, receiver, *statuses) == minutes


def test_no_connection_is_tried_twice_more(amocrm: AmoCrm, receiver: Receiver) -> None:
    """A restart of twenty minutes is survived, one of an hour is not."""
    receiver.go_down()

    assert trials(amocrm, receiver, 200) == [0, 5, 20]


def test_answer_after_two_seconds_is_none(amocrm: AmoCrm, receiver: Receiver) -> None:
    """The receiver has it already, and gets it again with another id of the request."""
    amocrm.courier.answer_s = 0.1
    gate = receiver.faults.hold()

    minutes = trials(amocrm, receiver, 200)
    gate.open()

    assert minutes == [0, 5]
    assert [attempt.status for attempt in amocrm.courier.deliveries[0].attempts] == [0, 200]
    assert amocrm.courier.deliveries[0].is_delivered


def test_repeated_body_is_the_same_under_another_id(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Only the body can be known again."""
    trials(amocrm, receiver, 500)

    assert len({call.request.body for call in receiver.calls}) == 1
    assert len({call.request.headers["x-amocrm-requestid"] for call in receiver.calls}) == 5


def failing(amocrm: AmoCrm, receiver: Receiver, count: int) -> list[Delivery]:
    """Deliver as many bodies to a receiver that refuses them all, a second apart."""
    receiver.react = lambda _: 404
    done: list[Delivery] = []
    for _ in range(count):
        amocrm.create_lead()
        done += amocrm.send()
        amocrm.clock.forward(1)
    return done


def test_webhook_is_switched_off_after_a_hundred_failures(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Then nothing comes at all, until the account's owner notices."""
    webhook = amocrm.subscribe(receiver.url)
    failing(amocrm, receiver, 100)
    before = webhook.disabled

    (last,) = failing(amocrm, receiver, 1)

    assert (before, webhook.disabled, len(webhook.invalid)) == (False, True, 101)
    assert (failing(amocrm, receiver, 1), len(receiver.calls)) == ([], 101)
    amocrm.pass_time(120 * MINUTE)
    assert (len(last.attempts), len(receiver.calls)) == (1, 101)


def test_failures_of_long_ago_do_not_count(amocrm: AmoCrm, receiver: Receiver) -> None:
    """Two hours, by the account's clock."""
    webhook = amocrm.subscribe(receiver.url)
    failing(amocrm, receiver, 100)
    for delivery in amocrm.courier.deliveries:
        delivery.due = None
    amocrm.pass_time(121 * MINUTE)

    failing(amocrm, receiver, 1)

    assert (webhook.disabled, len(webhook.invalid)) == (False, 1)


def test_valid_answer_keeps_the_webhook_on(amocrm: AmoCrm, receiver: Receiver) -> None:
    """The latest must be invalid as well."""
    webhook = amocrm.subscribe(receiver.url)
    failing(amocrm, receiver, 100)
    receiver.react = lambda _: 200
    amocrm.create_lead()

    amocrm.send()

    assert not webhook.disabled


def test_webhooks_are_managed_by_calls(amocrm: AmoCrm, receiver: Receiver) -> None:
    """`doctor` can see that a webhook is missing or switched off."""
    headers = {"Authorization": f"Bearer {amocrm.tokens.long_lived}"}
    with httpx.Client(base_url=f"{amocrm.url}/api/v4", headers=headers, trust_env=False) as client:
        told = {"destination": receiver.url, "settings": ["add_lead"]}
        added = client.post("webhooks", json=told)
        client.post("webhooks", json={**told, "settings": ["status_lead"]})
        amocrm.create_lead()
        deliveries = amocrm.send()
        listed = client.get("webhooks").json()["_embedded"]["webhooks"]
        removed = client.request("DELETE", "webhooks", json={"destination": receiver.url})

    assert (added.status_code, added.json()["disabled"]) == (201, False)
    assert [(one["destination"], one["settings"]) for one in listed] == [(receiver.url, ["status_lead"])]
    assert (removed.status_code, deliveries, amocrm.api.webhooks) == (204, [], [])


def test_hundred_webhooks_are_the_most(amocrm: AmoCrm) -> None:
    """One that is forgotten in each test account would soon fill it."""
    for number in range(100):
        amocrm.subscribe(f"https://{number}.example")
    headers = {"Authorization": f"Bearer {amocrm.tokens.long_lived}"}

    more = httpx.post(
        f"{amocrm.url}/api/v4/webhooks",
        json={"destination": "https://more.example", "settings": ["add_lead"]},
        headers=headers,
        trust_env=False,
    )

    assert (more.status_code, len(amocrm.api.webhooks)) == (400, 100)
