"""kill -9 in the middle of the load: what was answered with 200 is there, and nothing is there twice."""

import threading

import pytest

from fix_flow import OpenTables, accepted, deal, post_many, when
from fix_postgres import MakeCluster
from fix_server import MakeServer
from fix_tools import wait_until

ROUNDS = 6
DEALS = 400


def test_acknowledged_conversions_survive_the_killed_server(
    own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables
) -> None:
    """A 200 that is lost is a sale that the advertising never hears of, and nobody would notice."""
    url = own_cluster().url()
    running = server(database_url=url)
    tables = open_tables(url)
    tables.add_session("shopper")
    promised: list[str] = []

    for number in range(ROUNDS):
        bodies = [deal("shopper", f"{number}-{one}") for one in range(DEALS)]
        before = len(tables.deals())
        with when(lambda: len(tables.deals()) >= before + 40, running.kill, what="some are stored"):  # noqa: B023
            promised += accepted(bodies, post_many(running, bodies))
        running.start()

    stored = tables.deals()
    assert set(promised) <= set(stored)
    assert len(stored) == len(set(stored))
    assert sorted(goal["deal_id"] for goal in tables.goals("shopper")) == stored


def test_acknowledged_conversions_survive_the_killed_database(
    own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables
) -> None:
    """Power fails at the database, too; what it had not on disk was not acknowledged."""
    cluster = own_cluster()
    running = server(database_url=cluster.url())
    open_tables(cluster.url()).add_session("shopper")
    bodies = [deal("shopper", str(one)) for one in range(DEALS)]

    threading.Timer(0.1, cluster.kill).start()
    replies = post_many(running, bodies)
    wait_until(lambda: cluster.pid is None, what="the database is killed")
    cluster.start()
    tables = open_tables(cluster.url())
    wait_until(lambda: len(tables.deals()) == DEALS, what="the spool is drained")

    assert set(accepted(bodies, replies)) <= set(tables.deals("matched"))
    assert sorted(goal["deal_id"] for goal in tables.goals("shopper")) == tables.deals()


@pytest.mark.parametrize("spooled", [1, 150])
def test_spooled_webhooks_survive_the_killed_server(
    own_cluster: MakeCluster, server: MakeServer, open_tables: OpenTables, spooled: int
) -> None:
    """Both may fall in one night; the spool is on the disk before a CRM is asked to come again."""
    cluster = own_cluster()
    running = server(database_url=cluster.url())
    open_tables(cluster.url()).add_session("shopper")
    cluster.stop("immediate")
    bodies = [deal("shopper", str(one)) for one in range(spooled)]

    replies = post_many(running, bodies)
    running.kill()
    cluster.start()
    running.start()

    assert accepted(bodies, replies) == []
    tables = open_tables(cluster.url())
    wait_until(lambda: len(tables.goals("shopper")) == spooled, what="the spool is drained")
