"""A manager sees in the deal where it came from, once, and our own writing starts nothing."""

from typing import Any

import pytest

from closedloop.settings import WriteBack
from closedloop.stages.process import Process
from closedloop.stages.sweep import Sweeper
from closedloop.stages.writeback import BackWriter
from fix_deployment import Deployment, in_process, site_of, won
from fix_flow import Tables
from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import DEAL

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

SOURCE, CAMPAIGN, MATCH = "UF_CRM_11", "UF_CRM_12", "UF_CRM_13"
FIELDS = WriteBack(source=SOURCE, campaign=CAMPAIGN, match=MATCH)


@pytest.fixture
def portal(bitrix24: Bitrix24, deployment: Deployment) -> Bitrix24:  # noqa: ARG001 - it makes the limits wide
    """Give the portal with the three fields."""
    for name in (SOURCE, CAMPAIGN, MATCH):
        bitrix24.crm.add_user_field(DEAL, name, name)
    return bitrix24


def written(portal: Bitrix24, deal: int) -> tuple[Any, ...]:
    """Return what stands in the fields of a deal."""
    return tuple(portal.deal(deal).fields.get(name) for name in (SOURCE, CAMPAIGN, MATCH))


async def round_of(process: Process) -> int:
    """Sweep, and write what has changed; return into how many deals."""
    crm = process.crms.of["default"]["bitrix24"]
    assert crm.client is not None
    await Sweeper(crm.book, crm.client, crm.every).sweep()
    return await BackWriter(crm.book, crm.client, FIELDS).write()


def test_origin_is_written_once_and_again_only_when_it_changed(
    deployment: Deployment, portal: Bitrix24, tables: Tables
) -> None:
    """The session comes after the deal; our own change comes back, and is nothing."""
    deal = won(portal, session="s-late")
    rounds: list[int] = []
    seen: list[tuple[Any, ...]] = []

    async def live(process: Process) -> None:
        rounds.append(await round_of(process))
        seen.append(written(portal, deal))
        rounds.append(await round_of(process))
        marks = {"utm_source": "yandex", "utm_medium": "cpc", "utm_campaign": "autumn"}
        document = {"visit": {"first_touch": {"url": "https://shop.example", "marks": marks}}}
        tables.conn.execute(
            "insert into public.user_analytics (session_id, analytics_data) values ('s-late', %s)",
            [process_json(document)],
        )
        await process.matcher.look_at_all()
        rounds.append(await round_of(process))
        seen.append(written(portal, deal))
        entries = tables.one("select count(*) from closedloop.journal")
        rounds.append(await round_of(process))
        assert tables.one("select count(*) from closedloop.journal") == entries

    in_process(deployment, site_of(portal), live)

    assert rounds == [1, 0, 1, 0]
    assert seen == [
        ("", "", "no session found"),
        ("yandex / cpc", "autumn", "found by the session of the form"),
    ]


def process_json(document: object) -> str:
    """Return a document as the table takes it."""
    import json  # noqa: PLC0415

    return json.dumps(document)


def test_deal_that_refuses_is_no_others_trouble(deployment: Deployment, portal: Bitrix24) -> None:
    """One field that is gone, one right that is missing."""
    first, second = won(portal), won(portal)

    async def live(process: Process) -> int:
        crm = process.crms.of["default"]["bitrix24"]
        assert crm.client is not None
        await Sweeper(crm.book, crm.client, crm.every).sweep()
        portal.faults.answer(
            400, f'"id": {second}', times=None, body=b'{"error":"ACCESS_DENIED","error_description":"no"}'
        )
        return await BackWriter(crm.book, crm.client, FIELDS).write()

    assert in_process(deployment, site_of(portal), live) == 1
    assert (written(portal, first)[2], written(portal, second)[2]) == ("no session found", None)
