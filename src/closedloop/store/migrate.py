"""Migrations: plain SQL files of this package, applied under a lock, recorded in our own schema."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import Connection

from closedloop.errors import DatabaseAwayError, MigrationError
from closedloop.store.database import translated
from closedloop.store.sessions import read_session_table_now

# Any number that is ours: two processes that migrate at once wait for each other by it.
LOCK = 0x636C6F736564

_LEDGER = """
    select to_regclass('closedloop.migration') is not null
"""

_APPLIED = """
    select version, sha256
      from closedloop.migration
"""

_RECORD = """
    insert into closedloop.migration (version, name, sha256, applied_at)
    values (%(version)s, %(name)s, %(sha256)s, %(now)s)
    on conflict (version) do nothing
"""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file: `20261124000001_ledger.sql` has the version `20261124000001` and the name `ledger`."""

    version: str
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The digest by which a changed file is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return the migrations of this version, oldest first."""
    folder = resources.files("closedloop.store") / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [
        Migration(version=version, name=name.removesuffix(".sql"), sql=file.read_text(encoding="utf-8"))
        for file in files
        for version, _, name in [file.name.partition("_")]
    ]


def migrate(conninfo: str, now: datetime) -> list[Migration]:
    """Apply what is missing and return it; one transaction for each file, safe when two run at once.

    Raises MigrationError when the database is newer than this version, DatabaseAwayError.
    """
    done: list[Migration] = []
    with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
        for migration in migrations():
            with conn.transaction():
                conn.execute("select pg_advisory_xact_lock(%s)", [LOCK])
                applied = read_applied(conn)
                refuse_newer(applied)
                if migration.version not in applied:
                    conn.execute(migration.sql.encode())
                    conn.execute(_RECORD, record_of(migration, now))
                    done.append(migration)
    return done


def pending(conn: Connection[Any]) -> list[Migration]:
    """Return the migrations that the database lacks. Raises MigrationError when it is newer than we are."""
    applied = read_applied(conn)
    refuse_newer(applied)
    return [migration for migration in migrations() if migration.version not in applied]


def read_applied(conn: Connection[Any]) -> dict[str, str]:
    """Return the digest of each recorded migration by its version."""
    row = conn.execute(_LEDGER).fetchone()
    if row is None or not row[0]:
        return {}
    return dict(conn.execute(_APPLIED).fetchall())


def refuse_newer(applied: dict[str, str]) -> None:
    """Raise MigrationError when the database was migrated by a newer version: we would not know its rules."""
    newer = sorted(applied.keys() - {migration.version for migration in migrations()})
    if newer:
        raise MigrationError(
            f"the database has the migration {newer[-1]} of a newer closedloop; install that version"
        )


def record_of(migration: Migration, now: datetime) -> dict[str, object]:
    """Return the row that records one migration."""
    return {
        "version": migration.version,
        "name": migration.name,
        "sha256": migration.sha256,
        "now": now,
    }


def export(folder: Path) -> Sequence[Path]:
    """Write the migrations as files for `supabase db push` and return their paths.

    Each file also records itself in closedloop.migration, so that `closedloop migrate` knows it. Writing
    again gives the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for migration in migrations():
        path = folder / f"{migration.version}_closedloop_{migration.name}.sql"
        record = (
            "\ninsert into closedloop.migration (version, name, sha256, applied_at)\n"
            f"values ('{migration.version}', '{migration.name}', '{migration.sha256}', now())\n"
            "on conflict (version) do nothing;\n"
        )
        path.write_text(migration.sql + record, encoding="utf-8")
        written.append(path)
    return written


def prepare(conninfo: str, now: datetime) -> bool:
    """Bring the database up to date before the start; True when it was empty of us until now.

    Raises MigrationError or NotAdoptedError, which a person has to mend. A database that is away is no
    reason not to start: the spool keeps what comes.
    """
    try:
        fresh = len(migrate(conninfo, now)) == len(migrations())
        with translated(), psycopg.connect(conninfo, prepare_threshold=None) as conn:
            read_session_table_now(conn)
    except DatabaseAwayError:
        return False
    return fresh
