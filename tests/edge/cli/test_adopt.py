"""`closedloop adopt` as a person meets it: it says, asks, and does only what was agreed to."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from fix_adopt import PREDECESSOR, PREDECESSOR_ROWS, Script, make_database, run_command, start_adopt
from fix_postgres import Cluster
from fix_tools import wait_until


def answer_at_the_terminal(url: str, folder: Path, answer: str) -> subprocess.CompletedProcess[bytes]:
    """Run adopt with a terminal at its standard input, and type an answer."""
    ours, theirs = os.openpty()
    os.write(ours, answer.encode())
    command = [sys.executable, "-m", "closedloop", "adopt", "--data-dir", str(folder)]
    environment = {"DATABASE_URL": url, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, stdin=theirs, capture_output=True, env=environment, check=False)
    os.close(ours)
    os.close(theirs)
    return done


@pytest.mark.parametrize(("answer", "adopted"), [("n\n", False), ("\n", False), ("y\n", True)])
def test_person_at_the_terminal_is_asked(
    postgres: Cluster, tmp_path: Path, answer: str, *, adopted: bool
) -> None:
    """Somebody who only wanted to look must not have changed a table."""
    url = make_database(postgres, PREDECESSOR)

    done = answer_at_the_terminal(url, tmp_path, answer)

    assert done.returncode == 0
    assert b"Do this now?" in done.stdout
    with psycopg.connect(url) as conn:
        assert conn.execute("select to_regclass('closedloop.session_table') is not null").fetchone() == (
            adopted,
        )


def test_findings_are_data_for_programs(postgres: Cluster, tmp_path: Path) -> None:
    """An agency adopts a hundred tables by a script of its own."""
    url = make_database(postgres, PREDECESSOR)

    done = run_command(url, tmp_path, "adopt", "--yes", "--json")

    told = json.loads(done.stdout)
    assert told["done"] is True
    assert [column["name"] for column in told["found"]["columns"]][:2] == ["id", "session_id"]
    assert told["plan"]["add_site"] is True


def test_killed_run_is_completed_by_the_next(postgres: Cluster, tmp_path: Path) -> None:
    """The laptop was closed in the middle of a build; an index without its end must not be taken for one."""
    url = make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=1000))
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as conn:
        # A build waits for every older snapshot, so it is surely at work when it is killed.
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select 1")
        started = start_adopt(url, tmp_path)
        wait_until(lambda: conn.execute(BUILDING).fetchone() is not None, what="an index is being built")
        started.kill()
        started.communicate()
        conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ~* '^create index'")
        wait_until(lambda: conn.execute(OTHERS).fetchone() is None, what="the killed run is gone")

    again = run_command(url, tmp_path, "adopt", "--yes")

    assert again.returncode == 0, again.stdout + again.stderr
    with psycopg.connect(url) as conn:
        assert conn.execute(INVALID).fetchall() == []
    assert "Nothing to do" in run_command(url, tmp_path, "adopt", "--yes").stdout


BUILDING = "select from pg_stat_progress_create_index where datname = current_database()"
OTHERS = """
select from pg_stat_activity
 where datname = current_database() and application_name = 'closedloop' and pid <> pg_backend_pid()
"""
INVALID = """
select indexrelid::regclass::text from pg_index
 where indrelid = 'public.user_analytics'::regclass and not indisvalid
"""


def test_held_table_holds_up_no_writer(postgres: Cluster, tmp_path: Path) -> None:
    """Somebody's report runs for minutes; behind our wait for it no visitor's session may wait."""
    url = make_database(postgres, PREDECESSOR)
    script = Script(url)
    with psycopg.connect(url) as report:
        report.execute("select count(*) from public.user_analytics")
        started = start_adopt(url, tmp_path)
        script.start()
        time.sleep(4)
        still_waits = started.poll() is None
    printed, _ = started.communicate()
    script.stop()

    assert still_waits
    assert started.returncode == 0, printed
    assert script.slowest_s < 1.5
    assert script.written > 0


def test_names_with_brackets_are_printed_as_they_are(postgres: Cluster, tmp_path: Path) -> None:
    """Policies of the dashboard have free text for names, and to the printer brackets could be colours."""
    policy = 'create policy "Allow [anon] to add [/insert]" on public.user_analytics for insert to anon'
    grant = "grant insert (session_id) on public.user_analytics to anon"
    url = make_database(postgres, PREDECESSOR, f"{policy} with check (true)", grant)

    said = run_command(url, tmp_path, "adopt", "--dry-run")

    assert (said.returncode, said.stderr) == (0, "")
    assert "Allow [anon] to add [/insert]" in said.stdout
    assert "anon: insert (session_id)" in said.stdout
    assert "Nothing was changed." in said.stdout
