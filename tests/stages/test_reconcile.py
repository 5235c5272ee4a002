"""The comparison with a CRM names every deal on which the two differ, and changes nothing."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest

from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.goals import Goal
from closedloop.domain.reconcile import Comparison
from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.settings import Site
from closedloop.stages import clock
from closedloop.stages.crm import CrmClient
from closedloop.stages.crms import Crm
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from closedloop.stages.reconcile import Reconciler
from closedloop.stages.sweep import Sweeper
from fix_deployment import Deployment, amo_won, in_process, site_of, won
from fix_flow import Tables
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24
from platforms.faults import Answer, Work

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

START, END = clock.now() - timedelta(days=2), clock.now() + timedelta(days=1)


class Line(NamedTuple):
    """One difference, the reason left out."""

    kind: str
    deal_id: str
    in_crm: str | None
    here: str | None


class Desk:
    """One CRM of a running process, and what a person does there."""

    def __init__(self, process: Process, crm: Crm) -> None:
        assert crm.client is not None
        self.process = process
        self.site = crm.site
        self.client: CrmClient = crm.client
        self.sweeper = Sweeper(crm.book, crm.client, crm.every)
        self.reconciler = Reconciler(crm.book, crm.client)
        self.seen: list[tuple[int, int | None]] = []

    async def sweep(self) -> None:
        """Read what the CRM has not told."""
        await self.sweeper.sweep()

    async def compare(self, start: datetime = START, end: datetime = END) -> Comparison:
        """Compare, noting the progress."""
        return await self.reconciler.compare(start, end, lambda seen, total: self.seen.append((seen, total)))

    async def hook(self, deal_id: str) -> None:
        """Let a webhook of the hook tell the deal's goal."""
        raw = RawWebhook(
            source="hook",
            received_at=clock.now(),
            method="POST",
            query="",
            content_type="",
            user_agent="",
            body=deal_id.encode(),
        )
        told = ReportedConversion(
            session_id="s-1", goal="payment_success", deal_id=deal_id, value=Decimal(5), digest=b"x" * 32
        )
        await self.process.intake.take(self.site, raw, [told])


Use = Callable[[Desk], Awaitable[Comparison]]


def compared(deployment: Deployment, site: Site, use: Use, crm: str = "bitrix24") -> Comparison:
    """Return the comparison that `use` makes."""
    return in_process(deployment, site, lambda process: use(Desk(process, process.crms.of[site.name][crm])))


def lines(comparison: Comparison) -> list[Line]:
    """Return the differences without their reasons, sorted."""
    return sorted(Line(one.kind, one.deal_id, one.in_crm, one.here) for one in comparison.differences)


def test_deal_that_nobody_heard_of_is_missing_until_the_sweep(
    deployment: Deployment, bitrix24: Bitrix24
) -> None:
    """The server was down: the command finds the gap, and finds it closed again."""
    won(bitrix24, 5000)

    async def use(desk: Desk) -> Comparison:
        before = await desk.compare()
        assert lines(before) == [Line("missing", "1", "5000 RUB", None)]
        assert (before.in_crm, before.here, before.is_complete) == (1, 0, False)
        await desk.sweep()
        return await desk.compare()

    after = compared(deployment, site_of(bitrix24), use)

    assert (after.in_crm, after.here, after.is_complete) == (1, 1, True)


def test_sum_that_was_changed_and_not_told_is_a_difference(
    deployment: Deployment, bitrix24: Bitrix24
) -> None:
    """A partial refund, typed into the card while the webhook was switched off."""
    deal = won(bitrix24, 5000)

    async def use(desk: Desk) -> Comparison:
        await desk.sweep()
        bitrix24.change_deal(deal, opportunity=Decimal("4500.50"))
        return await desk.compare()

    assert lines(compared(deployment, site_of(bitrix24), use)) == [
        Line("value", "1", "4500.50 RUB", "5000 RUB")
    ]


def test_deal_that_is_gone_or_never_was_is_too_much_here(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """Deleted after it was counted; told by a webhook with another system's number."""
    deal = won(bitrix24, 5000)

    async def use(desk: Desk) -> Comparison:
        await desk.sweep()
        bitrix24.delete_deal(deal)
        await desk.hook("999")
        await desk.hook("order-17")
        return await desk.compare()

    comparison = compared(deployment, site_of(bitrix24), use)

    why = {one.deal_id: one.why for one in comparison.differences}
    assert {one.kind for one in comparison.differences} == {"extra"}
    assert "was deleted" in why["1"]
    assert "was deleted" in why["999"]
    assert why["order-17"] == "the CRM shows no deal with this id"


def test_deal_that_was_reopened_says_where_it_is_now(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """Whoever looks into it begins at the deal's card."""
    deal = won(bitrix24, 5000)

    async def use(desk: Desk) -> Comparison:
        await desk.sweep()
        bitrix24.move_deal(deal, "EXECUTING")
        return await desk.compare()

    (found,) = compared(deployment, site_of(bitrix24), use).differences

    assert (found.kind, found.here) == ("extra", "5000 RUB")
    assert "the deal is open there, at EXECUTING" in found.why


def test_deal_without_a_session_is_listed_and_is_no_gap(
    deployment: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """Nothing was lost on the way; the visitor is what was not found."""
    tables.add_session("session-1")
    won(bitrix24, 1, "session-1")
    won(bitrix24, 2, "session-2")
    won(bitrix24, 3)

    async def use(desk: Desk) -> Comparison:
        await desk.sweep()
        return await desk.compare()

    comparison = compared(deployment, site_of(bitrix24), use)

    why = {one.deal_id: one.why for one in comparison.differences}
    assert comparison.is_complete
    assert set(why) == {"2", "3"}
    assert "no session session-2 is known" in why["2"]
    assert "carries nothing" in why["3"]


def test_every_page_is_compared(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """A month of a large shop; the bar knows how many deals there are."""
    for _ in range(520):
        won(bitrix24, 1)
    seen: list[tuple[int, int | None]] = []

    async def use(desk: Desk) -> Comparison:
        comparison = await desk.compare()
        seen.extend(desk.seen)
        return comparison

    assert compared(deployment, site_of(bitrix24), use).in_crm == 520
    assert seen == [(50, 520), (520, 520)]


def test_deal_of_amocrm_that_changes_meanwhile_counts_as_it_is(
    deployment: Deployment, amocrm: AmoCrm
) -> None:
    """It comes with the first page and again with the last: the later word is true."""
    leads = [amo_won(amocrm, 1) for _ in range(260)]

    def change_after(work: Work) -> Answer:
        answer = work()
        amocrm.clock.forward(2)
        amocrm.change_lead(leads[0], price=Decimal(2))
        amocrm.move_lead(leads[1], 41000001)
        return answer

    amocrm.clock.forward(1)
    amocrm.faults.order(change_after, "/api/v4/leads?")
    site = site_of(account=amocrm)

    comparison = compared(deployment, site, lambda desk: desk.compare(), "amocrm")

    told = {one.deal_id: one.in_crm for one in comparison.differences}
    assert comparison.in_crm == len(told) == len(comparison.differences) == 259
    assert told[str(leads[0])] == "2 RUB"
    assert str(leads[1]) not in told


def test_goal_of_a_stage_of_amocrm_stays_in_its_month(deployment: Deployment, amocrm: AmoCrm) -> None:
    """When a lead came to a stage amoCRM does not tell, and each save would move it to another period."""
    lead = amocrm.create_lead(price=Decimal(5), status_id=41000003)
    goals = (Goal(on="status:41000003", goal="invoice"),)

    async def use(desk: Desk) -> Comparison:
        await desk.sweep()
        changed_at = amocrm.clock.now + timedelta(minutes=1)
        amocrm.clock.set(changed_at)
        amocrm.change_lead(lead, name="Order")
        return await desk.compare(end=changed_at)

    assert compared(deployment, site_of(account=amocrm, goals=goals), use, "amocrm").is_complete


def test_nothing_is_changed_by_looking(deployment: Deployment, bitrix24: Bitrix24, tables: Tables) -> None:
    """The command is run by whoever doubts, also while the server works."""
    won(bitrix24, 5000)
    before = rows(tables)

    compared(deployment, site_of(bitrix24), lambda desk: desk.compare())

    assert rows(tables) == before
    assert {call.path.rpartition("/")[2] for call in bitrix24.calls} == {"batch"}


def rows(tables: Tables) -> list[int]:
    """Return how many rows each of our tables has."""
    names = ("conversion", "deal", "deal_task", "sweep", "journal", "webhook")
    return [int(tables.one(f"select count(*) from closedloop.{name}")) for name in names]  # noqa: S608 - constants


def test_half_a_comparison_is_none(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """A proof that stops in the middle proves nothing."""
    won(bitrix24, 5000)
    site = site_of(bitrix24)
    bitrix24.refuse("*", 402, "PAYMENT_REQUIRED")

    with pytest.raises(CrmRefusedError):
        compared(deployment, site, lambda desk: desk.compare())
    bitrix24.go_down()
    with pytest.raises(CrmAwayError):
        compared(deployment, site, lambda desk: desk.compare())
