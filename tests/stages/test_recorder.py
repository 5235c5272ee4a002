"""A webhook with a lead and one with conversions go into the same commit, each kept once."""

import asyncio
from typing import Any

import psycopg
import pytest

from closedloop.domain.lead import Lead, lead_key
from closedloop.stages import clock
from closedloop.stages.recorder import ConversionRecorder
from closedloop.stages.unit import Unit
from closedloop.store.database import connect, plain_conninfo
from closedloop.store.inbox import KeptWebhook
from closedloop.store.sessions import read_session_table
from closedloop.store.statements import Shape

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]


def unit(transaction_id: str | None) -> Unit:
    """Return a webhook, with a lead when it has a number."""
    webhook_id = clock.new_id()
    webhook = KeptWebhook(
        webhook_id=webhook_id,
        source="tilda",
        received_at=clock.now(),
        method="POST",
        query=b"",
        content_type="",
        user_agent="",
        body=b"sealed",
    )
    fields: dict[str, Any] = dict.fromkeys(
        ["form_id", "form_name", "session_id", "ym_uid", "yclid", "order_id", "order_amount", "order_paid"]
    )
    lead = Lead(
        lead_id=clock.new_id(),
        source="tilda",
        dedup_key=lead_key("tilda", transaction_id, b""),
        transaction_id=transaction_id,
        identifiers=(),
        contacts=b"sealed",
        received_at=clock.now(),
        webhook_id=webhook_id,
        **fields,
    )
    return Unit(site="default", webhook=webhook, lead=None if transaction_id is None else lead)


def record(url: str, *units: Unit) -> list[Any]:
    """Record units of one site together and return the answers."""

    async def run() -> list[Any]:
        conn = await connect(plain_conninfo(url))
        shape = Shape({})
        shape.learn(await read_session_table(conn))
        answers = await ConversionRecorder(shape).record(conn, "default", units)
        await conn.close()
        return list(answers)

    return asyncio.run(run())


def test_leads_and_webhooks_are_kept_together(database: str) -> None:
    """What was acknowledged has to be in both tables."""
    answers = record(database, unit("7:1"), unit("7:2"), unit(None))

    assert answers == [[], [], []]
    with psycopg.connect(database) as conn:
        leads = conn.execute("select count(*) from closedloop.lead").fetchone()
        webhooks = conn.execute("select count(*) from closedloop.webhook").fetchone()
    assert (leads, webhooks) == ((2,), (3,))


def test_unit_weighs_at_least_one_row() -> None:
    """A queue full of empty webhooks must not become one endless batch."""
    assert ConversionRecorder(Shape({})).weight(unit("7:1")) == 1
