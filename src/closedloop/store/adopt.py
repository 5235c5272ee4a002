"""Adoption: somebody's public.user_analytics gets what our statements need, while its owner's script goes on.

Adds a column `site` (catalog only), indexes (built concurrently) and the private schema. Changes no row,
grant, policy, view or default of theirs. May be interrupted anywhere: run again it goes on where it ended.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict

from closedloop.errors import DatabaseAwayError, NotAdoptedError, OperatorError
from closedloop.store.adopt_look import Found, look, names, value
from closedloop.store.adopt_plan import SESSION_MODE, Plan, WantedIndex, make_plan
from closedloop.store.database import safe_sentence, translated
from closedloop.store.migrate import migrate, pending
from closedloop.store.sessions import SessionTable

# Any number that is ours: two adoptions at once would build the same index.
LOCK = 0x636C6F736561
# A waiting exclusive lock holds up every insert behind it, so it waits this long and then steps back.
LOCK_MS = 500
# An autovacuum gives way only after the server's deadlock_timeout, one second.
PATIENT_LOCK_MS = 1300
LOCK_TRIES = 60
PAUSE_S = 2.0
POLL_S = 0.3


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one step is: `share` from 0 to 1, None while that is not known; `note` in plain words."""

    step: str  # migrations, site, record, or an index by its name
    share: float | None
    note: str


Tell = Callable[[Progress], None]


class Adoption:
    """One look at a database and what follows from it; nobody else adopts it meanwhile.

    On entry connects and looks. Raises NotAdoptedError when there is no table, OperatorError when another
    adoption is at work, MigrationError, DatabaseAwayError.
    """

    found: Found
    plan: Plan

    def __init__(self, conninfo: str, sites: Sequence[str] = ("default",)) -> None:
        self.conninfo = conninfo
        self.sites = sites

    def __enter__(self) -> Self:
        with ExitStack() as stack, translated():
            self.conn, self.watcher, self.guard = (
                stack.enter_context(
                    closing(psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None))
                )
                for _ in range(3)
            )
            self.hold_guard()
            self.look()
            self.open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.close()

    def hold_guard(self) -> None:
        """Take the lock of adoptions for as long as the transaction of the third connection is open.

        Nothing else may run in it: an index build waits for every transaction that looks at anything while
        it ends, and this one would never end. A pooler keeps it on one server connection.
        """
        with translated():
            self.guard.execute("begin isolation level read committed")
            self.guard.execute("set local idle_in_transaction_session_timeout = 0")
            locked = value(self.guard, f"select pg_try_advisory_xact_lock({LOCK})")
        if not locked:
            raise OperatorError(
                "another closedloop adopt is at work on this database; wait until it has ended"
            )

    def look(self) -> None:
        """Look at the table anew and decide what is left to do."""
        with translated():
            missing = [f"{one.version}_{one.name}" for one in pending(self.conn)]
        found = look(self.conn)
        if found is None:
            raise NotAdoptedError(
                "there is no public.user_analytics to adopt in this database; closedloop migrate makes one"
            )
        self.found = found
        self.plan = make_plan(found, missing, self.sites)

    def carry_out(self, now: datetime, tell: Tell, pause: Callable[[float], None]) -> None:
        """Do what the plan says, step by step; nothing at all when it has refusals.

        `pause` waits for a number of seconds between two tries for the lock of the table.

        Raises OperatorError or DatabaseAwayError with what to do; run again it goes on where it ended.
        """
        if self.plan.refusals:
            raise OperatorError(
                "\n".join(f"{one.problem}; to mend it: {one.mend}" for one in self.plan.refusals)
            )
        if self.plan.migrations:
            tell(Progress(step="migrations", share=None, note="making the schema closedloop"))
            migrate(self.conninfo, now)
            tell(Progress(step="migrations", share=1.0, note="done"))
        self.lift_timeouts()
        if self.plan.add_site:
            add_site(self.conn, tell, pause)
        for index in self.plan.indexes:
            self.build(index, tell)
        if self.plan.record is not None:
            with translated():
                record(self.conn, self.plan.record, now)
            tell(Progress(step="record", share=1.0, note="done"))

    def lift_timeouts(self) -> None:
        """Let an index build take its time where a connection keeps its settings: not behind a pooler."""
        if self.found.direct or is_session_mode(self.conninfo):
            with translated():
                self.conn.execute("set statement_timeout = 0")
                self.conn.execute("set lock_timeout = 0")

    def build(self, index: WantedIndex, tell: Tell) -> None:
        """Build one index while others write, and tell how far it is. Leaves none behind that is invalid."""
        name = sql.Identifier("public", index.name)
        if index.rebuild:
            tell(
                Progress(
                    step=index.name, share=None, note="dropping the one that an earlier run left unfinished"
                )
            )
            with translated():
                self.conn.execute(_DROP_INDEX.format(name))
        statement = _CREATE_INDEX.format(sql.Identifier(index.name), sql.SQL(index.sql))  # pyright: ignore[reportArgumentType] - made of constants
        with ThreadPoolExecutor(max_workers=1) as pool:
            building = pool.submit(self.conn.execute, statement)
            try:
                self.watch(building, index, tell)
                building.result()
            except BaseException as error:
                self.clear_away(building, name)
                if isinstance(error, psycopg.Error):
                    raise why_not_built(index, error, self.found) from error
                raise
        tell(Progress(step=index.name, share=1.0, note="done"))

    def watch(self, building: "Future[Any]", index: WantedIndex, tell: Tell) -> None:
        """Tell the progress of a build until it has ended, well or not."""
        share = 0.0
        while not wait([building], timeout=POLL_S).done:
            with suppress(psycopg.Error):
                reached, note = read_progress(self.watcher, self.found.table.oid)
                share = max(share, reached)
                tell(Progress(step=index.name, share=share, note=note))

    def clear_away(self, building: "Future[Any]", name: sql.Identifier) -> None:
        """End a build and drop what it left, as far as the database still lets us.

        Not concurrently: that would wait for whoever the build waited for. What cannot be had within half a
        second stays, and the next run drops it.
        """
        with suppress(psycopg.Error):
            if not building.done():
                self.conn.cancel_safe(timeout=5)
            wait([building])
            with self.conn.transaction():
                self.conn.execute(f"set local lock_timeout = {LOCK_MS}".encode())
                self.conn.execute(_DROP_LEFTOVER.format(name))


_CREATE_INDEX = sql.SQL("create index concurrently {} on public.user_analytics {}")
_DROP_INDEX = sql.SQL("drop index concurrently if exists {}")
_DROP_LEFTOVER = sql.SQL("drop index if exists {}")

_ADD_SITE = """
    alter table public.user_analytics
      add column if not exists site text not null default 'default'
"""


def add_site(conn: Connection[Any], tell: Tell, pause: Callable[[float], None]) -> None:
    """Add the column, in a transaction of its own that waits half a second for its lock.

    1.3 seconds where an autovacuum has to give way. Steps back and tries again for some two minutes, so that
    writers behind it are held up for a moment only.
    Raises OperatorError that names whoever holds the table.
    """
    holders: list[str] = []
    for attempt in range(1, LOCK_TRIES + 1):
        if try_to_add_site(conn, PATIENT_LOCK_MS if "autovacuum" in " ".join(holders) else LOCK_MS):
            tell(Progress(step="site", share=1.0, note="done"))
            return
        holders = read_holders(conn)
        note = f"try {attempt} of {LOCK_TRIES}: the table is held by {' and '.join(holders) or 'somebody'}"
        tell(Progress(step="site", share=None, note=note))
        pause(PAUSE_S)
    raise OperatorError(
        f"the column site could not be added: the table was held all the time by {' and '.join(holders)}; "
        "end that transaction, then run closedloop adopt again"
    )


def try_to_add_site(conn: Connection[Any], lock_ms: int) -> bool:
    """Add the column; False when its lock was not to be had in time."""
    with translated():
        try:
            with conn.transaction():
                conn.execute(f"set local lock_timeout = {lock_ms}".encode())
                conn.execute(_ADD_SITE)
        except psycopg.errors.LockNotAvailable:
            return False
    return True


_HOLDERS = """
    select case a.backend_type when 'client backend'
                then format('process %s of %s (%s, for %s s)', a.pid, a.usename, coalesce(a.state, 'at work'),
                            coalesce(extract(epoch from clock_timestamp() - a.xact_start)::integer, 0))
                else format('%s (process %s)', a.backend_type, a.pid) end
      from pg_locks l
      join pg_stat_activity a on a.pid = l.pid
     where l.relation = to_regclass('public.user_analytics') and l.granted and l.pid <> pg_backend_pid()
     order by a.xact_start
     limit 3
"""


def read_holders(conn: Connection[Any]) -> list[str]:
    """Return who holds the table, longest first."""
    with translated():
        return names(conn, _HOLDERS)


_PROGRESS = """
    select phase,
           coalesce(blocks_done::float8 / nullif(blocks_total, 0), 0)::float8,
           coalesce(tuples_done::float8 / nullif(tuples_total, 0), 0)::float8,
           nullif(current_locker_pid, 0)
      from pg_stat_progress_create_index
     where relid = %(oid)s and datname = current_database()
"""

# Phase: where it begins, how much of the whole it is, which of the two counters runs in it, and our words.
PHASES = {
    "building index: scanning table": (0.0, 0.45, "blocks", "reading the table"),
    "building index: sorting live tuples": (0.45, 0.0, "blocks", "sorting"),
    "building index: loading tuples in tree": (0.45, 0.1, "tuples", "writing the index"),
    "index validation: scanning index": (0.55, 0.05, "blocks", "checking the index"),
    "index validation: sorting tuples": (0.6, 0.0, "blocks", "sorting"),
    "index validation: scanning table": (0.6, 0.38, "blocks", "adding what was written meanwhile"),
}


def read_progress(conn: Connection[Any], oid: int) -> tuple[float, str]:
    """Return how much of a running build is done, from 0 to 1, and what it does, in plain words."""
    row = conn.execute(_PROGRESS, {"oid": oid}).fetchone()
    if row is None:
        return 0.0, "starting"
    phase, blocks, tuples, locker = row
    begin, size, counter, words = PHASES.get(phase, (0.0, 0.0, "blocks", phase))
    if locker is not None:
        words = f"waiting for the transaction of process {locker}, which began earlier"
    return begin + size * min(1.0, blocks if counter == "blocks" else tuples), words


_FIND_LONG = (
    "select id from public.user_analytics where length(session_id::text) > 500 "
    "or length(analytics_data -> 'ids' ->> 'ym_uid') > 500"
)


def why_not_built(index: WantedIndex, error: psycopg.Error, found: Found) -> Exception:
    """Return the error of ours for a build that failed: what happened and what to do."""
    failed = f"the index {index.name} could not be built"
    again = "then run closedloop adopt again: it goes on where it ended"
    match error:
        case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable():
            timeout = f"statement_timeout is {found.table.statement_timeout_ms / 1000:.0f} s"
            problem = f"{failed} in time ({safe_sentence(error)}; {timeout}); {SESSION_MODE}, {again}"
        case psycopg.errors.ProgramLimitExceeded():
            problem = (
                f"{failed}: some row has an identifier of thousands of characters ({safe_sentence(error)}); "
                f"find it with: {_FIND_LONG}; mend it, {again}"
            )
        case psycopg.errors.DiskFull():
            problem = (
                f"{failed}: the database's disk is full; free some {index.bytes // 2**20 + 1} MB, {again}"
            )
        case psycopg.errors.InsufficientPrivilege() | psycopg.errors.DataError():
            problem = f"{failed}: {safe_sentence(error)}; mend it, {again}"
        case _:
            return DatabaseAwayError(f"{failed}: {safe_sentence(error)}; {again}")
    return OperatorError(problem)


_RECORD = """
    insert into closedloop.session_table as known
           (id_type, session_id_type, data_type, has_site, has_generated, adopted_at)
    values (%(id_type)s, %(session_id_type)s, %(data_type)s, %(has_site)s, %(has_generated)s, %(now)s)
    on conflict (only_row) do update
       set id_type = excluded.id_type, session_id_type = excluded.session_id_type,
           data_type = excluded.data_type, has_site = excluded.has_site,
           has_generated = excluded.has_generated, adopted_at = excluded.adopted_at
"""


def record(conn: Connection[Any], table: SessionTable, now: datetime) -> None:
    """Write down the shape, in place of an earlier one; from now on the server works with the table."""
    conn.execute(_RECORD, {**msgspec.structs.asdict(table), "now": now})


def is_session_mode(conninfo: str) -> bool:
    """Return whether this address is Supabase's pooler in session mode, where settings stay ours.

    Source: docs/protocols/supabase.md, 1.2.
    """
    settings = conninfo_to_dict(conninfo)
    return (
        str(settings.get("host", "")).endswith(".pooler.supabase.com") and str(settings.get("port")) == "5432"
    )
