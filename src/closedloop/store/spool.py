"""The local file that keeps webhooks while the database is away: SQLite, durable before it returns.

It knows bytes and their order, not what is in them. Blocking; its callers run it in a thread.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from closedloop.errors import OperatorError

_SCHEMA = """
    create table if not exists spooled (
        place integer primary key autoincrement,
        intake blob not null,
        parked text
    )
"""


class Spooled(msgspec.Struct, frozen=True, kw_only=True):
    """One kept intake; `place` is its order of arrival."""

    place: int
    intake: bytes


class Spool:
    """A queue on disk. `keep` returns after the bytes are on the disk (synchronous=FULL)."""

    def __init__(self, path: Path) -> None:
        # SQLite gives its side files the mode of the file itself, which holds what people typed.
        try:
            path.touch(mode=0o600)
            path.chmod(0o600)
            self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
            self.db.execute("pragma journal_mode=wal")
            self.db.execute("pragma synchronous=full")
            self.db.execute(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise OperatorError(
                f"the spool {path} cannot be used: {error}; move it away and start again"
            ) from error

    def keep(self, intakes: Sequence[bytes]) -> None:
        """Store these in order, all or none. Raises OSError when the disk does not take them."""
        try:
            self.write("insert into spooled (intake) values (?)", [(intake,) for intake in intakes])
        except sqlite3.Error as error:
            raise OSError(f"the spool takes nothing: {error}") from error

    def oldest(self, limit: int) -> list[Spooled]:
        """Return the first `limit` that wait, oldest first, parked ones left out."""
        rows = self.db.execute(
            "select place, intake from spooled where parked is null order by place limit ?", (limit,)
        )
        return [Spooled(place=place, intake=intake) for place, intake in rows]

    def remove(self, places: Sequence[int]) -> None:
        """Forget these: they are in the database now."""
        self.write("delete from spooled where place = ?", [(place,) for place in places])

    def write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run one statement for every row in one transaction."""
        with self.db:
            self.db.execute("begin immediate")
            self.db.executemany(statement, rows)

    def park(self, place: int, reason: str) -> None:
        """Set one aside that the database refuses, with the reason, so that it holds up nobody."""
        self.db.execute("update spooled set parked = ? where place = ?", (reason, place))

    def count(self) -> tuple[int, int]:
        """Return how many wait and how many are parked."""
        row = self.db.execute("select count(*) filter (where parked is null), count(parked) from spooled")
        waiting, parked = row.fetchone()
        return waiting, parked

    def close(self) -> None:
        """Close the file."""
        self.db.close()
