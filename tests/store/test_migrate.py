"""Our schema: the same by both ways, safe when two make it at once, and invisible to the REST API."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from closedloop.errors import MigrationError
from closedloop.store.database import plain_conninfo
from closedloop.store.migrate import export, migrate, migrations, pending
from fix_adopt import API_ROLES, make_database, run_command
from fix_pgbouncer import PoolerUrl
from fix_postgres import Cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Everything that makes a schema, in the order of names.
CATALOGUE = """
select n.nspname, c.relname, c.relkind::text, c.relrowsecurity, a.attname,
       format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
       pg_get_indexdef(c.oid)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where n.nspname = 'closedloop' or c.relname like 'user_analytics%'
 order by 1, 2, a.attnum
"""

# What Supabase gave its roles by default until October 2026 (docs/protocols/supabase.md, 3.2).
OLD_DEFAULTS = [
    f"alter default privileges in schema public grant all on {what} to {', '.join(API_ROLES)}"
    for what in ("tables", "sequences", "functions")
]


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    """Return all rows of a query."""
    with psycopg.connect(url) as conn:
        return conn.execute(query.encode()).fetchall()


def test_both_ways_make_the_same_schema(any_postgres: Cluster, tmp_path: Path) -> None:
    """An owner with migrations of his own pushes ours with them, and must get what we tested."""
    by_us, by_push = make_database(any_postgres), make_database(any_postgres)

    migrate(by_us, NOW)
    with psycopg.connect(by_push, autocommit=True) as conn:
        for path in export(tmp_path):
            conn.execute(path.read_bytes())
        left = pending(conn)

    assert left == []
    assert rows(by_us, CATALOGUE) == rows(by_push, CATALOGUE)


def test_export_is_repeatable(tmp_path: Path) -> None:
    """A file that changed by itself would be a migration that never ends."""
    first = {path.name: path.read_bytes() for path in export(tmp_path)}
    second = {path.name: path.read_bytes() for path in export(tmp_path)}

    assert first == second
    assert all(b"concurrently" not in text and b"commit" not in text for text in first.values())


def test_exported_files_may_run_twice(postgres: Cluster, tmp_path: Path) -> None:
    """Preview branches and repairs run them again."""
    url = make_database(postgres)

    with psycopg.connect(url, autocommit=True) as conn:
        for path in [*export(tmp_path), *export(tmp_path)]:
            conn.execute(path.read_bytes())

    assert len(rows(url, "select from closedloop.migration")) == len(migrations())


def test_two_processes_at_once_make_it_once(postgres: Cluster, tmp_path: Path) -> None:
    """Two servers of one deployment start in the same second."""
    url = make_database(postgres)
    command = [sys.executable, "-m", "closedloop", "migrate", "--data-dir", str(tmp_path)]
    environment = {"DATABASE_URL": url, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [process.communicate()[0].decode() for process in started]

    assert [process.returncode for process in started] == [0, 0]
    assert "".join(printed).count("applied   20") == len(migrations())


def test_second_run_applies_nothing(postgres: Cluster, tmp_path: Path) -> None:
    """It runs at every start."""
    url = make_database(postgres)

    outputs = [run_command(url, tmp_path, "migrate").stdout for _ in range(2)]

    assert "applied   " in outputs[0]
    assert "nothing to do" in outputs[1]


def test_pooler_in_transaction_mode_is_enough(postgres: Cluster, pgbouncer: PoolerUrl) -> None:
    """Supabase's shared pooler is often the only address that a small server reaches."""
    url = make_database(postgres)

    applied = migrate(plain_conninfo(pgbouncer(url.rpartition("/")[2])), NOW)

    assert len(applied) == len(migrations())


def test_existing_sessions_are_left_alone(postgres: Cluster, tmp_path: Path) -> None:
    """The table is adopted by a command that says first what it does, never by the way."""
    url = make_database(postgres, "create table public.user_analytics (id bigint, other text)")

    said = run_command(url, tmp_path, "migrate")

    assert "closedloop adopt" in said.stdout
    columns = "select attname from pg_attribute where attrelid = 'user_analytics'::regclass and attnum > 0"
    assert rows(url, columns) == [("id",), ("other",)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("update closedloop.migration set sha256 = 'x'", "changed"),
        ("insert into closedloop.migration values ('29990101000001', 'x', 'x', now())", "newer closedloop"),
    ],
)
def test_foreign_schema_is_refused(postgres: Cluster, change: str, sentence: str) -> None:
    """Old code on a schema that it does not know would write what nobody can read."""
    url = make_database(postgres)
    migrate(url, NOW)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(change.encode())

    with pytest.raises(MigrationError, match=sentence):
        migrate(url, NOW)


@pytest.fixture
def supabase(postgres: Cluster) -> str:
    """Give a migrated database with Supabase's roles and its old, generous defaults."""
    url = make_database(postgres, *OLD_DEFAULTS)
    migrate(url, NOW)
    return url


RIGHTS = """
select relname, case relkind when 'S' then has_sequence_privilege('ROLE', oid, 'usage, select, update')
                     else has_table_privilege('ROLE', oid, 'select, insert, update, delete') end
  from pg_class
 where relkind in ('r', 'S')
   and (relnamespace = 'closedloop'::regnamespace or relname like 'user_analytics%')
union all
select 'schema', has_schema_privilege('ROLE', 'closedloop', 'usage, create')
"""


@pytest.mark.parametrize("role", API_ROLES)
def test_api_roles_get_nothing(supabase: str, role: str) -> None:
    """What PostgREST may read, everybody with the page's key may read."""
    granted = [name for name, given in rows(supabase, RIGHTS.replace("ROLE", role)) if given]

    assert granted == []


# The Security Advisor's questions, as far as the catalogue answers them; each names what it finds.
LINTS = {
    "0013 and 0007: row level security": (
        "select relname from pg_class where relname = 'user_analytics' and not relrowsecurity"
    ),
    "0010: views that run as their owner": (
        "select viewname from pg_views where schemaname in ('public', 'closedloop')"
    ),
    "0011, 0028, 0029: functions": (
        "select proname from pg_proc"
        " where pronamespace in ('public'::regnamespace, 'closedloop'::regnamespace)"
    ),
    "0001: foreign keys without an index": (
        "select conname from pg_constraint where contype = 'f'"
        " and connamespace in ('public'::regnamespace, 'closedloop'::regnamespace)"
    ),
    "0004: tables without a primary key": (
        "select relname from pg_class c where relkind = 'r'"
        " and relnamespace in ('public'::regnamespace, 'closedloop'::regnamespace)"
        " and not exists (select from pg_index where indrelid = c.oid and indisprimary)"
    ),
    "0009: equal indexes": (
        "select a.indexrelid::regclass::text from pg_index a join pg_index b on a.indrelid = b.indrelid"
        " and a.indexrelid > b.indexrelid and a.indkey = b.indkey and a.indclass = b.indclass"
        " and a.indcollation = b.indcollation and a.indpred is not distinct from b.indpred"
        " join pg_class c on c.oid = a.indrelid"
        " where c.relnamespace in ('public'::regnamespace, 'closedloop'::regnamespace)"
    ),
    "0024: policies that let everything pass": "select policyname from pg_policies where qual = 'true'",
}


@pytest.mark.parametrize("lint", LINTS)
def test_security_advisor_finds_nothing_of_ours(supabase: str, lint: str) -> None:
    """An owner who is warned by Supabase about our tables will take them out."""
    assert rows(supabase, LINTS[lint]) == []
