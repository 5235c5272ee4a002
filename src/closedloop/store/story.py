"""Everything that is known of the conversions of one deal, for the page that explains them; reads only."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection
from psycopg.rows import class_row

_CONVERSIONS = """
    select conversion_id, goal, deal_id, value, currency, occurred_at, cancelled_at, state, session_row, rule
      from closedloop.conversion
     where site = %(site)s and (deal_id = %(name)s or conversion_id::text = %(name)s)
     order by conversion_id
"""

_ENTRIES = """
    select j.at, j.kind, j.detail, w.source
      from closedloop.journal j
      left join closedloop.webhook w
        on w.site = j.site and w.webhook_id = j.webhook_id
     where j.site = %(site)s and j.conversion_id = %(conversion_id)s
     order by j.entry
"""

_DELIVERIES = """
    select destination, state, outcome, reason, due_at, deadline, attempt, changed_at
      from closedloop.delivery
     where site = %(site)s and conversion_id = %(conversion_id)s
     order by destination
"""

_LIST = """
    select d.destination, d.state, d.outcome, d.reason, d.due_at, d.deadline, d.attempt, d.changed_at,
           c.deal_id, c.goal, c.value, c.currency
      from closedloop.delivery d
      join closedloop.conversion c
        on c.site = d.site and c.conversion_id = d.conversion_id
     where d.site = %(site)s and (%(destination)s::text is null or d.destination = %(destination)s)
       and (%(state)s::text is null or d.state = %(state)s or d.outcome = %(state)s)
     order by d.changed_at desc
     limit %(limit)s
"""


class ToldConversion(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion as it stands."""

    conversion_id: UUID
    goal: str
    deal_id: str | None
    value: Decimal
    currency: str
    occurred_at: datetime
    cancelled_at: datetime | None
    state: str
    session_row: str | None
    rule: str | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of its journal, and which sender's webhook made it."""

    at: datetime
    kind: str
    detail: Any
    source: str | None


class ToldDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one destination."""

    destination: str
    state: str
    outcome: str | None
    reason: str | None
    due_at: datetime
    deadline: datetime | None
    attempt: int
    changed_at: datetime


class ListedDelivery(ToldDelivery, frozen=True, kw_only=True):
    """The same in a list."""

    deal_id: str | None
    goal: str
    value: Decimal
    currency: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion with all that happened to it."""

    conversion: ToldConversion
    entries: list[Entry]
    deliveries: list[ToldDelivery]


def find_stories(conn: Connection[Any], site: str, name: str) -> list[Story]:
    """Return the stories of a deal's conversions, or of the one conversion that has this id."""
    with conn.cursor(row_factory=class_row(ToldConversion)) as cursor:
        found = cursor.execute(_CONVERSIONS, {"site": site, "name": name}).fetchall()
    stories: list[Story] = []
    for one in found:
        parameters = {"site": site, "conversion_id": one.conversion_id}
        with conn.cursor(row_factory=class_row(Entry)) as entries:
            told = entries.execute(_ENTRIES, parameters).fetchall()
        with conn.cursor(row_factory=class_row(ToldDelivery)) as deliveries:
            sent = deliveries.execute(_DELIVERIES, parameters).fetchall()
        stories.append(Story(conversion=one, entries=told, deliveries=sent))
    return stories


def list_deliveries(
    conn: Connection[Any], site: str, destination: str | None, state: str | None, limit: int
) -> list[ListedDelivery]:
    """Return deliveries, changed last first; of one destination, in one state or with one outcome."""
    parameters = {"site": site, "destination": destination, "state": state, "limit": limit}
    with conn.cursor(row_factory=class_row(ListedDelivery)) as cursor:
        return cursor.execute(_LIST, parameters).fetchall()
