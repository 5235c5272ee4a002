"""A webhook that was kept is worked on once, in order, and what cannot be read waits with its reason."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from closedloop.settings import Bitrix24
from closedloop.stages import clock
from closedloop.stages.crms import inbox_reader
from closedloop.stages.intake import RawWebhook
from closedloop.telemetry import REGISTRY
from fix_deals import InWorld, World
from fix_flow import Tables

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

FORM = "application/x-www-form-urlencoded"
ASKED = Bitrix24(rest_url="http://127.0.0.1:9/rest/1/code/", private_address=True)
EVENT = "event=ONCRMDEALUPDATE&data[FIELDS][ID]={}&ts={}"
ADDED = datetime(2026, 11, 1, tzinfo=UTC)


async def keep(world: World, body: str, source: str = "bitrix24", query: str = "") -> None:
    """Keep one webhook as its endpoint does."""
    raw = RawWebhook(
        source=source,
        received_at=clock.now(),
        method="POST",
        query=query,
        content_type=FORM,
        user_agent="",
        body=body.encode(),
    )
    await world.process.intake.take_webhook(world.site, raw)


async def work(world: World) -> int:
    """Work on everything that waits."""
    return await inbox_reader(world.process.crms, "default").work()


def outcomes(tables: Tables) -> list[tuple[str, str | None]]:
    """Return what became of each webhook, oldest first."""
    query = "select outcome, reason from closedloop.webhook order by webhook_id"
    return [(row[0], row[1]) for row in tables.conn.execute(query).fetchall()]


def test_event_lets_its_deal_be_read_once_however_often_it_comes(in_world: InWorld, tables: Tables) -> None:
    """A thousand events of a bulk action are a thousand rows, and one call for each deal."""

    async def live(world: World) -> int:
        for deal in (662, 662, 7, 662):
            await keep(world, EVENT.format(deal, 1))
        return await work(world)

    assert in_world(live, bitrix24=ASKED) == 4
    assert outcomes(tables) == [("accepted", None)] * 4
    query = "select deal_id, wanted from closedloop.deal_task order by deal_id"
    assert tables.conn.execute(query).fetchall() == [("662", 3), ("7", 1)]


def test_webhook_is_kept_byte_for_byte_and_sealed(in_world: InWorld, tables: Tables) -> None:
    """It is the evidence, and it holds tokens."""
    body = "event=ONCRMDEALUPDATE&auth%5Bapplication_token%5D=secret-token&x=%D0%AF+y"

    async def live(world: World) -> bytes:
        await keep(world, body)
        return world.process.intake.sealer.open(bytes(tables.one("select body from closedloop.webhook")))

    assert in_world(live, bitrix24=ASKED) == body.encode()
    assert b"secret-token" not in bytes(tables.one("select body from closedloop.webhook"))


def test_deal_of_a_crm_that_cannot_be_asked_waits_for_its_owner(in_world: InWorld, tables: Tables) -> None:
    """Configured and replayed, it is read."""

    async def live(world: World) -> None:
        await keep(world, EVENT.format(662, 1))
        await work(world)

    in_world(live)
    ((outcome, reason),) = outcomes(tables)
    assert outcome == "failed"
    assert reason is not None
    assert reason.startswith("closedloop cannot ask the CRM about deal 662")

    tables.conn.execute("update closedloop.webhook set outcome = 'waiting'")
    in_world(work, bitrix24=ASKED)
    assert outcomes(tables) == [("accepted", None)]
    assert tables.one("select deal_id from closedloop.deal_task") == "662"


def test_unreadable_webhook_holds_up_no_other(in_world: InWorld, tables: Tables) -> None:
    """Nothing of it is half done."""

    async def live(world: World) -> int:
        await keep(world, "event=ONCRMDEALUPDATE&data[FIELDS][ID]=" + quote("six hundred"))
        await keep(world, EVENT.format(662, 1))
        return await work(world)

    assert in_world(live, bitrix24=ASKED) == 2
    assert [outcome for outcome, _ in outcomes(tables)] == ["failed", "accepted"]
    assert tables.one("select count(*) from closedloop.deal_task") == 1


def test_defect_of_ours_parks_the_webhook_and_not_the_loop(in_world: InWorld, tables: Tables) -> None:
    """What nobody foresaw must not stop the next."""
    tables.conn.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no' using errcode = 'check_violation'; end $$"
    )
    tables.conn.execute(
        "create trigger refuse before insert on closedloop.deal_task"
        " for each row when (new.deal_id = '13') execute function refuse()"
    )

    async def live(world: World) -> int:
        await keep(world, EVENT.format(13, 1))
        await keep(world, EVENT.format(662, 1))
        return await work(world)

    assert in_world(live, bitrix24=ASKED) == 2
    assert [outcome for outcome, _ in outcomes(tables)] == ["failed", "accepted"]


def test_deal_of_amocrm_is_believed_where_nobody_can_be_asked(in_world: InWorld, tables: Tables) -> None:
    """Its webhook has sum, stage and fields."""
    tables.add_session("7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13")
    lead = {
        "id": "30100001",
        "status_id": "142",
        "pipeline_id": "4500001",
        "price": "5000",
        "last_modified": str(int(ADDED.timestamp())),
        "custom_fields][0][id": "1",
        "custom_fields][0][name": "session_id",
        "custom_fields][0][values][0][value": "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13",
    }
    body = "&".join(f"leads[status][0][{name}]={value}" for name, value in lead.items())

    async def live(world: World) -> int:
        await keep(world, body, source="amocrm")
        await keep(world, body, source="amocrm")
        return await work(world)

    assert in_world(live, crm="amocrm") == 2
    goals: list[dict[str, Any]] = tables.goals("7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13")
    assert [(goal["goal"], goal["value"], goal["deal_id"]) for goal in goals] == [
        ("payment_success", 5000, "30100001")
    ]


def test_two_processes_share_the_work_without_doing_it_twice(in_world: InWorld, tables: Tables) -> None:
    """A worker more is a worker more, not another truth."""

    async def live(world: World) -> tuple[int, int]:
        for deal in range(20):
            await keep(world, EVENT.format(deal + 1, 1))
        first = inbox_reader(world.process.crms, "default")
        second = inbox_reader(world.process.crms, "default")
        done = [await one.work_on_next([]) for one in (first, second, first, second)]
        return sum(one is not None for one in done), await work(world)

    assert in_world(live, bitrix24=ASKED) == (4, 16)
    assert tables.one("select count(*) from closedloop.deal_task where wanted = 1") == 20


def test_what_waits_and_what_failed_is_counted(in_world: InWorld) -> None:
    """An owner who watches one number sees that a mapping broke."""

    async def live(world: World) -> list[float | None]:
        reader = inbox_reader(world.process.crms, "default")
        await keep(world, EVENT.format(662, 1))
        await reader.work()
        await keep(world, EVENT.format(662, 1))
        await reader.count()
        labels = [{"site": "default", "outcome": outcome} for outcome in ("waiting", "failed")]
        return [REGISTRY.get_sample_value("closedloop_inbox", one) for one in labels]

    assert in_world(live) == [1, 1]
