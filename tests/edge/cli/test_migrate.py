"""`closedloop migrate` says what it did, in words and as data."""

import json
from pathlib import Path

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
