"""`closedloop doctor`: everything that has to be right, one line each, and how to mend what is not."""

import contextlib
import json
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from closedloop.config import SIGNING_PREFIX, Config
from closedloop.edge.cli.database import database_of
from closedloop.edge.http.keys import is_supabase_key
from closedloop.errors import ClosedloopError, ConfigError, OperatorError
from closedloop.stages import clock
from closedloop.store.adopt_look import Found, look
from closedloop.store.adopt_plan import make_plan, policy_for
from closedloop.store.checks import (
    Server,
    read_api_rights,
    read_open_sessions,
    read_rights,
    read_server,
)
from closedloop.store.database import translated
from closedloop.store.migrate import pending
from closedloop.store.spool import Spool

OK, WARN, FAIL = "ok", "warn", "fail"
MARKS = {OK: "✓", WARN: "!", FAIL: "✗"}

MIN_KEY = 16
MIN_SIGNS = 6
GIGABYTE = 1024**3
MIN_FREE = 100 * 1024**2
CLOCK_WARN_S, CLOCK_FAIL_S = 2, 60
FREE_PLAN = 500 * 1024**2  # Supabase's free plan turns read-only above it (docs/protocols/supabase.md, 6)
SHARE = 0.8
VERSIONS = range(15, 19)
TRANSACTION_PORT = "6543"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `mend` is empty when there is nothing to mend."""

    check: str
    state: str
    seen: str
    mend: str = ""


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
    """Yield every check; what needs the database is left out, and said so, when it is away."""
    try:
        with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
            yield Check(check="configuration", state=OK, seen=f"{len(settings.sites)} site(s)")
            yield from local_checks(settings)
            yield from database_checks(settings, conninfo)
    except ConfigError as error:
        for mistake in error.mistakes:
            yield Check(check="configuration", state=FAIL, seen=mistake, mend="correct it and run this again")
    except OperatorError as error:
        yield Check(
            check="database", state=FAIL, seen=str(error), mend="correct DATABASE_URL or the data folder"
        )


def local_checks(settings: Config) -> Iterator[Check]:
    """Yield what can be seen on this machine alone."""
    yield check_key_files(settings.data_dir)
    yield check_disk(settings.data_dir)
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


def check_key_files(folder: Path) -> Check:
    """Return whether nobody else may read the keys in the data folder."""
    keys = [folder / "deployment.key", folder / "webhook.key"]
    wide = [str(key) for key in keys if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077]
    if wide:
        return Check(
            check="key files", state=FAIL, seen=f"{', '.join(wide)} can be read by others", mend="chmod 600"
        )
    return Check(check="key files", state=OK, seen=f"{folder}, mode 600")


def check_disk(folder: Path) -> Check:
    """Return whether the spool has room for an outage."""
    free = shutil.disk_usage(folder).free
    state = FAIL if free < MIN_FREE else WARN if free < GIGABYTE else OK
    mend = "" if state == OK else "free space: while the database is away webhooks are kept here"
    return Check(check="disk", state=state, seen=f"{free / GIGABYTE:.1f} GB free", mend=mend)


def check_spool(path: Path) -> Check:
    """Return whether something waits in the spool that should not."""
    if not path.exists():
        return Check(check="spool", state=OK, seen="empty")
    spool = Spool(path)
    waiting, parked = spool.count()
    spool.close()
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
    if not key.startswith(SIGNING_PREFIX) and (len(key) < MIN_KEY or len(set(key)) < MIN_SIGNS):
        return Check(check=name, state=FAIL, seen=f"{len(key)} characters, easily guessed", mend=make)
    return Check(check=name, state=OK, seen=f"{len(key)} characters")


def database_checks(settings: Config, conninfo: str) -> Iterator[Check]:
    """Yield what the database says, or one line that it cannot be reached."""
    host = str(conninfo_to_dict(conninfo).get("host") or "local socket")
    try:
        with translated():
            conn = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    except ClosedloopError as error:
        mend = "is it running, is the address right, may this machine reach it? All else is not checked"
        yield Check(check="database", state=FAIL, seen=f"{host}: {error}", mend=mend)
        return
    with contextlib.closing(conn):
        server = read_server(conn)
        yield from server_checks(server, host)
        yield check_pooler(conn, server, conninfo)
        yield from schema_checks(settings, conn)


def server_checks(server: Server, host: str) -> Iterator[Check]:
    """Yield what concerns the server as a whole."""
    major = server.version // 10000
    yield Check(
        check="database",
        state=OK if major in VERSIONS else WARN,
        seen=f"PostgreSQL {major} at {host}",
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
    if "." in host and not host.startswith(("127.", "/")) and not server.encrypted:
        yield Check(check="encryption", state=WARN, seen="none", mend="add sslmode=require to DATABASE_URL")


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


def check_pooler(conn: Connection[Any], server: Server, conninfo: str) -> Check:
    """Return whether a pooler stands between; all of them serve, in transaction mode as well."""
    if conn.info.backend_pid == server.backend_pid:
        return Check(check="pooler", state=OK, seen="none: direct, or session mode")
    port = str(conninfo_to_dict(conninfo).get("port") or "")
    mode = "transaction mode" if port == TRANSACTION_PORT else "transaction or session mode"
    return Check(check="pooler", state=OK, seen=f"{mode}; nothing is prepared by name")


def schema_checks(settings: Config, conn: Connection[Any]) -> Iterator[Check]:
    """Yield what concerns our schema and the sessions; stops where the next would make no sense."""
    try:
        missing = pending(conn)
    except ClosedloopError as error:
        yield Check(
            check="migrations", state=FAIL, seen=str(error), mend="install the version that made them"
        )
        return
    if missing:
        seen = f"{len(missing)} to apply"
        yield Check(check="migrations", state=FAIL, seen=seen, mend="run: closedloop migrate")
        return
    yield Check(check="migrations", state=OK, seen="current")
    found = look(conn)
    if found is None:
        mend = "it was dropped; run: closedloop migrate on a new database, or bring it back"
        yield Check(check="sessions", state=FAIL, seen="public.user_analytics is not there", mend=mend)
        return
    yield check_adopted(settings, found)
    yield from rights_checks(conn)


def check_adopted(settings: Config, found: Found) -> Check:
    """Return whether the table is as the statements need it, its indexes whole."""
    plan = make_plan(found, [], list(settings.sites))
    if found.recorded is None:
        seen = "public.user_analytics is yours and not adopted"
        return Check(check="sessions", state=FAIL, seen=seen, mend="run: closedloop adopt")
    if plan.refusals:
        one = plan.refusals[0]
        return Check(check="sessions", state=FAIL, seen=one.problem, mend=one.mend)
    if not plan.is_done and not is_own(found):
        broken = ", ".join(index.name for index in plan.indexes) or "its shape"
        seen = f"has changed since it was adopted: {broken}"
        return Check(check="sessions", state=FAIL, seen=seen, mend="run: closedloop adopt")
    return Check(check="sessions", state=OK, seen=f"{found.rows:,} rows, indexes whole")


def is_own(found: Found) -> bool:
    """Return whether `migrate` made the table: its three indexes have other names."""
    ours = {"user_analytics_session", "user_analytics_ym_uid", "user_analytics_yclid"}
    return ours <= {index.name for index in found.indexes if index.valid}


def rights_checks(conn: Connection[Any]) -> Iterator[Check]:
    """Yield who may do what: our role enough, the REST API's roles nothing with what is ours."""
    rights = read_rights(conn)
    lacking = [
        name
        for name, given in (
            ("select on public.user_analytics", rights.select_sessions),
            ("update on public.user_analytics", rights.update_sessions),
            ("usage on schema closedloop", rights.use_schema),
        )
        if not given
    ]
    yield Check(
        check="rights",
        state=FAIL if lacking else OK,
        seen=f"{rights.role} lacks {', '.join(lacking)}" if lacking else f"{rights.role} has what it needs",
        mend="".join(f"grant {one} to {rights.role}; " for one in lacking),
    )
    yield Check(
        check="row level security",
        state=FAIL if rights.rows_hidden else OK,
        seen="hides sessions from our role" if rights.rows_hidden else "hides nothing from our role",
        mend=policy_for(rights.role) if rights.rows_hidden else "",
    )
    yield from listed_check("REST API", read_api_rights(conn), FAIL, "revoke it, or run: closedloop migrate")
    mend = "whoever reads the page's key can; a script needs insert only (docs/protocols/supabase.md, 3.3)"
    yield from listed_check("sessions in public", read_open_sessions(conn), WARN, mend)


def listed_check(name: str, found: Sequence[str], state: str, mend: str) -> Iterator[Check]:
    """Yield one check that is in order when its list is empty."""
    if found:
        yield Check(check=name, state=state, seen=", ".join(found), mend=mend)
    else:
        yield Check(check=name, state=OK, seen="nothing is open")
