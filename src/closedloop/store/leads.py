"""Leads: forms that were sent, tied to their sessions, so that a deal is found by a phone or an e-mail."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from closedloop.domain.lead import Lead
from closedloop.store.sessions import SessionTable, fill

_encode = msgspec.json.Encoder(decimal_format="string").encode

# A lead that is told again adds what was not known: an order may be paid later. What it waits for are ids of
# a session only: two people may share a phone, and their sessions will come in any case.
_ADD = """
    with i as materialized (
        -- A rounded ClientID comes from CRMs, never from a form: the interval is empty.
        select *, null::text as ym_uid_low, null::text as ym_uid_high
          from json_to_recordset(%(leads)s::json) as lead (
               lead_id uuid, source text, dedup_key text, transaction_id text, form_id text, form_name text,
               session_id text, ym_uid text, yclid text, identifiers jsonb,
               contacts text, order_id text, order_amount numeric, order_paid boolean,
               received_at timestamptz, webhook_id uuid)
    ), found as materialized (
        select i.*, session.session_row, session.rule
          from i
          left join lateral ($find_session) session on true
    ), added as (
        insert into closedloop.lead (
               site, lead_id, source, dedup_key, transaction_id, form_id, form_name, session_id, ym_uid,
               yclid, identifiers, contacts, order_id, order_amount, order_paid, received_at, webhook_id,
               session_row, rule)
        select %(site)s, lead_id, source, decode(dedup_key, 'hex'), transaction_id, form_id, form_name,
               session_id, ym_uid, yclid, identifiers, decode(contacts, 'base64'), order_id, order_amount,
               order_paid, received_at, webhook_id, session_row, rule
          from found
         order by dedup_key
        on conflict (site, dedup_key) do update
           set order_paid = lead.order_paid or excluded.order_paid,
               order_amount = coalesce(excluded.order_amount, lead.order_amount)
        returning lead_id, session_row
    ), told as materialized (
        select found.*
          from found
          join added using (lead_id)
    ), known as (
        insert into closedloop.identity (site, kind, value, session_row, seen_at)
        select distinct %(site)s, pair ->> 'kind', pair ->> 'value', session_row, received_at
          from told, jsonb_array_elements(identifiers) as pair
         where session_row is not null
        on conflict do nothing
    ), waits as (
        insert into closedloop.waiting (site, kind, value, waiter_id)
        select %(site)s, identifier.kind, identifier.value, lead_id
          from told, lateral ($identifiers) identifier
         where session_row is null and identifier.kind not in ('phone', 'email')
        on conflict do nothing
    )
    select lead_id, session_row
      from told
"""

_FOUND = """
    select i.lead_id, session.session_row, session.rule
      from (select *, null::text as ym_uid_low, null::text as ym_uid_high
              from closedloop.lead) i
     cross join lateral ($find_session) session
     where i.site = %(site)s and i.session_row is null and i.lead_id = any(%(candidates)s)
     order by i.lead_id
"""

_TIE = """
    with tied as (
        update closedloop.lead
           set session_row = %(session_row)s, rule = %(rule)s
         where site = %(site)s and lead_id = %(lead_id)s and session_row is null
        returning lead_id, identifiers
    ), served as (
        delete from closedloop.waiting
         where site = %(site)s and waiter_id in (select lead_id from tied)
    ), known as (
        insert into closedloop.identity (site, kind, value, session_row, seen_at)
        select distinct %(site)s, pair ->> 'kind', pair ->> 'value', %(session_row)s, %(now)s::timestamptz
          from tied, jsonb_array_elements(identifiers) as pair
        on conflict do nothing
    )
    select lead_id
      from tied
"""


class FoundLead(msgspec.Struct, frozen=True, kw_only=True):
    """A lead and the session that now answers it."""

    lead_id: UUID
    session_row: str
    rule: str


class Leads:
    """The statements over `closedloop.lead`, written for one shape of public.user_analytics."""

    def __init__(self, table: SessionTable) -> None:
        self.add_statement = fill(_ADD, table)
        self.found = fill(_FOUND, table)

    async def record(self, conn: AsyncConnection[Any], site: str, leads: Sequence[Lead]) -> None:
        """Record leads of one site, each once by its key, tied to their sessions where these are known."""
        if not leads:
            return
        once = {lead.dedup_key: lead for lead in leads}
        told = _encode([told_row(lead) for lead in once.values()]).decode()
        await conn.execute(self.add_statement, {"site": site, "leads": told})

    async def find_sessions(
        self, conn: AsyncConnection[Any], site: str, candidates: Sequence[UUID]
    ) -> Sequence[FoundLead]:
        """Return the session of each lead among the candidates that has one now."""
        async with conn.cursor(row_factory=class_row(FoundLead)) as cursor:
            await cursor.execute(self.found, {"site": site, "candidates": list(candidates)})
            return await cursor.fetchall()


def told_row(lead: Lead) -> dict[str, object]:
    """Return the row of the statement for one lead."""
    return {
        **msgspec.structs.asdict(lead),
        "dedup_key": lead.dedup_key.hex(),
        "contacts": base64.b64encode(lead.contacts).decode(),
        "identifiers": lead.identifiers or None,
    }


async def tie_lead(conn: AsyncConnection[Any], site: str, found: FoundLead, now: datetime) -> bool:
    """Tie a lead to its session, and its contacts with it; False when somebody was first."""
    parameters = {"site": site, "now": now, **msgspec.structs.asdict(found)}
    cursor = await conn.execute(_TIE, parameters)
    return await cursor.fetchone() is not None
