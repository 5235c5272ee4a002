"""Our tables among Supabase's roles: nothing for the REST API; its adviser finds one thing, a wanted one."""

from datetime import UTC, datetime

import psycopg
import pytest

from closedloop.store.migrate import migrate
from fix_adopt import API_ROLES, make_database
from fix_postgres import Cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Of hosted projects until October 2026, of self-hosted ones still (docs/protocols/supabase.md, 3.2).
OLD_DEFAULTS = [
    f"alter default privileges in schema public grant all on {what} to {', '.join(API_ROLES)}"
    for what in ("tables", "sequences", "functions", "routines")
]

RIGHTS = """
select c.relname || ': ' || privilege
  from pg_class c
 cross join unnest(string_to_array('select insert update delete truncate references trigger', ' ')) privilege
 where c.relkind in ('r', 'v', 'm', 'p') and has_table_privilege('ROLE', c.oid, privilege)
   and (c.relnamespace = 'closedloop'::regnamespace or c.relname = 'user_analytics')
 union all
select c.relname || ': ' || privilege
  from pg_class c
 cross join unnest(array['select', 'usage', 'update']) privilege
 where c.relkind = 'S' and has_sequence_privilege('ROLE', c.oid, privilege)
   and (c.relnamespace = 'closedloop'::regnamespace or c.relname like 'user_analytics%')
 union all
select 'schema: ' || privilege
  from unnest(array['create', 'usage']) privilege
 where has_schema_privilege('ROLE', 'closedloop', privilege)
"""

# Lint 0008, rls_enabled_no_policy; for us it is the point: nobody comes in through the REST API.
WITHOUT_POLICY = """
select c.relname
  from pg_class c
 where c.relkind = 'r' and c.relrowsecurity
   and c.relnamespace in ('public'::regnamespace, 'closedloop'::regnamespace)
   and not exists (select from pg_policy where polrelid = c.oid)
"""


@pytest.fixture(params=["old defaults", "new defaults"])
def project(request: pytest.FixtureRequest, any_postgres: Cluster) -> str:
    """Give a migrated project with Supabase's roles, under its old and its new default rights."""
    url = make_database(any_postgres, *(OLD_DEFAULTS if request.param == "old defaults" else ()))
    migrate(url, NOW)
    return url


def names(url: str, query: str) -> list[str]:
    """Return the first column of a query."""
    with psycopg.connect(url) as conn:
        return [name for (name,) in conn.execute(query.encode())]


def test_api_roles_have_no_right_of_any_kind(project: str) -> None:
    """PostgREST gives everybody with the page's key what these roles may do."""
    assert [names(project, RIGHTS.replace("ROLE", role)) for role in API_ROLES] == [[], [], []]


def test_only_the_intended_lint_is_left(project: str) -> None:
    """Row level security without a policy is what closes the table; a policy would have to be explained."""
    assert names(project, WITHOUT_POLICY) == ["user_analytics"]


def test_anon_sees_and_writes_nothing(project: str) -> None:
    """The catalogue is one thing, and what really happens is another."""
    with psycopg.connect(project, autocommit=True) as conn:
        conn.execute("set role anon")
        for statement in (
            "select count(*) from public.user_analytics",
            "insert into public.user_analytics (session_id) values ('x')",
            "select count(*) from closedloop.conversion",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement.encode())
