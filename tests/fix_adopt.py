"""Tables of user_analytics as people have them, and the commands run on them as their owner does."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg

from fix_postgres import Cluster

API_ROLES = "anon", "authenticated", "service_role"

# docs/protocols/tilda.md, 10: the table of the public predecessor, and how its documents look.
PREDECESSOR = """
create table public.user_analytics (
    id uuid primary key default gen_random_uuid(), session_id text, user_id text,
    timestamp timestamptz default now(), analytics_data jsonb)
"""
PREDECESSOR_ROWS = """
insert into public.user_analytics (session_id, user_id, timestamp, analytics_data)
select 'session-' || (g % {rows} * 9 / 10), 'user-' || g % 1000, now() - g * interval '1 second',
       jsonb_build_object(
         'session', jsonb_build_array('session-' || g, '2026-01-01T00:00:00.000Z', null, g % 900, 3, 2, 17),
         'traffic', jsonb_build_array('yandex', 'cpc', null, null, null, g::text, 'https://ya.example/'),
         'device', jsonb_build_array('Mozilla/5.0', null, null, null, null, 'mobile', '1920x1080'),
         'ids', jsonb_build_object('session_id', 'session-' || g, 'ym_uid', (1741000000000000000 + g)::text,
                                   'yclid', null, 'ga_uid', null),
         'target_actions', jsonb_build_object(
           'conversion_flag', g % 7 = 0,
           'yandex_goals_triggered',
           case when g % 7 = 0 then jsonb_build_array(jsonb_build_object(
             'goal', 'form_sent', 'timestamp', '2026-01-01T00:00:00.000Z', 'params', null)) else '[]' end))
  from generate_series(1, {rows}) g
"""

ODD = """
create table public.user_analytics (
    id bigint primary key, session_id varchar(64) not null, page text default 'home',
    timestamp timestamp, analytics_data json);
create view public.sessions_by_page as select page, count(*) from public.user_analytics group by page;
alter table public.user_analytics enable row level security;
create policy insert_own on public.user_analytics for insert to anon with check (length(session_id) < 60);
grant insert, select on public.user_analytics to anon;
insert into public.user_analytics values
  (1, 's-1', 'home', '2026-01-01',
   '{"ids" : {"ym_uid": "1741000000123456789"},  "b":1.50, "a" : [1,2 ]}'),
  (2, 's-2', 'home', '2026-01-02', '{"z":  "\\u0000 not for jsonb"}'),
  (3, 's-3', null, null, null);
"""

FOREIGN = """
create table public.user_analytics (
    id text primary key, session_id uuid, site integer default 7, ym_uid text,
    timestamp timestamptz, analytics_data jsonb);
insert into public.user_analytics values
  ('row-1', '7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13', 7, 'x', now(), '{"ids": {"yclid": "55"}}');
"""


def make_database(cluster: Cluster, *statements: str) -> str:
    """Return the URL of a new database in which these statements were run, Supabase's roles beside it."""
    name = cluster.create_database()
    with psycopg.connect(cluster.url(name), autocommit=True) as conn:
        for role in API_ROLES:
            if conn.execute("select to_regrole(%s)", [role]).fetchone() == (None,):
                conn.execute(f"create role {role}".encode())
        for statement in statements:
            conn.execute(statement.encode())
    return cluster.url(name)


def run_command(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `closedloop` on this database, nobody at the terminal, and return what it printed."""
    environment = {"PATH": os.pathsep.join(os.get_exec_path()), "HOME": str(folder), "DATABASE_URL": url}
    return subprocess.run(
        [sys.executable, "-m", "closedloop", *arguments, "--data-dir", str(folder / "data")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**environment, "LANG": "C.UTF-8", "COLUMNS": "200"},
        check=False,
    )


def state_of(url: str) -> dict[str, object]:
    """Return everything of theirs that adoption must not change: rows to the byte, and the catalogue."""
    with psycopg.connect(url) as conn:
        columns = [
            str(row[0])
            for row in conn.execute(
                "select attname from pg_attribute where attrelid = 'public.user_analytics'::regclass"
                " and attnum > 0 and not attisdropped and attname <> 'site' order by attnum"
            )
        ]
        listed = ", ".join(f'u."{name}"::text' for name in columns)
        # In the server: a million digests on their way to us would cost a third of the test.
        query = (
            f"select md5(string_agg(md5(concat_ws('|', {listed})), '' order by id))"  # noqa: S608
            f" from public.user_analytics u where {BEFORE}"
        )
        digest = conn.execute(query.encode()).fetchone()
        catalogue = conn.execute(CATALOGUE).fetchall()
        return {"rows": digest, "columns": columns, "catalogue": catalogue}


# Rows of the script that writes meanwhile have a session_id that begins so; they are counted, not compared.
BEFORE = "session_id::text not like 'script-%'"
CATALOGUE = """
select c.relfilenode::text, c.relacl::text, c.relrowsecurity::text, c.relowner::text,
       (select string_agg(policyname || coalesce(qual, '') || coalesce(with_check, ''), ','
               order by policyname)
          from pg_policies where tablename = 'user_analytics'),
       (select string_agg(pg_get_viewdef(ev_class), ',') from pg_rewrite where ev_class in (
          select oid from pg_class where relname = 'sessions_by_page')),
       (select string_agg(pg_get_expr(adbin, adrelid), ',' order by adnum) from pg_attrdef
         where adrelid = c.oid and pg_get_expr(adbin, adrelid) <> '''default''::text'),
       (select string_agg(tgname, ',') from pg_trigger where tgrelid = c.oid)
  from pg_class c where c.oid = 'public.user_analytics'::regclass
"""


class Script(threading.Thread):
    """A site's own script: inserts rows and updates them, one after the other, until told to stop."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.done = threading.Event()
        self.written = 0
        self.slowest_s = 0.0

    def run(self) -> None:
        """Write until `done`, remembering how long the slowest statement took."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            while not self.done.is_set():
                began = time.monotonic()
                row = conn.execute(
                    "insert into public.user_analytics (session_id, analytics_data) values (%s, '{}')"
                    " returning id",
                    [f"script-{self.written}"],
                ).fetchone()
                middle = time.monotonic()
                conn.execute("update public.user_analytics set user_id = 'x' where id = %s", row)
                self.slowest_s = max(self.slowest_s, middle - began, time.monotonic() - middle)
                self.written += 1

    def stop(self) -> None:
        """End it and wait."""
        self.done.set()
        self.join()


def start_adopt(url: str, folder: Path) -> subprocess.Popen[str]:
    """Start `closedloop adopt` and return at once.

    A shell starts what it puts into the background with SIGINT ignored; here Ctrl-C is to be felt.
    """
    command = ["env", "--default-signal=INT", sys.executable, "-m", "closedloop", "adopt", "--yes"]
    return subprocess.Popen(
        [*command, "--data-dir", str(folder)],
        env={"DATABASE_URL": url, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
