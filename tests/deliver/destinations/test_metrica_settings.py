"""Settings of both doors to Metrica: wrong ones are told at the start, not at the first sale."""

import pytest

from closedloop.deliver.base import Destination
from closedloop.deliver.destinations.metrica_conversions import (
    MetricaConversions,
    MetricaConversionsSettings,
)
from closedloop.deliver.destinations.metrica_orders import MetricaOrders, MetricaOrdersSettings
from closedloop.deliver.fields import fields_of, read_settings
from closedloop.domain.delivery import Outcome
from closedloop.errors import ConfigError
from fix_destinations import NOW
from fix_metrica import reply

ORDERS: Destination = MetricaOrders()
CONVERSIONS: Destination = MetricaConversions()
TOKEN = "y0_secret"  # noqa: S105 - invented
OF_ORDERS = MetricaOrdersSettings(
    counter="12345678", token=TOKEN, goals={"qualified": "good_lead", "deal_lost": "CANCELLED"}
)
OF_CONVERSIONS = MetricaConversionsSettings(
    counter="12345678", token=TOKEN, goals={"payment_success": "deal_paid", "qualified": "good_lead"}
)


@pytest.mark.parametrize("settings", [MetricaOrdersSettings, MetricaConversionsSettings])
def test_every_setting_says_what_it_is(settings: type) -> None:
    """Form, check and reference are made from nothing else."""
    fields = fields_of(settings)

    assert all(field.title and field.help and field.examples for field in fields)
    assert [field.name for field in fields if field.is_secret is not False] == ["token"]


def test_zone_that_is_none_is_refused() -> None:
    """At the start, and not at the first sale."""
    told = {"counter": 1, "token": "t", "timezone": "Europe/Moskow"}

    with pytest.raises(ConfigError) as caught:
        read_settings(MetricaOrdersSettings, told)

    mistake = "timezone is no time zone: 'Europe/Moskow'; did you mean 'Europe/Moscow'?"
    assert caught.value.mistakes == [mistake]


def test_check_asks_for_the_counter_and_reads_its_zone() -> None:
    """With the wrong zone every order of the night lands on the wrong day, and nothing complains."""
    request = ORDERS.check(OF_ORDERS, NOW)
    counter = {"time_zone_name": "Asia/Tokyo", "permission": "edit"}

    assert request is not None
    assert request.url.endswith("/management/v1/counter/12345678?field=goals")
    assert "Asia/Tokyo" in ORDERS.judge(reply(counter=counter), OF_ORDERS).reason


def test_check_wants_the_goals_of_the_settings_only() -> None:
    """CANCELLED is a status of Metrica's own."""
    goal = {"type": "action", "conditions": [{"type": "exact", "url": "good_lead"}]}

    assert "good_lead" in ORDERS.judge(reply(counter={"name": "shop", "goals": []}), OF_ORDERS).reason
    assert ORDERS.judge(reply(counter={"goals": [goal], "id": 1}), OF_ORDERS).outcome is Outcome.CONFIRMED


def test_check_of_conversions_wants_every_goal() -> None:
    """A conversion of a goal that the counter has not vanishes without an error."""
    request = CONVERSIONS.check(OF_CONVERSIONS, NOW)
    goal = {"type": "action", "conditions": [{"type": "exact", "url": "deal_paid"}]}

    judged = CONVERSIONS.judge(reply(counter={"id": 12345678, "goals": [goal]}), OF_CONVERSIONS)

    assert request is not None
    assert request.url.endswith("/management/v1/counter/12345678?field=goals")
    assert (judged.outcome, "good_lead" in judged.reason) == (Outcome.CONFIG_BLOCKED, True)
    assert "deal_paid" not in judged.reason


def test_settings_without_goals_are_refused() -> None:
    """Nothing would ever be sent, and nobody would know why."""
    told: dict[str, object] = {"counter": 1, "token": "t", "base_url": "http://127.0.0.1"}

    with pytest.raises(ConfigError) as caught:
        read_settings(MetricaConversionsSettings, told)

    assert [line.split()[0] for line in caught.value.mistakes] == ["base_url", "goals"]
    with pytest.raises(ConfigError, match="goals is wrong"):
        read_settings(MetricaConversionsSettings, {**told, "goals": {}})
