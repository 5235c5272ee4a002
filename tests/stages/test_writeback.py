"""A manager sees in the deal where it came from; it is written once, and our own writing starts nothing."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

from closedloop.domain.goals import Goal
from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.settings import Site, WriteBack
from closedloop.stages import clock
from closedloop.stages.crms import Crm, inbox_reader
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from closedloop.stages.readback import DealReader
from closedloop.stages.sweep import Sweeper
from closedloop.stages.writeback import MAX_IN_A_ROW, BackWriter
from fix_deployment import Deployment, amo_won, in_process, site_of, won
from fix_flow import Tables
from platforms.amocrm import AmoCrm
from platforms.amocrm_bodies import webhook_body
from platforms.amocrm_data import CustomField
from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import DEAL

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

T = TypeVar("T")

FIELDS = WriteBack(source="UF_CRM_11", campaign="UF_CRM_12", match="UF_CRM_13")
AMO_FIELDS = WriteBack(source="710001", campaign="UTM_CAMPAIGN_OF_US", match="710003")
MARKS = {"utm_source": "yandex", "utm_medium": "cpc", "utm_campaign": "winter"}
NOBODY = ("", "", "no session found")
FOUND = ("yandex / cpc", "winter", "found by the session of the form")


class Desk:
    """One CRM of a running process, with what reads from it and what writes into it."""

    def __init__(self, process: Process, crm: Crm, fields: WriteBack, page: int) -> None:
        assert crm.client is not None
        self.process = process
        self.site = crm.site
        self.name = crm.name
        self.sweeper = Sweeper(crm.book, crm.client, crm.every)
        self.reader = DealReader(crm.book, crm.client)
        self.inbox = inbox_reader(process.crms, crm.site.name)
        self.writer = BackWriter(crm.book, crm.client, fields, page)

    async def read(self) -> None:
        """Read every deal that has changed."""
        await self.sweeper.sweep()

    async def hear(self, *bodies: bytes) -> None:
        """Take webhooks, and read what they are about."""
        for body in bodies:
            raw = RawWebhook(
                source=self.name,
                received_at=clock.now(),
                method="POST",
                query="",
                content_type="application/x-www-form-urlencoded",
                user_agent="",
                body=body,
            )
            await self.process.intake.take_webhook(self.site, raw)
        await self.inbox.work()
        while await self.reader.read_due():
            pass


Use = Callable[[Desk], Awaitable[T]]


def at_desk(
    deployment: Deployment, site: Site, use: Use[T], fields: WriteBack = FIELDS, page: int = 500
) -> T:
    """Return what `use` returns at the site's only CRM."""
    name = "bitrix24" if site.bitrix24 is not None else "amocrm"
    return in_process(
        deployment, site, lambda process: use(Desk(process, process.crms.of["default"][name], fields, page))
    )


@pytest.fixture
def portal(deployment: Deployment, bitrix24: Bitrix24) -> Bitrix24:  # noqa: ARG001 - it prepares the portal
    """Give a portal with fields to write into."""
    for number in (11, 12, 13):
        bitrix24.crm.add_user_field(DEAL, f"UF_CRM_{number}", f"Field {number}")
    return bitrix24


@pytest.fixture
def account(deployment: Deployment, amocrm: AmoCrm) -> AmoCrm:  # noqa: ARG001 - it prepares the account
    """Give an account with fields to write into, one of them known by its code."""
    amocrm.add_field(CustomField(710001, "From"))
    amocrm.add_field(CustomField(710002, "Campaign", code="UTM_CAMPAIGN_OF_US"))
    amocrm.add_field(CustomField(710003, "Match"))
    return amocrm


def add_session(tables: Tables, session_id: str, **marks: str) -> None:
    """Insert a session that came by an advertisement."""
    document = {"ids": {"session_id": session_id}, "visit": {"first_touch": {"marks": marks or MARKS}}}
    tables.conn.execute(
        "insert into public.user_analytics (session_id, analytics_data) values (%s, %s)",
        [session_id, json.dumps(document)],
    )


def of_deal(portal: Bitrix24, deal: int) -> tuple[object, ...]:
    """Return what a manager reads in a deal of Bitrix24."""
    return tuple(portal.deal(deal).fields.get(f"UF_CRM_{number}") for number in (11, 12, 13))


def of_lead(account: AmoCrm, lead: int) -> tuple[object, ...]:
    """Return what a manager reads in a lead of amoCRM."""
    return tuple(account.lead(lead).fields.get(number) for number in (710001, 710002, 710003))


def updates(portal: Bitrix24) -> int:
    """Return how often deals were written."""
    return len(portal.calls_of("crm.item.update"))


def test_origin_is_written_into_the_fields_once(
    deployment: Deployment, portal: Bitrix24, tables: Tables
) -> None:
    """It costs a call for each deal, and a portal has few of them."""
    add_session(tables, "session-1")
    deal, other = won(portal, session="session-1"), won(portal)

    async def use(desk: Desk) -> list[int]:
        await desk.read()
        first = await desk.writer.write()
        await desk.read()
        return [first, await desk.writer.write()]

    assert at_desk(deployment, site_of(portal), use) == [2, 0]
    assert (of_deal(portal, deal), of_deal(portal, other)) == (FOUND, NOBODY)
    assert updates(portal) == 2


def test_fields_of_amocrm_are_named_by_number_or_code(
    deployment: Deployment, account: AmoCrm, tables: Tables
) -> None:
    """As the owner sees them in the card's settings."""
    add_session(tables, "session-1")
    lead, other = amo_won(account, session="session-1"), amo_won(account)

    async def use(desk: Desk) -> list[int]:
        await desk.read()
        first = await desk.writer.write()
        await desk.read()
        return [first, await desk.writer.write()]

    assert at_desk(deployment, site_of(account=account), use, AMO_FIELDS) == [2, 0]
    assert (of_lead(account, lead), of_lead(account, other)) == (FOUND, NOBODY)


def test_only_the_named_fields_are_touched(deployment: Deployment, portal: Bitrix24, tables: Tables) -> None:
    """An owner who wants the match alone gets nothing else."""
    add_session(tables, "session-1")
    deal = won(portal, session="session-1")

    async def use(desk: Desk) -> None:
        await desk.read()
        await desk.writer.write()

    at_desk(deployment, site_of(portal), use, WriteBack(match="UF_CRM_13"))

    assert of_deal(portal, deal) == (None, None, FOUND[2])


def test_late_match_takes_the_place_of_nobody(
    deployment: Deployment, portal: Bitrix24, tables: Tables
) -> None:
    """The tracker's hit is later than the manager's click."""
    deal = won(portal, session="session-1")

    async def use(desk: Desk) -> list[int]:
        await desk.read()
        wrote = [await desk.writer.write()]
        assert of_deal(portal, deal) == NOBODY
        add_session(tables, "session-1")
        await desk.process.matcher.look_at_all()
        return [*wrote, await desk.writer.write(), await desk.writer.write()]

    assert at_desk(deployment, site_of(portal), use) == [1, 1, 0]
    assert of_deal(portal, deal) == FOUND


def test_own_writing_that_comes_back_changes_nothing(
    deployment: Deployment, portal: Bitrix24, tables: Tables
) -> None:
    """Each write is an event of the portal: answered by another write it would never end."""
    add_session(tables, "session-1")
    won(portal, session="session-1")
    portal.pending.clear()

    async def use(desk: Desk) -> int:
        await desk.read()
        await desk.writer.write()
        before = everything(tables)
        (event,) = portal.pending
        portal.clock.forward(1)
        await desk.hear(portal.queue.event_body(event))
        assert everything(tables) == before
        return await desk.writer.write()

    assert at_desk(deployment, site_of(portal), use) == 0
    assert updates(portal) == 1


def test_own_writing_moves_no_goal_of_amocrm(deployment: Deployment, account: AmoCrm, tables: Tables) -> None:
    """Since when a lead is on its stage amoCRM does not tell; our own save must not become that moment."""
    add_session(tables, "session-1")
    account.create_lead(price=Decimal(5), status_id=41000003, fields={700001: "session-1"})
    account.pending.clear()
    goals = (Goal(on="status:41000003", goal="invoice"),)

    async def use(desk: Desk) -> int:
        await desk.read()
        account.clock.forward(timedelta(seconds=30))
        assert await desk.writer.write() == 1
        before = everything(tables)
        body = webhook_body(account.account, account.pending, account.crm.lead_fields)
        await desk.hear(body)
        assert everything(tables) == before
        return await desk.writer.write()

    assert at_desk(deployment, site_of(account=account, goals=goals), use, AMO_FIELDS) == 0


def everything(tables: Tables) -> list[object]:
    """Return all conversions, goals and entries of the journal."""
    queries = (
        "select jsonb_agg(to_jsonb(c)) from closedloop.conversion c",
        "select count(*) from closedloop.journal",
        "select analytics_data::text from public.user_analytics",
    )
    return [tables.one(query) for query in queries]


def test_deal_that_is_refused_stops_no_other(deployment: Deployment, portal: Bitrix24) -> None:
    """One right is missing: it is logged, and tried again after an hour and not every half minute."""
    first, second, third = won(portal), won(portal), won(portal)
    refusal = b'{"error": "ACCESS_DENIED", "error_description": "Access denied"}'
    portal.faults.answer(400, f'"id": {second}, ', times=None, body=refusal)

    async def use(desk: Desk) -> list[int]:
        await desk.read()
        return [await desk.writer.write(), await desk.writer.write()]

    assert at_desk(deployment, site_of(portal), use) == [2, 0]
    assert [of_deal(portal, deal)[2] for deal in (first, second, third)] == [NOBODY[2], None, NOBODY[2]]
    assert updates(portal) == 3


def test_field_that_does_not_exist_uses_up_no_calls(deployment: Deployment, account: AmoCrm) -> None:
    """Every lead is refused for it: a few tell as much as hundreds, and reading goes on beside it."""
    for _ in range(10):
        amo_won(account)

    async def use(desk: Desk) -> None:
        await desk.read()
        for _ in range(2):
            with pytest.raises(CrmRefusedError, match="not a valid choice"):
                await desk.writer.write()

    at_desk(deployment, site_of(account=account), use, WriteBack(source="799999"))

    refused = [call for call in account.calls if call.method == "PATCH"]
    assert len(refused) == 2 * MAX_IN_A_ROW
    assert len({call.path for call in refused}) == 2 * MAX_IN_A_ROW


def test_crm_that_is_away_keeps_what_was_written(deployment: Deployment, portal: Bitrix24) -> None:
    """The next round goes on with the rest."""
    for _ in range(3):
        won(portal)

    async def use(desk: Desk) -> int:
        await desk.read()
        portal.faults.order(lambda work: work(), "crm.item.update")
        portal.faults.drop("crm.item.update")
        with pytest.raises(CrmAwayError):
            await desk.writer.write()
        return await desk.writer.write()

    assert at_desk(deployment, site_of(portal), use) == 2
    assert updates(portal) == 4


def test_older_deals_have_their_turn(deployment: Deployment, portal: Bitrix24) -> None:
    """Switched on after a year, it comes to every deal, and the newest do not wait for that."""
    for _ in range(7):
        won(portal)

    async def use(desk: Desk) -> list[int]:
        await desk.read()
        return [await desk.writer.write() for _ in range(5)]

    assert at_desk(deployment, site_of(portal), use, page=2) == [4, 2, 1, 0, 0]
