"""What the benchmark puts into its database: sessions by the million, and conversions that wait."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.sql import SQL

CHUNK = 50_000

# pgbench with 128 clients needs more connections than the 100 that PostgreSQL allows by default.
MAX_CONNECTIONS = 200

# Ids are scattered, so that neighbours in time are no neighbours in the index; conversion.lua does the same.
# Factor times the largest number stays below 2^53, which is what Lua counts exactly.
_SESSIONS = """
    insert into public.user_analytics (site, session_id, "timestamp", analytics_data)
    select 'default', session_id, %(now)s::timestamptz - number * interval '1 second',
           jsonb_build_object(
               'ids', jsonb_strip_nulls(jsonb_build_object(
                   'session_id', session_id,
                   'ym_uid', (1600000000 + number)::text || lpad((scattered %% 1000000000)::text, 9, '0'),
                   'yclid', case when number %% 3 = 0 then (10000000000000 + scattered)::text end)),
               'utm', jsonb_build_object(
                   'utm_source', 'yandex', 'utm_medium', 'cpc', 'utm_campaign', number %% 50),
               'page', jsonb_build_object('url', 'https://shop.example/catalogue/' || number %% 900),
               'target_actions', jsonb_build_object(
                   'conversion_flag', false, 'yandex_goals_triggered', jsonb_build_array()))
      from (select number, scattered, lpad(to_hex(scattered), 8, '0') || '-' || number as session_id
              from (select number, (number * 618033989) %% 4294967296 as scattered
                      from generate_series(%(first)s::bigint, %(last)s::bigint) as number) as numbered
           ) as named
"""

# As in life, an unmatched conversion waits for its session and for any session of its visitor.
_WAITING = """
    with added as (
        insert into closedloop.conversion (
               site, conversion_id, dedup_key, dedup_rule, goal, deal_id, session_id, ym_uid, value, currency,
               occurred_at, received_at, told_at, state)
        select 'default', uuidv7(), uuid_send(md5('waits' || number)::uuid), 'deal', 'payment_success',
               'waits-' || number, 'waits-' || number, '99' || lpad(number::text, 17, '0'), 100, 'RUB',
               %(now)s, %(now)s, %(now)s, 'unmatched'
          from generate_series(1, %(count)s::bigint) as number
        returning conversion_id, session_id, ym_uid
    )
    insert into closedloop.waiting (site, kind, value, waiter_id)
    select 'default', kind, value, conversion_id
      from added, lateral (values ('session_id', session_id), ('ym_uid', ym_uid)) as identifier (kind, value)
"""

_REMOVE = """
    with removed as (
        delete from closedloop.conversion
         where site = 'default' and deal_id like 'waits-%%'
        returning conversion_id
    )
    delete from closedloop.waiting
     where site = 'default' and waiter_id in (select conversion_id from removed)
"""

_LATE = """
    insert into public.user_analytics (site, session_id, "timestamp", analytics_data)
    values ('default', %(session_id)s, %(now)s, '{}')
"""

_IS_MATCHED = """
    select state = 'matched'
      from closedloop.conversion
     where site = 'default' and deal_id = %(deal_id)s and session_id = %(deal_id)s
"""

_ROWS = """
    create table if not exists public.bench_row (
        id bigint generated always as identity primary key,
        number bigint not null
    )
"""

_TRICKLE = """
    insert into public.bench_row (number) values (1)
"""

_RECORDED = """
    select count(*)
      from closedloop.conversion
     where site = 'default' and deal_id like %(run)s || '-%%'
"""

_BODY = """
    select octet_length(body)
      from closedloop.webhook
     where site = 'default'
     limit 1
"""

_FACTS = """
    select current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')
"""


def scalar(conn: Connection[Any], statement: LiteralString, **values: object) -> Any:  # noqa: ANN401 - whatever the column is
    """Return the only column of the first row, None when there is no row."""
    row = conn.execute(statement, values).fetchone()
    return None if row is None else row[0]


def set_up(conn: Connection[Any]) -> None:
    """Make what the benchmark needs of its own; counts from the next start of PostgreSQL."""
    conn.execute(SQL("alter system set max_connections = {}").format(MAX_CONNECTIONS))
    conn.execute(_ROWS)


def add_sessions(
    conn: Connection[Any], numbers: range, now: datetime, advance: Callable[[int], object]
) -> None:
    """Insert sessions with these numbers, calling `advance` with the size of each piece, and settle down."""
    conn.execute("set synchronous_commit = off")
    for first in range(numbers.start, numbers.stop, CHUNK):
        last = min(first + CHUNK, numbers.stop) - 1
        conn.execute(_SESSIONS, {"first": first, "last": last, "now": now})
        advance(last - first + 1)
    conn.execute("reset synchronous_commit")
    settle(conn)


def add_waiting(conn: Connection[Any], count: int, now: datetime) -> None:
    """Insert conversions that no session answers: `waits-1` to `waits-<count>`."""
    conn.execute(_WAITING, {"count": count, "now": now})
    settle(conn)


def remove_waiting(conn: Connection[Any]) -> None:
    """Take out of the ledger what `add_waiting` put in, so that later measurements do without."""
    conn.execute(_REMOVE, {})
    settle(conn)


def settle(conn: Connection[Any]) -> None:
    """Do now what PostgreSQL would else do in the background of a measurement."""
    conn.execute("vacuum (analyze)")
    conn.execute("checkpoint")


def insert_late(conn: Connection[Any], number: int, now: datetime) -> None:
    """Insert the session that one of the waiting conversions waits for."""
    conn.execute(_LATE, {"session_id": f"waits-{number}", "now": now})


def is_matched(conn: Connection[Any], number: int) -> bool:
    """Return whether that conversion has found it."""
    return bool(scalar(conn, _IS_MATCHED, deal_id=f"waits-{number}"))


def trickle(conn: Connection[Any]) -> None:
    """Write one row that is nobody's business, as a neighbour in the same database would."""
    conn.execute(_TRICKLE)


def count_recorded(conn: Connection[Any], run: str) -> int:
    """Return how many conversions of one run of wrk are in the ledger."""
    return int(scalar(conn, _RECORDED, run=run))


def body_size(conn: Connection[Any]) -> int:
    """Return the size of a webhook's sealed body in the inbox."""
    return int(scalar(conn, _BODY) or 0)


def database_facts(conn: Connection[Any]) -> tuple[str, str, str]:
    """Return the version, `fsync` and `synchronous_commit`."""
    row = conn.execute(_FACTS).fetchone()
    return ("", "", "") if row is None else (str(row[0]), str(row[1]), str(row[2]))
