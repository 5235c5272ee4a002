"""Erasure of one visitor: identifiers, pages and contacts go, the money totals stay (152-FZ, GDPR)."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import Connection
from psycopg.rows import scalar_row

from closedloop.store.database import translated
from closedloop.store.sessions import SessionTable, fill

# Everything that is known of the person is found from what was given, by the visitor's id a step further.
_ROWS = """
    with told as (
        select u.id, u.analytics_data -> 'ids' ->> 'user_id' as user_id
          from public.user_analytics u
         where $site_is
           and (u.session_id::text = %(session_id)s
                or u.analytics_data -> 'ids' ->> 'user_id' = %(visitor)s
                or $ym_uid = %(ym_uid)s
                or u.id::text in (select session_row
                                    from closedloop.identity
                                   where site = %(site)s and kind in ('phone', 'email')
                                     and value = any(%(hashes)s)))
    )
    select id::text
      from told
    union
    select u.id::text
      from public.user_analytics u
     where $site_is
       and u.analytics_data -> 'ids' ->> 'user_id' in (select user_id from told where user_id is not null)
"""

# Leads and conversions carry the same columns of identity.
_TOLD = """
    select $key
      from closedloop.$relation
     where site = %(site)s
       and (session_row = any(%(rows)s) or session_id = %(session_id)s or ym_uid = %(ym_uid)s
            or exists (select
                         from jsonb_array_elements(identifiers) as pair
                        where pair ->> 'kind' in ('phone', 'email') and pair ->> 'value' = any(%(hashes)s)))
"""

# Of a session only its id, its moment and its goals are left: the money in them was earned.
_FORGET_SESSIONS = """
    update public.user_analytics u
       set analytics_data = (jsonb_strip_nulls(jsonb_build_object(
               'ids', jsonb_build_object('session_id', u.session_id),
               'visit', '{"version": 1, "consent": "erased"}'::jsonb,
               'target_actions', u.analytics_data::jsonb -> 'target_actions')))::$data_type
     where $site_is and u.id = any(%(rows)s::$id_type[])
"""

_FORGET = [
    """
    update closedloop.webhook
       set body = '', query = ''
     where site = %(site)s
       and webhook_id in (select webhook_id from closedloop.lead
                           where site = %(site)s and lead_id = any(%(leads)s)
                          union all
                          select webhook_id from closedloop.journal
                           where site = %(site)s and conversion_id = any(%(conversions)s))
    """,
    """
    delete from closedloop.waiting
     where site = %(site)s and (waiter_id = any(%(leads)s) or waiter_id = any(%(conversions)s))
    """,
    """
    delete from closedloop.lead
     where site = %(site)s and lead_id = any(%(leads)s)
    """,
    """
    with forgotten as (
        update closedloop.deal
           set sealed = '', findings = '[]'
         where site = %(site)s
           and (deal_id in (select deal_id from closedloop.conversion
                             where site = %(site)s and conversion_id = any(%(conversions)s))
                or exists (select
                             from jsonb_array_elements(findings) as finding
                            where finding ->> 'hash' = any(%(hashes)s)))
        returning crm, deal_id
    )
    update closedloop.deal_task task
       set hints = null
      from forgotten
     where task.site = %(site)s and task.crm = forgotten.crm and task.deal_id = forgotten.deal_id
    """,
    """
    update closedloop.conversion
       set session_id = null, ym_uid = null, ym_uid_low = null, ym_uid_high = null, yclid = null,
           identifiers = null
     where site = %(site)s and conversion_id = any(%(conversions)s)
    """,
    """
    delete from closedloop.identity
     where site = %(site)s and (session_row = any(%(rows)s) or value = any(%(hashes)s))
    """,
    """
    insert into closedloop.journal (site, conversion_id, at, kind, webhook_id, detail)
    select %(site)s, conversion_id, %(now)s, 'erased', null, '{}'
      from unnest(%(conversions)s::uuid[]) as conversion_id
    """,
]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be forgotten, by any of these; `hashes` are of the phone and the e-mail."""

    session_id: str | None = None
    visitor: str | None = None
    ym_uid: str | None = None
    hashes: Sequence[str] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a person."""

    rows: list[str]
    leads: list[Any]
    conversions: list[Any]


def find_person(conn: Connection[Any], table: SessionTable, site: str, person: Person) -> Found:
    """Return what is known of a person; reads only."""
    parameters = {"site": site, **msgspec.structs.asdict(person), "hashes": list(person.hashes)}
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        rows = cursor.execute(fill(_ROWS, table), parameters).fetchall()
        parameters["rows"] = rows
        leads = cursor.execute(fill(_TOLD, table, key="lead_id", relation="lead"), parameters).fetchall()
        told = fill(_TOLD, table, key="conversion_id", relation="conversion")
        conversions = cursor.execute(told, parameters).fetchall()
    return Found(rows=rows, leads=leads, conversions=conversions)


def erase(
    conn: Connection[Any], table: SessionTable, site: str, person: Person, found: Found, now: object
) -> None:
    """Forget a person in one transaction: goals and sums stay, nothing leads back to anybody."""
    parameters = {
        "site": site,
        "now": now,
        "hashes": list(person.hashes),
        **msgspec.structs.asdict(found),
    }
    with translated(), conn.transaction():
        conn.execute(fill(_FORGET_SESSIONS, table, data_type=table.data_type), parameters)
        for statement in _FORGET:
            conn.execute(statement.encode(), parameters)
