"""Adoption of tables that people have: nothing of theirs changes, and the server works with them."""

from pathlib import Path

import psycopg
import pytest

from closedloop.store.adopt import Adoption
from fix_adopt import (
    FOREIGN,
    ODD,
    PREDECESSOR,
    PREDECESSOR_ROWS,
    Script,
    make_database,
    run_command,
    state_of,
)
from fix_flow import OpenTables
from fix_postgres import Cluster
from fix_server import MakeServer

MILLION = 1_000_000
MOMENT_S = 2.0
KNOWN = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"


def test_million_rows_are_adopted_while_a_script_writes(
    postgres: Cluster, tmp_path: Path, server: MakeServer, open_tables: OpenTables
) -> None:
    """The owner's site goes on selling meanwhile; a minute without sessions is a minute without a trace."""
    url = make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=MILLION))
    before = state_of(url)
    script = Script(url)
    script.start()

    adopted = run_command(url, tmp_path, "adopt", "--yes")
    script.stop()
    goals = open_tables(url)
    reply = server(database_url=url).post({"ym_uid": str(1741000000000000000 + 7), "deal_id": "1"})

    assert (adopted.returncode, adopted.stderr) == (0, "")
    assert script.slowest_s < MOMENT_S
    assert (
        goals.one("select count(*) from user_analytics where session_id like 'script-%%'") == script.written
    )
    assert reply.status == 200
    row = reply.json()["updated_session"]
    assert goals.one("select jsonb_array_length(analytics_data #> '{target_actions,yandex_goals_triggered}')"
                     " from user_analytics where id = %s", row) == 2  # fmt: skip
    assert state_of_others(before, url)


def state_of_others(before: dict[str, object], url: str) -> bool:
    """Return whether all is as before but the one row that the webhook credited."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "update public.user_analytics set analytics_data = jsonb_set(analytics_data,"
            " '{target_actions,yandex_goals_triggered}',"
            " (analytics_data #> '{target_actions,yandex_goals_triggered}') - 1)"
            ' where analytics_data @> \'{"target_actions": {"yandex_goals_triggered": [{"deal_id": "1"}]}}\''
        )
    return state_of(url) == before


def test_odd_table_is_adopted_unharmed(
    postgres: Cluster, tmp_path: Path, server: MakeServer, open_tables: OpenTables
) -> None:
    """Theirs is `json`, has a view, policies and rows that jsonb cannot hold; none of it is our business."""
    url = make_database(postgres, ODD)
    before = state_of(url)

    adopted = run_command(url, tmp_path, "adopt", "--yes")
    after = state_of(url)
    running = server(database_url=url)
    reply = running.post({"session_id": "s-1", "deal_id": "1"})
    others = running.post({"session_id": "s-2", "deal_id": "2"}), running.post({"session_id": "s-3"})

    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert after == before
    assert reply.json() == {"success": True, "updated_session": 1}
    assert [other.status for other in others] == [200, 200]
    tables = open_tables(url)
    text = str(tables.one("select analytics_data::text from user_analytics where id = 1"))
    assert '{"ym_uid": "1741000000123456789"}' in text
    assert "1.50" in text
    assert text.count('"deal_id"') == 1
    assert "\\u0000" in tables.one("select analytics_data::text from user_analytics where id = 2")


def test_table_with_columns_of_our_names_is_adopted(
    postgres: Cluster, tmp_path: Path, server: MakeServer, open_tables: OpenTables
) -> None:
    """A column `site` of theirs means something else; it is left alone, and one site is served."""
    url = make_database(postgres, FOREIGN)
    before = state_of(url)

    adopted = run_command(url, tmp_path, "adopt", "--yes")
    after = state_of(url)
    running = server(database_url=url)
    replies = [
        running.post({"session_id": KNOWN, "deal_id": "1"}),
        running.post({"yclid": "55", "deal_id": "2"}),
        running.post({"session_id": "no uuid at all", "deal_id": "3"}),
    ]

    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert "A column site of yours is there" in adopted.stdout
    assert after == before
    assert [reply.status for reply in replies] == [200, 200, 404]
    assert replies[0].json()["updated_session"] == "row-1"
    assert open_tables(url).one("select count(*) from user_analytics where site = 7") == 1


def test_second_run_has_nothing_to_do(postgres: Cluster, tmp_path: Path) -> None:
    """Nobody remembers whether it was run; to run it again must be safe."""
    url = make_database(postgres, PREDECESSOR)

    first = run_command(url, tmp_path, "adopt", "--yes")
    second = run_command(url, tmp_path, "adopt", "--yes")

    assert "What will be done:" in first.stdout
    assert "Nothing to do" in second.stdout
    assert second.returncode == 0


def test_dry_run_changes_nothing(postgres: Cluster, tmp_path: Path) -> None:
    """First look, then leap."""
    url = make_database(postgres, PREDECESSOR)

    said = run_command(url, tmp_path, "adopt", "--dry-run")

    assert "user_analytics_closedloop_session" in said.stdout
    with psycopg.connect(url) as conn:
        assert conn.execute("select to_regnamespace('closedloop')").fetchone() == (None,)


def test_broken_index_is_built_anew(postgres: Cluster, tmp_path: Path) -> None:
    """A build that was interrupted leaves an index that nobody uses and `if not exists` accepts."""
    url = make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=100))
    run_command(url, tmp_path, "adopt", "--yes")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "update pg_index set indisvalid = false"
            " where indexrelid = 'public.user_analytics_closedloop_session'::regclass"
        )

    again = run_command(url, tmp_path, "adopt", "--yes")

    assert "rebuild the index user_analytics_closedloop_session" in again.stdout
    assert "Nothing to do" in run_command(url, tmp_path, "adopt", "--yes").stdout


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            "create table public.user_analytics (id bigint, session_id text, analytics_data jsonb)",
            "timestamp",
        ),
        (
            PREDECESSOR.replace("analytics_data jsonb", "analytics_data text"),
            "analytics_data is of type text",
        ),
        ("create view public.user_analytics as select 1 as id", "is a view"),
    ],
)
def test_unfit_table_is_refused_with_the_way_out(
    postgres: Cluster, tmp_path: Path, table: str, sentence: str
) -> None:
    """Half an adoption would be worse than none, and the owner can mend it."""
    url = make_database(postgres, table)

    refused = run_command(url, tmp_path, "adopt", "--yes")

    assert refused.returncode == 1
    assert sentence in refused.stdout
    assert "To mend it" in refused.stdout


def test_missing_table_points_to_migrate(postgres: Cluster, tmp_path: Path) -> None:
    """Whoever has no table needs the other command."""
    url = make_database(postgres)

    refused = run_command(url, tmp_path, "adopt", "--yes")

    assert refused.returncode == 1
    assert "closedloop migrate" in refused.stderr


def test_two_adoptions_do_not_meet(postgres: Cluster, tmp_path: Path) -> None:
    """Two people of one agency would build the same index twice."""
    url = make_database(postgres, PREDECESSOR)

    with Adoption(url):
        refused = run_command(url, tmp_path, "adopt", "--yes")

    assert refused.returncode == 1
    assert "another closedloop adopt is at work" in refused.stderr


def test_server_refuses_a_table_that_is_not_adopted(postgres: Cluster, tmp_path: Path) -> None:
    """Without its indexes every webhook would read the whole table."""
    url = make_database(postgres, PREDECESSOR)

    refused = run_command(url, tmp_path, "serve", "--port", "0")

    assert refused.returncode == 1
    assert "run: closedloop adopt" in refused.stderr
