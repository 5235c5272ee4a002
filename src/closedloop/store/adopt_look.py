"""What stands in public.user_analytics before it is adopted: read, never changed, never waited for long."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from closedloop.store.database import translated
from closedloop.store.sessions import SessionTable, fill

# Tables below these sizes are counted exactly; above them PostgreSQL's own estimates and a sample must do.
EXACT_BYTES = 64 * 1024 * 1024
EXACT_ROWS = 200_000
SAMPLE_ROWS = 10_000
# Nothing of the look may take longer than this in one statement: somebody's site writes into this table.
LOOK_MS = 15_000

Row = TypeVar("Row")


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column as PostgreSQL prints it: `type` such as `timestamp with time zone`, `default` as SQL."""

    name: str
    type: str
    not_null: bool
    default: str | None
    generated: bool


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """One index; `definition` is what stands behind USING: `btree (session_id)`."""

    name: str
    valid: bool
    unique: bool
    partial: bool
    keys: int  # columns that order it
    first_key: str
    definition: str
    size: int  # bytes


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The table itself and what our role may do with it. Sizes in bytes."""

    oid: int
    kind: str  # r table, v view, p partitioned, f foreign, m materialised view
    has_children: bool
    owner: str
    role: str
    owned: bool
    may_index: bool
    may_read: bool
    may_update: bool
    row_security: bool
    rows_hidden: bool
    table_size: int
    index_size: int
    database_size: int
    row_estimate: int
    read_only: bool
    statement_timeout_ms: int


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What a sample of the rows holds: numbers of rows."""

    rows: int
    without_document: int
    odd_document: int  # something else stands where goals belong; no goal is ever written there
    without_session_id: int
    without_timestamp: int
    without_id: int
    with_ym_uid: int
    with_yclid: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found; `rows` is exact when `counted`. None for what could not be read."""

    table: Table
    columns: Sequence[Column]
    indexes: Sequence[Index]
    views: Sequence[str]
    triggers: Sequence[str]
    policies: Sequence[str]
    publications: Sequence[str]
    grants: Sequence[str]  # ["anon: insert, select"]
    rows: int
    counted: bool
    repeated_sessions: int | None  # rows whose session_id another row has, too
    quality: Quality | None
    recorded: SessionTable | None
    direct: bool

    def column(self, name: str) -> Column | None:
        """Return a column by its name."""
        return next((column for column in self.columns if column.name == name), None)

    def index(self, name: str) -> Index | None:
        """Return an index by its name."""
        return next((index for index in self.indexes if index.name == name), None)


_TABLE = """
    select c.oid::bigint as oid, c.relkind::text as kind,
           exists (select from pg_inherits where c.oid in (inhrelid, inhparent)) as has_children,
           pg_get_userbyid(c.relowner) as owner, current_user::text as role,
           pg_has_role(c.relowner, 'usage') as owned,
           has_schema_privilege(c.relnamespace, 'create') as may_index,
           has_table_privilege(c.oid, 'select') as may_read,
           has_table_privilege(c.oid, 'update') as may_update,
           c.relrowsecurity as row_security, row_security_active(c.oid) as rows_hidden,
           coalesce(pg_table_size(c.oid), 0) as table_size,
           coalesce(pg_indexes_size(c.oid), 0) as index_size,
           pg_database_size(current_database()) as database_size,
           greatest(c.reltuples, 0)::bigint as row_estimate,
           pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean as read_only,
           (select reset_val::bigint from pg_settings where name = 'statement_timeout')
               as statement_timeout_ms
      from pg_class c
     where c.oid = to_regclass('public.user_analytics')
"""

_COLUMNS = """
    select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
           pg_get_expr(d.adbin, d.adrelid) as default, a.attgenerated <> '' as generated
      from pg_attribute a
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = to_regclass('public.user_analytics') and a.attnum > 0 and not a.attisdropped
     order by a.attnum
"""

_INDEXES = """
    select c.relname::text as name, i.indisvalid and i.indisready as valid, i.indisunique as unique,
           i.indpred is not null as partial, i.indnkeyatts::integer as keys,
           pg_get_indexdef(i.indexrelid, 1, false) as first_key,
           split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2) as definition,
           pg_relation_size(i.indexrelid) as size
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
     where i.indrelid = to_regclass('public.user_analytics')
     order by c.relname
"""

_VIEWS = """
    select distinct r.ev_class::regclass::text
      from pg_depend d
      join pg_rewrite r on r.oid = d.objid
     where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
       and d.refobjid = to_regclass('public.user_analytics') and r.ev_class <> d.refobjid
     order by 1
"""

_TRIGGERS = """
    select tgname::text
      from pg_trigger
     where tgrelid = to_regclass('public.user_analytics') and not tgisinternal
     order by tgname
"""

_POLICIES = """
    select format('%s (%s, for %s)', policyname, lower(cmd), array_to_string(roles, ', '))
      from pg_policies
     where schemaname = 'public' and tablename = 'user_analytics'
     order by policyname
"""

_PUBLICATIONS = """
    select pubname::text
      from pg_publication_tables
     where schemaname = 'public' and tablename = 'user_analytics'
     order by pubname
"""

_GRANTS = """
    select format('%s: %s', role, string_agg(lower(given), ', ' order by given))
      from (select case acl.grantee when 0 then 'public' else pg_get_userbyid(acl.grantee)::text end as role,
                   acl.privilege_type as given
              from pg_class c
             cross join lateral aclexplode(c.relacl) acl
             where c.oid = to_regclass('public.user_analytics')
             union all
            select case acl.grantee when 0 then 'public' else pg_get_userbyid(acl.grantee)::text end,
                   format('%s (%s)', acl.privilege_type, a.attname)
              from pg_attribute a
             cross join lateral aclexplode(a.attacl) acl
             where a.attrelid = to_regclass('public.user_analytics') and not a.attisdropped) granted
     where role in ('public', 'anon', 'authenticated', 'service_role')
     group by role
     order by role
"""

_HAS_RECORD = """
    select to_regclass('closedloop.session_table') is not null
"""

_RECORDED = """
    select id_type, session_id_type, data_type, has_site, has_generated
      from closedloop.session_table
"""


def look(conn: Connection[Any]) -> Found | None:
    """Return what stands there, or None when there is no user_analytics; changes and locks nothing.

    Runs in one read-only transaction of its own. What takes too long is left out. Raises DatabaseAwayError.
    """
    with translated(), conn.transaction():
        conn.execute("set transaction read only")
        conn.execute(f"set local statement_timeout = {LOOK_MS}".encode())
        table = one(conn, Table, _TABLE)
        if table is None:
            return None
        recorded = one(conn, SessionTable, _RECORDED) if value(conn, _HAS_RECORD) else None
        rows, counted = count_rows(conn, table)
        found = Found(
            table=table,
            columns=many(conn, Column, _COLUMNS),
            indexes=many(conn, Index, _INDEXES),
            views=names(conn, _VIEWS),
            triggers=names(conn, _TRIGGERS),
            policies=names(conn, _POLICIES),
            publications=names(conn, _PUBLICATIONS),
            grants=names(conn, _GRANTS),
            rows=rows,
            counted=counted,
            repeated_sessions=None,
            quality=None,
            recorded=recorded,
            direct=is_direct_now(conn),
        )
        shape = shape_of(found)
        if shape is None or not table.may_read:
            return found
        return msgspec.structs.replace(
            found,
            repeated_sessions=count_repeated(conn, found),
            quality=quality(conn, found, shape),
        )


def shape_of(found: Found) -> SessionTable | None:
    """Return the shape as the statements know it, or None when a column that they need is not there."""
    kinds = [found.column(name) for name in ("id", "session_id", "timestamp", "analytics_data")]
    if None in kinds or found.table.kind != "r":
        return None
    row_id, session_id, _, data = (kind.type.partition("(")[0] for kind in kinds if kind is not None)
    site = found.column("site")
    return SessionTable(
        id_type=row_id,
        session_id_type=session_id,
        data_type=data,
        has_site=site is None or is_our_site(site),
        has_generated=all(is_our_identifier(found, name) for name in ("ym_uid", "yclid")),
    )


def is_our_site(column: Column) -> bool:
    """Return whether a column `site` is the one that we add, not somebody's with the same name."""
    return column.type == "text" and column.not_null and column.default == "'default'::text"


def is_our_identifier(found: Found, name: str) -> bool:
    """Return whether a column is the generated one that `migrate` makes in a table of our own."""
    column = found.column(name)
    wanted = f"((analytics_data -> 'ids'::text) ->> '{name}'::text)"
    return column is not None and column.generated and column.type == "text" and column.default == wanted


_COUNT = """
    select count(*)
      from public.user_analytics
"""

_COUNT_SAMPLE = """
    select count(*)
      from public.user_analytics tablesample system (0.1)
"""


def count_rows(conn: Connection[Any], table: Table) -> tuple[int, bool]:
    """Return the number of rows and whether it is exact: counted where that is cheap, else estimated."""
    if table.kind != "r" or not table.may_read or table.rows_hidden:
        return table.row_estimate, False
    if table.table_size <= EXACT_BYTES:
        return int(value(conn, _COUNT)), True
    if table.row_estimate > 0:
        return table.row_estimate, False
    # Never analysed: the rows of 0.1 % of its pages, times a thousand.
    return int(value(conn, _COUNT_SAMPLE)) * 1000, False


_REPEATED = """
    select count(session_id) - count(distinct session_id)
      from public.user_analytics
"""

_DISTINCT = """
    select n_distinct
      from pg_stats
     where schemaname = 'public' and tablename = 'user_analytics' and attname = 'session_id'
"""


def count_repeated(conn: Connection[Any], found: Found) -> int | None:
    """Return how many rows have a session_id that is not theirs alone, or None when that is not known."""
    if found.counted and found.rows <= EXACT_ROWS:
        return int(value(conn, _REPEATED))
    distinct: float | None = value(conn, _DISTINCT)
    if distinct is None:
        return None
    return max(0, found.rows - int(distinct if distinct > 0 else -distinct * found.rows))


_QUALITY = """
    select count(*) as rows,
           count(*) filter (where u.analytics_data is null) as without_document,
           count(*) filter (where not ($fits)) as odd_document,
           count(*) filter (where u.session_id is null) as without_session_id,
           count(*) filter (where u."timestamp" is null) as without_timestamp,
           count(*) filter (where u.id is null) as without_id,
           count($ym_uid) as with_ym_uid,
           count($yclid) as with_yclid
      from public.user_analytics u tablesample system (%(percent)s)
"""


def quality(conn: Connection[Any], found: Found, shape: SessionTable) -> Quality | None:
    """Return what a sample of the rows holds; None when it cannot be read in time."""
    if shape.data_type not in ("json", "jsonb"):
        return None
    percent = 100.0 if found.rows <= SAMPLE_ROWS else max(0.01, 100.0 * SAMPLE_ROWS / found.rows)
    try:
        with conn.transaction(), conn.cursor(row_factory=class_row(Quality)) as cursor:
            cursor.execute(fill(_QUALITY, shape), {"percent": percent})
            return cursor.fetchone()
    except (psycopg.errors.QueryCanceled, psycopg.errors.DataError):
        return None


def is_direct_now(conn: Connection[Any]) -> bool:
    """Return whether nothing stands between us and the server; as `database.is_direct`."""
    return bool(value(conn, "select pg_backend_pid()") == conn.info.backend_pid)


def one(conn: Connection[Any], kind: type[Row], statement: str) -> Row | None:
    """Return the first row as a struct, or None."""
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(statement.encode()).fetchone()


def many(conn: Connection[Any], kind: type[Row], statement: str) -> list[Row]:
    """Return every row as a struct."""
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(statement.encode()).fetchall()


def names(conn: Connection[Any], statement: str) -> list[str]:
    """Return the first column of every row."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return [str(name) for name in cursor.execute(statement.encode()).fetchall()]


def value(conn: Connection[Any], statement: str) -> Any:  # noqa: ANN401 - whatever the statement answers
    """Return the first column of the first row, None when there is none."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement.encode()).fetchone()
