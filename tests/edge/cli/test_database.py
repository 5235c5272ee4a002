"""Commands work on the owner's database, or on the embedded one and leave it stopped."""

from pathlib import Path

import psycopg
import pytest

from closedloop.edge.cli.database import database_of


def test_named_database_is_used(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL wins: nobody wants a second database beside his own."""
    monkeypatch.setenv("DATABASE_URL", database)

    with database_of(None, tmp_path) as (settings, conninfo), psycopg.connect(conninfo) as conn:
        name = conn.info.dbname

    assert name == database.rpartition("/")[2]
    assert not (settings.data_dir / "postgres").exists()


def test_embedded_database_is_started_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that leaves a server behind would keep the data folder busy."""
    monkeypatch.delenv("DATABASE_URL", raising=False)

    with database_of(None, tmp_path) as (_, conninfo), psycopg.connect(conninfo) as conn:
        alive = conn.execute("select 1").fetchone()

    assert alive == (1,)
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
