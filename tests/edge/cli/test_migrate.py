"""`closedloop migrate` says what it did, in words and as data."""

import json
from pathlib import Path

from click.testing import CliRunner

from closedloop.edge.cli.main import app
from closedloop.store.migrate import migrations
from fix_adopt import make_database, run_command
from fix_postgres import Cluster


def test_applied_migrations_are_data_for_programs(postgres: Cluster, tmp_path: Path) -> None:
    """A deployment script goes on only if nothing is left to adopt."""
    url = make_database(postgres)

    told = json.loads(run_command(url, tmp_path, "migrate", "--json").stdout)

    assert told["adopted"] is True
    assert len(told["applied"]) == len(migrations())


def test_export_names_its_files_and_needs_no_database(tmp_path: Path) -> None:
    """Whoever pushes with the Supabase CLI has no address of the database at hand."""
    done = run_command(
        "postgresql://127.0.0.1:1/none", tmp_path, "migrate", "--export", str(tmp_path / "out")
    )

    assert done.returncode == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(written) == len(migrations())
    assert all(name in done.stdout and "_closedloop_" in name for name in written)


def test_unreachable_database_is_one_sentence(tmp_path: Path) -> None:
    """A wrong port is the usual mistake, and a trace of Python helps nobody."""
    told = run_command("postgresql://postgres@127.0.0.1:1/nothing", tmp_path, "migrate")

    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("closedloop: ")
    assert "Traceback" not in told.stderr


def test_embedded_database_is_migrated_without_address(tmp_path: Path) -> None:
    """Whoever has no PostgreSQL has one in the data folder, for this command, too."""
    environment = {"DATABASE_URL": None, "CLOSEDLOOP_CONFIG": None, "CLOSEDLOOP_DATA_DIR": None}

    told = CliRunner(env=environment).invoke(app, ["migrate", "--json", "--data-dir", str(tmp_path / "data")])

    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["adopted"] is True
