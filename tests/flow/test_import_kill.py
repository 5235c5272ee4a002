"""An import of years is interrupted, by kill -9 or a database that goes away: run again, it goes on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from closedloop.config import child_environment
from fix_adopt import run_command
from fix_flow import OpenTables, Tables
from fix_postgres import MakeCluster
from fix_tools import wait_until

ROWS = 6000
PART = 600


def history(folder: Path) -> Path:
    """Save a table in which every third row has no number of its own."""
    rows = (f"{'' if n % 3 == 0 else n};shopper;{n};08.03.2025" for n in range(1, ROWS + 1))
    path = folder / "deals.csv"
    path.write_text("\n".join(["ID;session_id;Сумма;Дата", *rows, ""]))
    return path


def begin(url: str, path: Path) -> "subprocess.Popen[bytes]":
    """Start the import of a file and return while it runs."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "closedloop",
            "import",
            str(path),
            "--yes",
            "--data-dir",
            str(path.parent / "data"),
        ],
        env=child_environment(url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


OTHERS = """
    select count(*)
      from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""


def check_whole(tables: Tables) -> None:
    """Check that every row counted, once, in the ledger and in the session."""
    assert tables.one("select count(*), 0 from closedloop.conversion") == ROWS
    assert tables.one("select sum(value) from closedloop.conversion") == ROWS * (ROWS + 1) // 2
    goals = tables.goals("shopper")
    assert sorted(goal["value"] for goal in goals) == list(range(1, ROWS + 1))


@pytest.mark.migrated
def test_killed_import_goes_on_where_it_was(database: str, tmp_path: Path, tables: Tables) -> None:
    """What counted twice would be money that nobody earned."""
    tables.add_session("shopper")
    path = history(tmp_path)
    running = begin(database, path)
    wait_until(
        lambda: tables.one("select count(*) from closedloop.conversion") > PART, what="some are stored"
    )
    running.send_signal(signal.SIGKILL)
    running.wait()
    # What was on its way when it died may be committed yet.
    wait_until(lambda: tables.one(OTHERS) == 0, what="the database has noticed")
    before = tables.one("select count(*) from closedloop.conversion")

    done = run_command(database, tmp_path, "import", str(path), "--yes", "--json")

    recorded = json.loads(done.stdout)["recorded"]
    assert PART < before < ROWS
    assert (recorded["known"], recorded["new"]) == (before, ROWS - before)
    assert done.returncode == 0
    check_whole(tables)


def test_import_waits_for_a_database_that_comes_back(
    own_cluster: MakeCluster, open_tables: OpenTables, tmp_path: Path
) -> None:
    """A restart of the database in the middle of an evening's work is no reason to begin anew."""
    cluster = own_cluster()
    url = cluster.url()
    run_command(url, tmp_path, "migrate")
    watched = open_tables(url)
    watched.add_session("shopper")
    running = begin(url, history(tmp_path))
    wait_until(
        lambda: watched.one("select count(*) from closedloop.conversion") > PART, what="some are stored"
    )

    cluster.restart("immediate")

    assert running.wait(60) == 0
    check_whole(open_tables(url))
