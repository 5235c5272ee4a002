"""The plan says all that will be done, asks for nothing needless, and its indexes are those that are used."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from closedloop.store.adopt import Adoption
from closedloop.store.adopt_plan import plain_type
from closedloop.store.sessions import fill
from fix_adopt import FOREIGN, ODD, PREDECESSOR, PREDECESSOR_ROWS, make_database
from fix_postgres import Cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PREFIX = "user_analytics_closedloop_"

# The search of the writer, for one conversion that has every identifier.
FIND = """
explain
select found.*
  from (select 'session-5'::text as session_id, '1741000000000000005'::text as ym_uid, '55'::text as yclid,
               '1741000000000000000'::text as ym_uid_low, '1741000000000000999'::text as ym_uid_high,
               '[]'::jsonb as identifiers) i
 cross join lateral ($find_session) found
"""


def adopt(url: str) -> None:
    """Adopt without a question."""
    with Adoption(url) as adoption:
        adoption.carry_out(NOW, lambda _: None, lambda _: None)


@pytest.mark.parametrize(
    ("table", "indexes", "add_site"),
    [
        (PREDECESSOR, ["session", "ym_uid", "yclid"], True),
        (PREDECESSOR.replace("primary key ", ""), ["id", "session", "ym_uid", "yclid"], True),
        (ODD, ["session", "ym_uid", "yclid"], True),
        (FOREIGN, ["session", "ym_uid", "yclid"], False),
        (FOREIGN + "create index mine on user_analytics (session_id);", ["ym_uid", "yclid"], False),
        (PREDECESSOR + "; create index mine on user_analytics (session_id);",
         ["session", "ym_uid", "yclid"], True),
    ],
)  # fmt: skip
def test_plan_asks_for_what_is_missing_only(
    postgres: Cluster, table: str, indexes: list[str], *, add_site: bool
) -> None:
    """An index that does our work already would cost its owner space, and each insert time, twice."""
    with Adoption(make_database(postgres, table)) as adoption:
        plan = adoption.plan

    assert [index.name.removeprefix(PREFIX) for index in plan.indexes] == indexes
    assert plan.add_site is add_site
    assert not plan.refusals
    assert not plan.is_done


def test_further_sites_are_warned_of(postgres: Cluster) -> None:
    """Whose `site` is something else can keep one site only, and should know it before."""
    with Adoption(make_database(postgres, FOREIGN), ["default", "second"]) as adoption:
        warnings = " ".join(adoption.plan.warnings)

    assert "further sites (second)" in warnings


@pytest.mark.parametrize("table", [PREDECESSOR, PREDECESSOR.replace(" jsonb", " json")])
def test_search_for_a_session_uses_our_indexes(postgres: Cluster, table: str) -> None:
    """Without them each webhook would read the whole table; an expression that differs is not used."""
    url = make_database(postgres, table, PREDECESSOR_ROWS.format(rows=20_000), "analyze user_analytics")
    adopt(url)

    with psycopg.connect(url) as conn, Adoption(url) as adoption:
        shape: Any = adoption.found.recorded
        lines = conn.execute(fill(FIND, shape), {"site": "default"}).fetchall()

    printed = "\n".join(line for (line,) in lines)
    assert "Seq Scan on user_analytics" not in printed
    for kind in ("session", "ym_uid", "yclid"):
        assert PREFIX + kind in printed


def test_adopted_table_leaves_nothing_to_do(postgres: Cluster) -> None:
    """A second run that found work would never end."""
    url = make_database(postgres, PREDECESSOR)
    adopt(url)

    with Adoption(url) as adoption:
        assert adoption.plan.is_done


@pytest.mark.parametrize(
    ("printed", "plain"),
    [
        ("character varying(36)", "character varying"),
        ("timestamp(3) with time zone", "timestamp with time zone"),
        ("jsonb", "jsonb"),
    ],
)
def test_type_is_known_without_its_length(printed: str, plain: str) -> None:
    """A table is not refused for a length that its owner wrote."""
    assert plain_type(printed) == plain
