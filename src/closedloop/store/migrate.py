"""Migrations: plain SQL files of this package, applied under a lock, recorded in our own schema."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import Connection, IsolationLevel

from closedloop.errors import DatabaseAwayError, MigrationError, OperatorError
from closedloop.store.database import safe_sentence, translated
from closedloop.store.sessions import read_session_table_now

# Any number that is ours: two processes that migrate at once wait for each other by it.
LOCK = 0x636C6F736564

# Digests of earlier texts of a migration that made the same schema: a file is mended for those on whom it
# failed, and is as good as applied for all others. {"20261124000001": {"<sha256>"}}
SAME_SCHEMA: dict[str, set[str]] = {}

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

_EXPORTED_RECORD = """
insert into closedloop.migration (version, name, sha256, applied_at)
values ('{of.version}', '{of.name}', '{of.sha256}', now())
on conflict (version) do nothing;
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

    Raises MigrationError when the database is newer than this version, when an applied file was changed
    since, or when our role may not apply one; DatabaseAwayError.
    """
    done: list[Migration] = []
    with translated(), psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
        # A stricter default of the database would show what was there before the wait for the lock.
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        for migration in migrations():
            with conn.transaction():
                conn.execute("select pg_advisory_xact_lock(%s)", [LOCK])
                applied = read_applied(conn)
                refuse_unknown(applied)
                if migration.version not in applied:
                    apply(conn, migration, now)
                    done.append(migration)
    return done


def apply(conn: Connection[Any], migration: Migration, now: datetime) -> None:
    """Run and record one migration in the caller's transaction. Raises MigrationError without the right."""
    try:
        conn.execute(migration.sql.encode())
        conn.execute(_RECORD, record_of(migration, now))
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"the migration {migration.version}_{migration.name} was refused: {safe_sentence(error)}; "
            f"run closedloop migrate once as the owner of the database, or let the role {conn.info.user} "
            f"create schemas: grant create on database {conn.info.dbname} to {conn.info.user}"
        ) from error


def pending(conn: Connection[Any]) -> list[Migration]:
    """Return the migrations that the database lacks. Raises MigrationError as `migrate`."""
    applied = read_applied(conn)
    refuse_unknown(applied)
    return [migration for migration in migrations() if migration.version not in applied]


def read_applied(conn: Connection[Any]) -> dict[str, str]:
    """Return the digest of each recorded migration by its version."""
    row = conn.execute(_LEDGER).fetchone()
    if row is None or not row[0]:
        return {}
    return dict(conn.execute(_APPLIED).fetchall())


def refuse_unknown(applied: Mapping[str, str]) -> None:
    """Raise MigrationError when the schema there is not the one that our files make: newer, or of others.

    `applied` is the digest of each recorded migration by its version.
    """
    ours = {migration.version: migration for migration in migrations()}
    newer = sorted(applied.keys() - ours.keys())
    if newer:
        raise MigrationError(
            f"the database has the migration {newer[-1]} of a newer closedloop; install that version"
        )
    for version, sha256 in sorted(applied.items()):
        if sha256 not in {ours[version].sha256, *SAME_SCHEMA.get(version, ())}:
            raise MigrationError(
                f"the migration {version}_{ours[version].name} was changed after it was applied here "
                f"({sha256[:12]} there, {ours[version].sha256[:12]} here): the tables may not be those that "
                "this version needs; install the version that made them, or an official one"
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
    again gives the same files. Raises OperatorError when the folder takes no files.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for migration in migrations():
            path = folder / f"{migration.version}_closedloop_{migration.name}.sql"
            path.write_text(migration.sql + _EXPORTED_RECORD.format(of=migration), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise OperatorError(f"{folder}: the files cannot be written there: {error.strerror}") from error
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
