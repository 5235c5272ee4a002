"""The exported files, run as `supabase db push` and psql run them, against what `migrate` makes."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from closedloop.store.migrate import export, migrate, migrations
from fix_adopt import make_database
from fix_postgres import NEWEST, Cluster
from fix_tools import environment_of, find_postgres

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# New in every dump, or every table of Debian's 15: a secret of pg_dump's, and a number of the server's own.
CHANCE = re.compile(r"^\\(un)?restrict .*$|^ALTER TABLE .* SET \(pg_attver=\d+\);$", re.MULTILINE)


def run_tool(name: str, *arguments: str) -> str:
    """Run a client program of PostgreSQL and return what it printed."""
    program = find_postgres(NEWEST) / name
    done = subprocess.run(
        [str(program), *arguments], env=environment_of(program), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def push(url: str, folder: Path) -> None:
    """Run the exported files one by one, every statement a transaction of its own."""
    for path in export(folder):
        run_tool("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={path}", url)


def schema_of(url: str) -> str:
    """Return the whole schema as pg_dump writes it, rights and owners too."""
    return CHANCE.sub("", run_tool("pg_dump", "--schema-only", url))


def test_pushed_files_make_the_very_same_schema(any_postgres: Cluster, tmp_path: Path) -> None:
    """Both ways are promised, and only one is what the tests of the product run on."""
    by_us, pushed = make_database(any_postgres), make_database(any_postgres)

    migrate(by_us, NOW)
    push(pushed, tmp_path)

    assert schema_of(pushed) == schema_of(by_us)
    assert migrate(pushed, NOW) == []


def test_pushed_twice_is_pushed_once(postgres: Cluster, tmp_path: Path) -> None:
    """`supabase db reset` and preview branches run everything again."""
    url = make_database(postgres)
    push(url, tmp_path)
    once = schema_of(url)

    push(url, tmp_path)

    assert schema_of(url) == once


def test_pushed_after_migrate_changes_nothing(postgres: Cluster, tmp_path: Path) -> None:
    """Whoever began with `closedloop migrate` may take the files into his own history later."""
    url = make_database(postgres)
    migrate(url, NOW)
    before = schema_of(url)

    push(url, tmp_path)

    assert schema_of(url) == before
    with psycopg.connect(url) as conn:
        assert conn.execute("select max(applied_at) from closedloop.migration").fetchone() == (NOW,)


@pytest.mark.parametrize("forbidden", ["begin", "commit", "rollback", "concurrently", "vacuum"])
def test_exported_file_fits_into_one_transaction(tmp_path: Path, forbidden: str) -> None:
    """The Supabase CLI runs a file as one pipeline; what cannot be in it fails there with 25001."""
    bodies = re.compile(r"\$\$.*?\$\$", re.DOTALL)
    texts = [bodies.sub("", path.read_text()).lower() for path in export(tmp_path)]
    code = [re.sub(r"--.*", "", text) for text in texts]

    assert [text for text in code if re.search(rf"\b{forbidden}\b", text)] == []


def test_exported_names_sort_and_say_whose_they_are(tmp_path: Path) -> None:
    """They stand among the owner's own files, and the CLI reads a version from the digits in front."""
    names = [path.name for path in export(tmp_path)]

    assert names == sorted(names)
    assert all(re.fullmatch(r"\d{14}_closedloop_\w+\.sql", name) for name in names)
    assert len(names) == len(migrations())
