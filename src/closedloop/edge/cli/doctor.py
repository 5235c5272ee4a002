"""`closedloop doctor`: everything that has to be right, one line each, and how to mend what is not."""

import contextlib
import json
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from closedloop.config import read_config
from closedloop.domain.signing import SIGNING_PREFIX
from closedloop.edge.cli.database import database_of
from closedloop.edge.cli.doctor_check import FAIL, OK, WARN, Check
from closedloop.edge.cli.doctor_crm import crm_checks
from closedloop.edge.http.keys import is_supabase_key
from closedloop.errors import ClosedloopError, ConfigError, MigrationError, OperatorError
from closedloop.settings import Config
from closedloop.stages import clock
from closedloop.store.adopt_look import Found, look
from closedloop.store.adopt_plan import make_plan, policy_for
from closedloop.store.checks import (
    Rights,
    Server,
    read_api_rights,
    read_open_sessions,
    read_rights,
    read_server,
)
from closedloop.store.database import translated
from closedloop.store.migrate import pending
from closedloop.store.spool import Spool

MARKS = {OK: "✓", WARN: "!", FAIL: "✗"}

# A key of so many characters, so many of them different, is weak; with half of either it is none.
MIN_KEY, MIN_SIGNS = 16, 8
# What people make keys of; a key that is nothing else is tried early by whoever guesses.
COMMON = re.compile(
    "pass(word|wort)?|secret|token|key|web|hook|closed|loop|change|me|admin|user|login|default|example|sample"
    "|test|my|our|super|very|shop|site|crm|bitrix|amo|tilda|supabase|qwerty|uiop|asdf|ghjk|zxcv|abcdef"
)
MIN_LETTERS = 5
GIGABYTE = 1024**3
MIN_FREE = 100 * 1024**2
CLOCK_WARN_S, CLOCK_FAIL_S = 2, 60
FREE_PLAN = 500 * 1024**2  # Supabase's free plan turns read-only above it (docs/protocols/supabase.md, 6)
SHARE = 0.8
VERSIONS = range(15, 19)
TRANSACTION_PORT = 6543
LOOPBACK = ("localhost", "127.", "::1", "/")
OF_SERVER = ("writes", "clock", "size", "connections", "encryption", "pooler")
OF_SCHEMA = ("rights", "row level security", "migrations", "sessions", "REST API", "sessions in public")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor` is asked for."""

    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Check and print; the exit code is 1 when something failed."""
    checks = list(examine(wanted))
    if wanted.as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(checks), ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write("".join(lines_of(check) for check in checks))
    return int(any(check.state == FAIL for check in checks))


def lines_of(check: Check) -> str:
    """Return a check as a person reads it."""
    mend = f"         to mend it: {check.mend}\n" if check.mend else ""
    return f"{MARKS[check.state]} {check.state:<5} {check.check}: {check.seen}\n{mend}"


def examine(wanted: Wanted) -> Iterator[Check]:
    """Yield every check; one that needs what is not there says that it was not made."""
    try:
        settings = read_config(config=wanted.config, data_dir=wanted.data_dir)
    except ConfigError as error:
        for mistake in error.mistakes:
            yield Check(check="configuration", state=FAIL, seen=mistake, mend="correct it and run this again")
        yield from not_checked("configuration", ("data folder", "database"))
        return
    made = f"; a key was made now: {settings.data_dir / 'webhook.key'}" if settings.new_webhook_key else ""
    yield Check(check="configuration", state=OK, seen=f"sites: {', '.join(settings.sites)}{made}")
    yield from local_checks(settings)
    try:
        with database_of(wanted.config, wanted.data_dir) as (_, conninfo):
            yield from database_checks(settings, conninfo)
            yield from crm_checks(settings, conninfo)
    except OperatorError as error:
        mend = "correct DATABASE_URL or the data folder"
        yield Check(check="database", state=FAIL, seen=str(error), mend=mend)
        yield from not_checked("database", (*OF_SERVER, *OF_SCHEMA))


def not_checked(reason: str, names: Sequence[str]) -> Iterator[Check]:
    """Yield one line for each check that could not be made."""
    for name in names:
        yield Check(check=name, state=WARN, seen="not checked", mend=f"mend first what failed: {reason}")


def local_checks(settings: Config) -> Iterator[Check]:
    """Yield what can be seen on this machine alone."""
    yield check_folder(settings.data_dir)
    yield check_key_files(settings.data_dir)
    yield check_disk(shutil.disk_usage(settings.data_dir).free)
    yield check_spool(settings.data_dir / "spool.sqlite3")
    for name, site in settings.sites.items():
        for key in site.webhook_keys:
            yield check_key(name, key)
        if not site.webhook_keys:
            yield Check(
                check=f"key of {name}",
                state=WARN,
                seen="the site has no key, so nothing is taken for it",
                mend=f"set sites.{name}.webhook_keys",
            )


def check_folder(folder: Path) -> Check:
    """Return whether the data folder takes files."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check(check="data folder", state=OK, seen=f"{folder}, writable")
    except OSError as error:
        seen = f"{folder} takes no files: {error.strerror}"
        mend = "let the user that runs closedloop write there, or name another folder with --data-dir"
        return Check(check="data folder", state=FAIL, seen=seen, mend=mend)


def check_key_files(folder: Path) -> Check:
    """Return whether nobody else may read the keys in the data folder."""
    keys = [folder / "deployment.key", folder / "webhook.key"]
    wide = [str(key) for key in keys if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077]
    if wide:
        seen = f"can be read by others: {', '.join(wide)}"
        return Check(check="key files", state=FAIL, seen=seen, mend=f"chmod 600 {' '.join(wide)}")
    return Check(check="key files", state=OK, seen="mode 600")


def check_disk(free: int) -> Check:
    """Return whether the spool has room for an outage, given the free bytes."""
    state = FAIL if free < MIN_FREE else WARN if free < GIGABYTE else OK
    mend = "" if state == OK else "free space: while the database is away webhooks are kept here"
    return Check(check="disk", state=state, seen=f"{free / GIGABYTE:.1f} GB free", mend=mend)


def check_spool(path: Path) -> Check:
    """Return whether something waits in the spool that should not."""
    if not path.exists():
        return Check(check="spool", state=OK, seen="empty")
    try:
        with contextlib.closing(Spool(path)) as spool:
            waiting, parked = spool.count()
    except OperatorError as error:
        return Check(check="spool", state=FAIL, seen=str(error), mend="move the file away and start again")
    seen = f"{waiting} waiting, {parked} set aside"
    if parked:
        mend = "the database refused them; the server's log has the reason under spool_parked"
        return Check(check="spool", state=WARN, seen=seen, mend=mend)
    mend = "they are recorded as soon as the server runs and the database takes writes" if waiting else ""
    return Check(check="spool", state=WARN if waiting else OK, seen=seen, mend=mend)


def check_key(site: str, key: str) -> Check:
    """Return whether a key of ours can be guessed or is everybody's; never shows it."""
    name = f"key of {site}"
    make = "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
    if is_supabase_key(key.encode()):
        return Check(check=name, state=FAIL, seen="is a key of Supabase, which others know", mend=make)
    signs = len(set(key))
    rest, words = COMMON.subn("", key.lower())
    if words and sum(map(str.isalpha, rest)) < MIN_LETTERS:
        return Check(check=name, state=FAIL, seen="is made of common words and digits", mend=make)
    if not key.startswith(SIGNING_PREFIX) and (len(key) < MIN_KEY or signs < MIN_SIGNS):
        state = FAIL if len(key) < MIN_KEY // 2 or signs < MIN_SIGNS // 2 else WARN
        seen = f"{len(key)} characters, {signs} different ones: it can be guessed"
        return Check(check=name, state=state, seen=seen, mend=make)
    return Check(check=name, state=OK, seen=f"{len(key)} characters")


def database_checks(settings: Config, conninfo: str) -> Iterator[Check]:
    """Yield what the database says, or that it cannot be reached."""
    told = conninfo_to_dict(conninfo)
    place = f"{told.get('user') or ''}@{told.get('host') or 'local socket'}:{told.get('port') or 5432}"
    try:
        with translated():
            conn = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    except ClosedloopError as error:
        mend = "is it running, are the address and the password right, may this machine reach it?"
        yield Check(check="database", state=FAIL, seen=f"{place}: {error}", mend=mend)
        yield from not_checked("database", (*OF_SERVER, *OF_SCHEMA))
        return
    try:
        with contextlib.closing(conn):
            server = read_server(conn)
            yield from server_checks(conn, server, place)
            yield from schema_checks(settings, conn)
    except ClosedloopError as error:
        seen, mend = f"{place}: {error}", "mend what it says and run this again; the rest was not checked"
        yield Check(check="database", state=FAIL, seen=seen, mend=mend)


def server_checks(conn: Connection[Any], server: Server, place: str) -> Iterator[Check]:
    """Yield what concerns the server as a whole."""
    host = conn.info.host
    major = server.version // 10000
    yield Check(
        check="database",
        state=OK if major in VERSIONS else WARN,
        seen=f"PostgreSQL {major} at {place}",
        mend="" if major in VERSIONS else "tested are PostgreSQL 15 to 18",
    )
    yield Check(
        check="writes",
        state=FAIL if server.read_only else OK,
        seen="refused: read-only or a standby" if server.read_only else "taken",
        mend="free space (Supabase: above 500 MB), or use the primary" if server.read_only else "",
    )
    yield check_clock(abs((clock.now() - server.at).total_seconds()))
    yield check_size(server, host)
    used = server.connections / server.max_connections
    yield Check(
        check="connections",
        state=WARN if used > SHARE else OK,
        seen=f"{server.connections} of {server.max_connections} in use",
        mend="a process of ours takes up to five; use a pooler or end others" if used > SHARE else "",
    )
    yield check_encryption(host, encrypted=conn.pgconn.ssl_in_use)
    yield check_pooler(conn, server)


def check_encryption(host: str, *, encrypted: bool) -> Check:
    """Return whether somebody on the way to another machine could read along."""
    if encrypted:
        return Check(check="encryption", state=OK, seen="TLS")
    if not host or host.startswith(LOOPBACK):
        return Check(check="encryption", state=OK, seen="not needed: the database is on this machine")
    mend = "add sslmode=require to DATABASE_URL"
    return Check(check="encryption", state=WARN, seen=f"none on the way to {host}", mend=mend)


def check_clock(seconds: float) -> Check:
    """Return whether this machine and the database agree on the time."""
    state = FAIL if seconds > CLOCK_FAIL_S else WARN if seconds > CLOCK_WARN_S else OK
    mend = "" if state == OK else "set this machine's clock by NTP: conversions would get wrong times"
    return Check(check="clock", state=state, seen=f"{seconds:.1f} s from the database's", mend=mend)


def check_size(server: Server, host: str) -> Check:
    """Return the size of the database, and whether Supabase's free plan is nearly full."""
    full = host.endswith((".supabase.co", ".supabase.com")) and server.database_size > SHARE * FREE_PLAN
    mend = "on the free plan it turns read-only at 500 MB: free space or change the plan" if full else ""
    seen = f"{server.database_size / 1024**2:.0f} MB"
    return Check(check="size", state=WARN if full else OK, seen=seen, mend=mend)


def check_pooler(conn: Connection[Any], server: Server) -> Check:
    """Return whether a pooler stands between; all of them serve, in transaction mode as well."""
    if conn.info.port == TRANSACTION_PORT:
        seen = "pooled: transaction mode (port 6543); nothing is prepared by name"
    elif conn.info.backend_pid != server.backend_pid:
        seen = "pooled; nothing is prepared by name"
    else:
        seen = "direct, or session mode"
    return Check(check="pooler", state=OK, seen=seen)


def schema_checks(settings: Config, conn: Connection[Any]) -> Iterator[Check]:
    """Yield what concerns our schema and the sessions."""
    rights = read_rights(conn)
    yield check_rights(rights)
    yield check_row_security(rights)
    if rights.use_schema is False:
        yield from not_checked("rights", ("migrations", "sessions"))
    else:
        yield from shape_checks(settings, conn)
    yield check_api(read_api_rights(conn) if rights.use_schema is not None else ())
    yield check_open(read_open_sessions(conn))


def shape_checks(settings: Config, conn: Connection[Any]) -> Iterator[Check]:
    """Yield whether our tables are those of this version, then whether the sessions fit them."""
    try:
        with translated():
            missing = [f"{one.version}_{one.name}" for one in pending(conn)]
    except MigrationError as error:
        mend = "install the version that made them"
        yield Check(check="migrations", state=FAIL, seen=str(error), mend=mend)
        yield from not_checked("migrations", ("sessions",))
        return
    if missing:
        seen = f"to be applied: {', '.join(missing)}"
        yield Check(check="migrations", state=FAIL, seen=seen, mend="run: closedloop migrate")
        yield from not_checked("migrations", ("sessions",))
        return
    yield Check(check="migrations", state=OK, seen="current")
    found = look(conn)
    if found is None:
        mend = "bring it back from a backup: the migrations have made it once and do not make it again"
        yield Check(check="sessions", state=FAIL, seen="public.user_analytics is not there", mend=mend)
    else:
        yield check_adopted(settings, found)


def check_adopted(settings: Config, found: Found) -> Check:
    """Return whether the table is as the statements need it, its indexes whole."""
    if found.recorded is None:
        seen = "public.user_analytics is yours and not adopted"
        return Check(check="sessions", state=FAIL, seen=seen, mend="run: closedloop adopt")
    # Whether our role could adopt it now does not matter: somebody has.
    table = msgspec.structs.replace(
        found.table, owned=True, may_index=True, may_read=True, may_update=True, read_only=False
    )
    plan = make_plan(msgspec.structs.replace(found, table=table), [], list(settings.sites))
    if plan.refusals:
        one = plan.refusals[0]
        return Check(check="sessions", state=FAIL, seen=one.problem, mend=one.mend)
    columns = "columns" if plan.record is not None or plan.add_site else ""
    broken = [f"index {one.name} {'broken' if one.rebuild else 'missing'}" for one in plan.indexes]
    if columns or broken:
        seen = f"changed since adoption: {', '.join(filter(None, [columns, *broken]))}"
        return Check(check="sessions", state=FAIL, seen=seen, mend="run: closedloop adopt")
    rows = f"{'' if found.counted else 'about '}{found.rows:,} rows"
    return Check(check="sessions", state=OK, seen=f"{rows}, columns as recorded, indexes whole")


def check_rights(rights: Rights) -> Check:
    """Return whether our role may do what the server does."""
    wanted = {
        "select on public.user_analytics": rights.select_sessions,
        "update on public.user_analytics": rights.update_sessions,
        "usage on schema closedloop": rights.use_schema,
        "select, insert, update, delete on all tables in schema closedloop": rights.read_schema,
    }
    lacking = [name for name, given in wanted.items() if given is False]
    if not lacking:
        return Check(check="rights", state=OK, seen=f"{rights.role} has what it needs")
    mend = "; ".join(f'grant {name} to "{rights.role}"' for name in lacking)
    return Check(check="rights", state=FAIL, seen=f"{rights.role} lacks {', '.join(lacking)}", mend=mend)


def check_row_security(rights: Rights) -> Check:
    """Return whether sessions are hidden from our role."""
    name = "row level security"
    if rights.rows_hidden:
        return Check(
            check=name, state=FAIL, seen="may hide sessions from our role", mend=policy_for(rights.role)
        )
    return Check(check=name, state=OK, seen="hides nothing from our role")


def check_api(given: Sequence[str]) -> Check:
    """Return whether the roles of the REST API have nothing in our schema."""
    roles = ", ".join(sorted({one.partition(":")[0] for one in given}))
    mend = (
        f"revoke all on schema closedloop from public, {roles}; "
        f"revoke all on all tables in schema closedloop from public, {roles}"
    )
    return listed_check("REST API", given, FAIL, mend)


def check_open(given: Sequence[str]) -> Check:
    """Return whether anybody may read or overwrite all sessions; closedloop never changes that."""
    mend = "anybody with the page's key can; a script that only adds rows needs no more than insert"
    return listed_check("sessions in public", given, WARN, mend)


def listed_check(name: str, found: Sequence[str], state: str, mend: str) -> Check:
    """Return one check that is in order when its list is empty."""
    if found:
        return Check(check=name, state=state, seen=", ".join(found), mend=mend)
    return Check(check=name, state=OK, seen="nothing is open")
