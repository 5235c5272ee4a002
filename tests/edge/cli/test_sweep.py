"""`sweep` reads what nobody told, shows how far it has come, and can be killed at any moment."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from closedloop.stages import clock
from fix_deployment import Deployment, amo_won, won
from fix_flow import Tables
from fix_tools import wait_until
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24

pytestmark = pytest.mark.migrated

NOW = clock.now()
TODAY = NOW.astimezone(ZoneInfo("Europe/Moscow")).date()


@pytest.fixture
def shop(deployment: Deployment) -> Deployment:
    """Give a deployment that is connected with Bitrix24."""
    deployment.configure(deployment.bitrix24)
    return deployment


def swept(shop: Deployment, *arguments: str) -> list[dict[str, Any]]:
    """Sweep as a program does."""
    done = shop.run("sweep", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def at(portal: Bitrix24, days: float) -> None:
    """Set the portal's clock so many days before now."""
    portal.clock.set(NOW - timedelta(days=days))


def test_deals_that_nobody_told_are_read(shop: Deployment, bitrix24: Bitrix24, tables: Tables) -> None:
    """The sentence is for a person, the bar for whoever waits, the rest for nobody."""
    tables.add_session("session-1")
    for number in range(3):
        won(bitrix24, 100 + number, f"session-{number}")

    done = shop.run("sweep")

    assert (done.returncode, done.stdout) == (
        0,
        "bitrix24: 3 changed deals read, 0 older ones looked at again.\n",
    )
    assert re.search(r"^bitrix24 ━+ 3/3 ", done.stderr)
    assert [goal["value"] for goal in tables.goals("session-1")] == [101]


def test_program_gets_numbers_for_each_crm(
    shop: Deployment, bitrix24: Bitrix24, amocrm: AmoCrm, tables: Tables
) -> None:
    """A scheduler keeps them, and standard output holds nothing else."""
    shop.configure(shop.bitrix24, shop.amocrm)
    won(bitrix24)
    amo_won(amocrm)
    amo_won(amocrm)

    assert swept(shop) == [
        {"site": "default", "crm": "bitrix24", "deals": 1, "checked": 0},
        {"site": "default", "crm": "amocrm", "deals": 2, "checked": 0},
    ]
    assert [one["crm"] for one in swept(shop, "--crm", "amocrm")] == ["amocrm"]
    assert len(tables.deals()) == 3


def test_second_sweep_begins_where_the_first_has_ended(
    shop: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """A year of deals is not read every five minutes."""
    at(bitrix24, 3)
    won(bitrix24)
    assert swept(shop)[0]["deals"] == 1
    at(bitrix24, 0)
    won(bitrix24)

    assert swept(shop)[0]["deals"] == 1
    assert len(tables.deals()) == 2


def test_day_that_is_asked_for_reaches_further_back(
    shop: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """Deals of a funnel that the webhook's user could not see until today."""
    swept(shop)
    at(bitrix24, 200)
    won(bitrix24)
    at(bitrix24, 0)

    assert swept(shop)[0]["deals"] == 0
    assert swept(shop, "--since", str(TODAY - timedelta(days=201)))[0]["deals"] == 1
    assert len(tables.deals()) == 1


def test_day_that_is_asked_for_passes_over_nothing(shop: Deployment, bitrix24: Bitrix24) -> None:
    """The server was down for five days; `--since` today must not let go of four of them."""
    at(bitrix24, 5)
    won(bitrix24)
    at(bitrix24, 0)

    assert swept(shop, "--since", str(TODAY))[0]["deals"] == 1
    assert swept(shop)[0]["deals"] == 0


def test_deletion_is_found_when_all_are_looked_at(
    shop: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """Nothing but its absence tells of a deleted deal; the server looks once a day, its owner now."""
    at(bitrix24, 200)
    tables.add_session("session-1")
    won(bitrix24, 5000, "session-1")
    won(bitrix24, 700, "session-2")
    at(bitrix24, 0)
    swept(shop, "--since", "2020-01-01")
    bitrix24.delete_deal(1)

    assert swept(shop)[0]["checked"] == 0
    assert len(tables.goals("session-1")) == 1
    done = shop.run("sweep", "--all")

    assert done.stdout == "bitrix24: 0 changed deals read, 2 older ones looked at again.\n"
    assert tables.goals("session-1") == []
    assert tables.one("select count(*) from closedloop.conversion where cancelled_at is null") == 1


def test_kill_in_the_middle_costs_nothing_but_time(
    shop: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """A terminal is closed, a machine restarts; what was read is kept, and nothing is read twice."""
    at(bitrix24, 0.5)
    with bitrix24.one_hit():
        for number in range(600):
            bitrix24.create_deal(opportunity=Decimal(number), stage_id="WON" if number % 10 else "NEW")
    at(bitrix24, 0)
    bitrix24.faults.slow(0.2, "batch", times=None)
    with shop.running("sweep") as command:
        wait_until(lambda: bool(tables.one("select seen > 0 from closedloop.sweep")), what="a page is kept")
        gate = bitrix24.faults.hold("batch")
        bitrix24.faults.orders.reverse()
        gate.wait_reached()
        command.kill()
    seen = int(tables.one("select seen from closedloop.sweep where cursor is not null"))
    last = tables.one("select max(read_at) from closedloop.deal")
    bitrix24.faults.clear()

    (told,) = swept(shop)

    assert 0 < seen < 600
    assert told["deals"] == 600
    assert tables.one("select count(*) from closedloop.deal where read_at <= %s", last) == seen
    assert tables.one("select count(*) from closedloop.conversion") == 540
    assert tables.one("select count(*) from closedloop.journal where kind = 'unmatched'") == 540


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--since", "yesterday"], "since is no day such as 2026-11-01: 'yesterday'"),
        (["--site", "shop2"], "there is no site shop2; known are: default"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence(shop: Deployment, arguments: list[str], sentence: str) -> None:
    """No trace for a typing mistake."""
    done = shop.run("sweep", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"closedloop: {sentence}\n")
