"""Any history of deals, told by webhooks lost, doubled and reordered, ends in the ledger that it demands."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from closedloop.domain.goals import Goal
from closedloop.parse.registry import webhooks_of
from closedloop.settings import Bitrix24 as Portal
from closedloop.settings import Config, Site
from closedloop.stages import clock
from closedloop.stages.crms import Crm, inbox_reader
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from closedloop.stages.readback import DealReader
from closedloop.stages.sweep import Sweeper
from fix_flow import Tables
from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import Event

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

FORM = "application/x-www-form-urlencoded"
T = TypeVar("T")

STAGES = ["NEW", "EXECUTING", "FINAL_INVOICE", "WON", "LOSE"]
GOALS = (
    Goal(on="won", goal="payment_success"),
    Goal(on="lost", goal="refusal", value="1"),
    Goal(on="created", goal="lead", value="100"),
    Goal(on="stage:FINAL_INVOICE", goal="invoice", value="50%"),
)

# What happens: a deal is made, moved, given a sum, deleted; webhooks are sent, lost, doubled; a sweep runs.
create = st.just(("create", 0, 0))
move = st.tuples(st.just("move"), st.integers(0, 3), st.sampled_from([0, 1, 2, 3, 3, 4]))
worth = st.tuples(st.just("worth"), st.integers(0, 3), st.integers(0, 5).map(lambda amount: amount * 100))
delete = st.tuples(st.just("delete"), st.integers(0, 3), st.just(0))
tell = st.tuples(st.just("tell"), st.integers(0, 7), st.integers(1, 3))
merge = st.tuples(st.just("merge"), st.integers(0, 3), st.integers(1, 3))
lose = st.just(("lose", 0, 0))
sweep = st.just(("sweep", 0, 0))
step = st.one_of(move, tell, move, sweep, worth, move, lose, tell, delete, merge, create)
histories = st.lists(step, min_size=10, max_size=30)


class World:
    """A portal, our process without loops, and what is done to both."""

    def __init__(self, process: Process, crm: Crm, portal: Bitrix24) -> None:
        self.process = process
        self.site = crm.site
        self.portal = portal
        assert crm.client is not None
        self.inbox = inbox_reader(process.crms, self.site.name)
        self.reader = DealReader(crm.book, crm.client)
        self.sweeper = Sweeper(crm.book, crm.client, crm.every)
        self.deals: list[int] = []

    async def step(self, kind: str, first: int, second: int) -> None:
        """Do one thing; what is about a deal that is not there does nothing."""
        self.portal.clock.forward(1)
        deal = self.deals[first % len(self.deals)] if self.deals else None
        match kind:
            case "create":
                self.deals.append(self.portal.create_deal(opportunity=Decimal(first)))
            case "move" if deal is not None:
                self.portal.move_deal(deal, STAGES[second])
            case "worth" if deal is not None:
                self.portal.change_deal(deal, opportunity=Decimal(second))
            case "delete" if deal is not None:
                self.portal.delete_deal(deal)
                self.deals.remove(deal)
            case "merge" if deal is not None and len(self.deals) > 1:
                other = self.deals[(first + second) % len(self.deals)]
                if other != deal:
                    self.portal.merge_deals(deal, other)
                    self.deals.remove(other)
            case "tell" if self.portal.pending:
                await self.tell(self.portal.pending[first % len(self.portal.pending)], second)
            case "lose":
                self.portal.pending.clear()
            case "sweep":
                await self.sweeper.sweep()
            case _:
                pass

    async def tell(self, event: Event, times: int) -> None:
        """Send an event as often as said, and work on it."""
        body = self.portal.queue.event_body(event)
        for _ in range(times):
            raw = RawWebhook(
                source="bitrix24",
                received_at=clock.now(),
                method="POST",
                query="",
                content_type=FORM,
                user_agent="",
                body=body,
            )
            await self.process.intake.take_webhook(self.site, raw)
        await self.work()

    async def work(self) -> None:
        """Work on every webhook, and read every deal that is due."""
        await self.inbox.work()
        while await self.reader.read_due():
            pass

    async def settle(self) -> None:
        """Let a sweep come that looks at everything, as one does within a day."""
        await self.sweeper.sweep()
        await self.sweeper.look_for_deletions(clock.now())

    def demanded(self) -> dict[tuple[str, str], Decimal]:
        """Return what the true history demands: by deal and goal, the value."""
        told: dict[tuple[str, str], Decimal] = {}
        for number in self.deals:
            deal = self.portal.deal(number)
            seen = {move.stage_id for move in self.portal.crm.history if move.owner_id == number}
            name = str(number)
            told[name, "lead"] = Decimal(100)
            if deal.stage_id == "WON":
                told[name, "payment_success"] = deal.opportunity
            if deal.stage_id == "LOSE":
                told[name, "refusal"] = Decimal(1)
            if deal.stage_id == "WON" or "FINAL_INVOICE" in seen:
                told[name, "invoice"] = deal.opportunity / 2
        return told


def ledger(tables: Tables) -> dict[tuple[str, str], Decimal]:
    """Return what the ledger has: by deal and goal, the value."""
    query = "select deal_id, goal, value from closedloop.conversion where cancelled_at is null"
    return {(row[0], row[1]): row[2] for row in tables.conn.execute(query).fetchall()}


def in_world(url: str, folder: Path, portal: Bitrix24, use: Callable[[World], Awaitable[T]]) -> T:
    """Return what `use` returns, with our process connected to the portal and no loop running by itself."""
    settings_of = Portal(rest_url=portal.webhook_url, private_address=True)
    site = Site(name="default", bitrix24=settings_of, goals=GOALS)
    config = Config(sites={"default": site}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)

    async def run() -> T:
        process = Process(config, url, web=False, worker=False)
        await process.start()
        try:
            return await use(World(process, process.crms.of["default"]["bitrix24"], portal))
        finally:
            await process.stop()

    return asyncio.run(run())


TABLES = "conversion, deal, deal_task, sweep, webhook, journal, waiting"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories)
def test_any_history_ends_in_the_ledger_that_it_demands(
    database: str,
    tables: Tables,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[str, int, int]],
) -> None:
    """Whatever was heard of it."""
    tables.conn.execute(f"truncate closedloop.{TABLES.replace(', ', ', closedloop.')}".encode())
    with Bitrix24() as portal:
        portal.clock.set(time.time() - 3600)
        portal.buckets.watch.speed = 1000

        async def live(world: World) -> tuple[dict[tuple[str, str], Decimal], dict[tuple[str, str], Decimal]]:
            for kind, first, second in [("create", 0, 0), ("create", 0, 0), *history]:
                await world.step(kind, first, second)
            await world.work()
            await world.settle()
            told = world.demanded()
            before = entries(tables)
            await world.settle()
            assert entries(tables) == before, "a second look changed something"
            return told, ledger(tables)

        demanded, kept = in_world(database, tmp_path_factory.mktemp("world"), portal, live)
    assert kept == demanded


def entries(tables: Tables) -> int:
    """Return how many entries the journal has."""
    return int(tables.one("select count(*) from closedloop.journal"))


def test_webhooks_of_every_crm_are_known() -> None:
    """A CRM without an adapter would be found by its first webhook."""
    assert [webhooks_of(crm, Site().zone).name for crm in ("bitrix24", "amocrm")] == ["bitrix24", "amocrm"]
    assert timedelta(minutes=Portal().sweep_minutes) == timedelta(minutes=5)
