"""What `closedloop doctor` asks the database; reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from closedloop.errors import DatabaseAwayError
from closedloop.store.database import translated

Row = TypeVar("Row")

API_ROLES = ("anon", "authenticated", "service_role")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server behind the connection; sizes in bytes."""

    version: int  # 180004
    read_only: bool
    at: datetime
    database_size: int
    connections: int
    max_connections: int
    backend_pid: int


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What our role may do; None for what is not there: the table, or our schema."""

    role: str
    select_sessions: bool | None
    update_sessions: bool | None
    use_schema: bool | None
    read_schema: bool  # every table of ours
    rows_hidden: bool | None


_SERVER = """
    select current_setting('server_version_num')::integer as version,
           pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as read_only,
           clock_timestamp() as at,
           pg_database_size(current_database()) as database_size,
           (select coalesce(sum(numbackends), 0)::integer from pg_stat_database) as connections,
           current_setting('max_connections')::integer as max_connections,
           pg_backend_pid() as backend_pid
"""

# Rows are hidden unless a policy gives all of them to our role, to be read and to be changed.
_RIGHTS = """
    select current_user::text as role,
           has_table_privilege(sessions.oid, 'select') as select_sessions,
           has_table_privilege(sessions.oid, 'update') as update_sessions,
           has_schema_privilege(to_regnamespace('closedloop')::oid, 'usage') as use_schema,
           not exists (select
                         from pg_class c
                        where c.relnamespace = to_regnamespace('closedloop') and c.relkind in ('r', 'p')
                          and not has_table_privilege(c.oid, 'select')) as read_schema,
           row_security_active(sessions.oid) and exists (
           select
             from unnest(array['SELECT', 'UPDATE']) as need (cmd)
            where not exists (
                  select
                    from pg_policies policy
                   where policy.schemaname = 'public' and policy.tablename = 'user_analytics'
                     and policy.permissive = 'PERMISSIVE' and policy.cmd in ('ALL', need.cmd)
                     and policy.qual = 'true'
                     and exists (select
                                   from unnest(policy.roles) as given (name)
                                   left join pg_roles role on role.rolname = given.name
                                  where given.name = 'public' or pg_has_role(role.oid, 'usage')))
           ) as rows_hidden
      from (select to_regclass('public.user_analytics')::oid as oid) sessions
"""

# What a role of the REST API has in our schema; PostgreSQL's default gives nothing.
_API_RIGHTS = """
    select role.rolname || ': ' || what.name
      from pg_roles role
     cross join lateral (
           select 'schema closedloop' as name
            where has_schema_privilege(role.oid, 'closedloop', 'usage')
            union all
           select 'closedloop.' || c.relname
             from pg_class c
            where c.relnamespace = to_regnamespace('closedloop') and c.relkind in ('r', 'p')
              and (has_table_privilege(role.oid, c.oid, 'select, insert, update, delete, truncate')
                   or has_any_column_privilege(role.oid, c.oid, 'select, insert, update'))
           ) what
     where role.rolname = any(%(roles)s)
     order by 1
"""

# Whether whoever has the page's key may read or overwrite every session: granted, and nothing in the way.
_OPEN_SESSIONS = """
    select role.rolname || ' may ' || lower(privilege.name)
      from pg_roles role
     cross join unnest(array['SELECT', 'UPDATE', 'DELETE']) as privilege (name)
      join pg_class c
        on c.oid = to_regclass('public.user_analytics')
     where role.rolname in ('anon', 'authenticated')
       and case privilege.name when 'DELETE' then has_table_privilege(role.oid, c.oid, 'delete')
                else has_any_column_privilege(role.oid, c.oid, privilege.name) end
       and (not c.relrowsecurity
            or exists (select
                         from pg_policies policy
                        where policy.schemaname = 'public' and policy.tablename = 'user_analytics'
                          and policy.cmd in ('ALL', privilege.name)
                          and (role.rolname = any(policy.roles) or 'public' = any(policy.roles))
                          and policy.qual = 'true'))
     order by 1
"""


def read_server(conn: Connection[Any]) -> Server:
    """Return what the server says of itself. Raises DatabaseAwayError."""
    return _one(conn, Server, _SERVER)


def read_rights(conn: Connection[Any]) -> Rights:
    """Return what our role may do. Raises DatabaseAwayError."""
    return _one(conn, Rights, _RIGHTS)


def read_api_rights(conn: Connection[Any]) -> Sequence[str]:
    """Return each right of a role of the REST API in our schema: `anon: closedloop.webhook`."""
    return _names(conn, _API_RIGHTS, {"roles": list(API_ROLES)})


def read_open_sessions(conn: Connection[Any]) -> Sequence[str]:
    """Return what anybody who reads the page's key may do with all sessions: `anon may update`."""
    return _names(conn, _OPEN_SESSIONS, {})


def _one(conn: Connection[Any], kind: type[Row], statement: str) -> Row:
    with translated(), conn.cursor(row_factory=class_row(kind)) as cursor:
        row = cursor.execute(statement.encode()).fetchone()
    if row is None:
        raise DatabaseAwayError("the database answered nothing")
    return row


def _names(conn: Connection[Any], statement: str, values: dict[str, object]) -> Sequence[str]:
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        return [str(name) for name in cursor.execute(statement.encode(), values).fetchall()]
