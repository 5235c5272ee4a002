"""doctor says what is wrong before a sale is lost to it, and how to mend it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from closedloop.edge.cli.doctor import (
    GIGABYTE,
    MIN_FREE,
    check_clock,
    check_disk,
    check_encryption,
    check_folder,
    check_key,
    check_key_files,
    check_size,
)
from closedloop.store.checks import Server
from closedloop.store.spool import Spool
from fix_adopt import PREDECESSOR, make_database, run_command
from fix_pgbouncer import PoolerUrl
from fix_postgres import Cluster

SUPABASE = "db.x.supabase.co"

Examine = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Give doctor's exit code and its checks by name."""

    def run(url: str) -> tuple[int, dict[str, dict[str, Any]]]:
        done = run_command(url, tmp_path, "doctor", "--json")
        return done.returncode, {check["check"]: check for check in json.loads(done.stdout)}

    return run


@pytest.fixture
def healthy(postgres: Cluster, tmp_path: Path) -> str:
    """Give a database in which everything is right."""
    url = make_database(postgres)
    assert run_command(url, tmp_path, "migrate").returncode == 0
    return url


def change(url: str, *statements: str) -> None:
    """Run statements in a database."""
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def test_healthy_deployment_has_nothing_to_mend(healthy: str, examine: Examine) -> None:
    """A doctor who always finds something is not asked again."""
    code, checks = examine(healthy)

    assert code == 0
    assert {check["state"] for check in checks.values()} == {"ok"}
    assert {
        "database",
        "pooler",
        "clock",
        "disk",
        "migrations",
        "row level security",
        "key of default",
    } <= set(checks)


def test_every_line_has_a_word_and_a_mark(healthy: str, tmp_path: Path) -> None:
    """Colour alone says nothing to many, and nothing in a log."""
    lines = run_command(healthy, tmp_path, "doctor").stdout.splitlines()

    assert len(lines) > 10
    assert all(line.startswith("✓ ok    ") for line in lines)


def test_missing_migrations_are_told(postgres: Cluster, examine: Examine) -> None:
    """The first thing that is forgotten."""
    code, checks = examine(make_database(postgres))

    assert code == 1
    assert checks["migrations"]["mend"] == "run: closedloop migrate"


def test_table_that_is_not_adopted_is_told(postgres: Cluster, tmp_path: Path, examine: Examine) -> None:
    """The second."""
    url = make_database(postgres, PREDECESSOR)
    run_command(url, tmp_path, "migrate")

    code, checks = examine(url)

    assert code == 1
    assert checks["sessions"]["mend"] == "run: closedloop adopt"


def test_lost_index_is_told(postgres: Cluster, tmp_path: Path, examine: Examine) -> None:
    """Somebody tidied up; from then on every webhook reads the whole table."""
    url = make_database(postgres, PREDECESSOR)
    run_command(url, tmp_path, "adopt", "--yes")
    change(url, "drop index public.user_analytics_closedloop_session")

    code, checks = examine(url)

    assert code == 1
    assert "user_analytics_closedloop_session" in checks["sessions"]["seen"]


def test_hidden_sessions_are_told_with_the_policy(healthy: str, examine: Examine) -> None:
    """With row level security in the way every deal would be unmatched, and nothing would look broken."""
    change(
        healthy,
        "do $$ begin create role closedloop_app login; exception when duplicate_object then end $$",
        "grant usage on schema closedloop to closedloop_app",
        "grant all on all tables in schema closedloop to closedloop_app",
        "grant select, update on public.user_analytics to closedloop_app",
    )

    code, checks = examine(healthy.replace("postgres@", "closedloop_app@"))

    assert code == 1
    assert (
        'create policy closedloop on public.user_analytics for all to "closedloop_app"'
        in (checks["row level security"]["mend"])
    )


def test_open_table_is_told_and_not_changed(postgres: Cluster, tmp_path: Path, examine: Examine) -> None:
    """It is theirs to decide; ours to say."""
    grant = "grant select, update on public.user_analytics to anon"
    url = make_database(postgres, PREDECESSOR, grant)
    run_command(url, tmp_path, "adopt", "--yes")

    code, checks = examine(url)

    assert code == 0
    assert checks["sessions in public"]["state"] == "warn"
    assert "anon may update" in checks["sessions in public"]["seen"]


def test_read_only_database_is_told(healthy: str, examine: Examine) -> None:
    """A full Supabase project still answers, and takes nothing."""
    name = healthy.rpartition("/")[2]
    change(healthy, f"alter database {name} set default_transaction_read_only = on")

    code, checks = examine(healthy)

    assert code == 1
    assert checks["writes"]["state"] == "fail"


def test_pooler_is_told(healthy: str, pgbouncer: PoolerUrl, examine: Examine) -> None:
    """Whoever looks for a fault has to know what stands between."""
    code, checks = examine(pgbouncer(healthy.rpartition("/")[2]))

    assert code == 0
    assert "nothing is prepared by name" in checks["pooler"]["seen"]


def test_unreachable_database_leaves_the_rest_unchecked(examine: Examine) -> None:
    """The rest cannot be known then, and is not claimed."""
    code, checks = examine("postgresql://postgres:hunter2@127.0.0.1:1/x")

    assert code == 1
    assert checks["database"]["state"] == "fail"
    assert "hunter2" not in json.dumps(checks)
    assert checks["migrations"]["seen"] == "not checked"


def test_local_faults_are_told(healthy: str, tmp_path: Path, examine: Examine) -> None:
    """Keys that others can read, and webhooks that the database refused."""
    examine(healthy)
    spool = Spool(tmp_path / "data" / "spool.sqlite3")
    spool.keep([b"x"])
    spool.park(1, "refused")
    spool.close()
    (tmp_path / "data" / "webhook.key").write_text("aaaaaaaaaaaaaaaaaaaaaaaa")

    code, checks = examine(healthy)

    assert code == 1
    assert checks["spool"]["state"] == "warn"
    assert checks["key of default"]["seen"] == "24 characters, 1 different ones: it can be guessed"


APP = (
    "do $$ begin create role closedloop_app login; exception when duplicate_object then end $$",
    "grant usage on schema closedloop to closedloop_app",
    "grant all on all tables in schema closedloop to closedloop_app",
    "grant select, update on public.user_analytics to closedloop_app",
    "create policy closedloop on public.user_analytics for all to closedloop_app using (true)",
)


def test_role_with_the_policy_and_the_rights_is_healthy(healthy: str, examine: Examine) -> None:
    """What doctor told to do has to end the complaint."""
    change(healthy, *APP)

    code, checks = examine(healthy.replace("postgres@", "closedloop_app@"))

    assert code == 0
    assert {check["state"] for check in checks.values()} == {"ok"}


def test_missing_rights_are_told_with_the_grants(healthy: str, examine: Examine) -> None:
    """A role of its own is safer than postgres, and easily given too little."""
    lost = "revoke update on public.user_analytics from closedloop_app"
    change(healthy, *APP, lost, "revoke usage on schema closedloop from closedloop_app")

    code, checks = examine(healthy.replace("postgres@", "closedloop_app@"))

    assert code == 1
    assert 'grant update on public.user_analytics to "closedloop_app"' in checks["rights"]["mend"]
    assert 'grant usage on schema closedloop to "closedloop_app"' in checks["rights"]["mend"]
    assert checks["migrations"]["seen"] == "not checked"


def test_rights_of_the_api_roles_are_told(healthy: str, examine: Examine) -> None:
    """Phones and sums stand in our schema; whoever has the page's key would read them."""
    change(healthy, "grant usage on schema closedloop to anon")

    code, checks = examine(healthy)

    assert code == 1
    assert "revoke all on schema closedloop from public, anon" in checks["REST API"]["mend"]


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("passwordpassword123", "fail"),
        ("my-super-secret-key-2026", "fail"),
        ("0123456789abcdef", "fail"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl", "fail"),
        ("Zk3v9q-2LmX0pQs7TtWc", "ok"),
        ("9f86d081884c7d659a2feaa0c55ad015", "ok"),
    ],
)
def test_key_that_is_guessed_first_is_told(key: str, state: str) -> None:
    """Length says little of a key that people think of first, and a random one must not be suspected."""
    check = check_key("default", key)

    assert check.state == state
    assert key not in check.seen + check.mend


@pytest.mark.parametrize(("seconds", "state"), [(0.0, "ok"), (2.0, "ok"), (2.1, "warn"), (60.1, "fail")])
def test_clock_that_is_wrong_is_told(seconds: float, state: str) -> None:
    """The platforms refuse conversions from the future, and count old ones for nothing."""
    check = check_clock(seconds)

    assert (check.state, "NTP" in check.mend) == (state, state != "ok")


@pytest.mark.parametrize(
    ("size_mb", "host", "state"),
    [(399, SUPABASE, "ok"), (401, SUPABASE, "warn"), (4000, "10.0.0.1", "ok")],
)
def test_free_plan_that_is_nearly_full_is_told(size_mb: int, host: str, state: str) -> None:
    """Supabase's free plan turns read-only at 500 MB, in the middle of the day with the most sales."""
    server = Server(
        version=170000,
        read_only=False,
        at=datetime(2026, 11, 24, tzinfo=UTC),
        database_size=size_mb * 1024**2,
        connections=1,
        max_connections=100,
        backend_pid=1,
    )

    assert check_size(server, host).state == state


@pytest.mark.parametrize(
    ("host", "encrypted", "state"),
    [("", False, "ok"), ("127.0.0.1", False, "ok"), ("10.0.0.1", True, "ok"), ("10.0.0.1", False, "warn")],
)
def test_open_way_to_the_database_is_told(host: str, encrypted: bool, state: str) -> None:  # noqa: FBT001
    """Phones travel on it."""
    assert check_encryption(host, encrypted=encrypted).state == state


@pytest.mark.parametrize(
    ("free", "state"), [(GIGABYTE, "ok"), (GIGABYTE - 1, "warn"), (MIN_FREE - 1, "fail")]
)
def test_full_disk_is_told(free: int, state: str) -> None:
    """What comes while the database is away has no other place."""
    assert check_disk(free).state == state


def test_folder_that_takes_no_files_is_told(tmp_path: Path) -> None:
    """It belongs to another user after a start with sudo."""
    assert [check_folder(folder).state for folder in (tmp_path, tmp_path / "gone")] == ["ok", "fail"]


@pytest.mark.parametrize(("mode", "state"), [(0o600, "ok"), (0o640, "fail"), (0o604, "fail")])
def test_key_that_others_may_read_is_told(tmp_path: Path, mode: int, state: str) -> None:
    """With the deployment's key a copy of the database gives every phone in it."""
    (tmp_path / "deployment.key").touch()
    (tmp_path / "deployment.key").chmod(mode)

    check = check_key_files(tmp_path)

    assert (check.state, str(tmp_path / "deployment.key") in check.mend) == (state, state == "fail")


def test_index_that_broke_while_it_was_built_is_told(
    postgres: Cluster, tmp_path: Path, examine: Examine
) -> None:
    """An index that a cut connection left invalid costs on every write and answers nothing."""
    url = make_database(postgres, PREDECESSOR)
    run_command(url, tmp_path, "adopt", "--yes")
    broken = (
        "update pg_index set indisvalid = false"
        " where indexrelid = 'user_analytics_closedloop_session'::regclass"
    )
    change(url, broken)

    code, checks = examine(url)

    assert code == 1
    assert "index user_analytics_closedloop_session broken" in checks["sessions"]["seen"]
