"""The look tells what stands there, as it is, and changes nothing."""

from typing import Any

import psycopg

from closedloop.store.adopt_look import Found, look
from fix_adopt import FOREIGN, ODD, PREDECESSOR, PREDECESSOR_ROWS, make_database, state_of
from fix_postgres import Cluster


def found_in(url: str) -> Found:
    """Look at the table of a database that has one."""
    with psycopg.connect(url, autocommit=True) as conn:
        found = look(conn)
    assert found is not None
    return found


def test_database_without_the_table_has_none(postgres: Cluster) -> None:
    """Nothing is told from something empty."""
    with psycopg.connect(make_database(postgres), autocommit=True) as conn:
        assert look(conn) is None


def test_everything_of_an_odd_table_is_told(postgres: Cluster) -> None:
    """Its owner agrees to what he reads there; what is left out he did not agree to."""
    found = found_in(make_database(postgres, ODD))

    assert [column.type for column in found.columns][:2] == ["bigint", "character varying(64)"]
    assert found.views == ["sessions_by_page"]
    assert found.policies == ["insert_own (insert, for anon)"]
    assert found.grants == ["anon: insert, select"]
    assert found.table.row_security
    assert (found.rows, found.counted, found.recorded, found.direct) == (3, True, None, True)


def test_rows_are_sampled_and_repetitions_counted(postgres: Cluster) -> None:
    """Which of two rows is the session matters to whoever sees the goal on the other one."""
    found = found_in(make_database(postgres, PREDECESSOR, PREDECESSOR_ROWS.format(rows=1000)))

    quality: Any = found.quality
    assert found.rows == quality.rows == quality.with_ym_uid == 1000
    assert (quality.with_yclid, quality.odd_document, quality.without_id) == (0, 0, 0)
    assert found.repeated_sessions == 100


def test_document_of_another_kind_is_counted(postgres: Cluster) -> None:
    """No goal is ever written over what its owner keeps in that place."""
    odd = """insert into public.user_analytics (analytics_data) values ('[]'), ('{"target_actions": 5}')"""
    found = found_in(make_database(postgres, PREDECESSOR, odd))

    quality: Any = found.quality
    assert (quality.rows, quality.odd_document, quality.without_session_id) == (2, 2, 2)


def test_look_changes_nothing(postgres: Cluster) -> None:
    """The first thing that a careful owner tries has to be harmless."""
    url = make_database(postgres, FOREIGN)
    before = state_of(url)

    found_in(url)

    assert state_of(url) == before
