"""`closedloop adopt` as a person meets it: it says, asks, and does only what was agreed to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from fix_adopt import PREDECESSOR, make_database, run_command
from fix_postgres import Cluster


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

    done = run_command(url, tmp_path, "adopt", "--json")

    told = json.loads(done.stdout)
    assert told["done"] is True
    assert [column["name"] for column in told["found"]["columns"]][:2] == ["id", "session_id"]
    assert told["plan"]["add_site"] is True
