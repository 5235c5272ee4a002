"""Many at once: on one session, on two servers, behind a pooler, beside a script that holds a session."""

import threading

import psycopg
import pytest

from fix_flow import Tables, accepted, deal, post_many, when
from fix_pgbouncer import PoolerUrl
from fix_postgres import Cluster
from fix_server import MakeServer, Reply, Server
from fix_tools import wait_until


def test_two_hundred_at_once_leave_two_hundred_goals(server: MakeServer, tables: Tables) -> None:
    """The function that this replaces kept 131 of 200 that it had acknowledged."""
    running = server()
    tables.add_session("shopper")
    bodies = [deal("shopper", str(one)) for one in range(200)]

    replies = post_many(running, bodies, at_once=200)

    assert len(accepted(bodies, replies)) == 200
    assert len({goal["deal_id"] for goal in tables.goals("shopper")}) == 200


def test_two_servers_share_a_database(server: MakeServer, tables: Tables) -> None:
    """Agencies run several; the same deal told to both at once is still one deal."""
    one, other = server(), server()
    tables.add_session("shopper")
    bodies = [deal("shopper", str(number)) for number in range(150)]
    outcomes: list[list[str]] = []

    def tell(running: Server) -> None:
        outcomes.append(accepted(bodies, post_many(running, bodies)))

    threads = [threading.Thread(target=tell, args=(running,)) for running in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(outcome) for outcome in outcomes] == [150, 150]
    assert tables.deals() == sorted(str(number) for number in range(150))
    assert sorted(goal["deal_id"] for goal in tables.goals("shopper")) == tables.deals()


def test_equal_requests_at_once_count_once(server: MakeServer, tables: Tables) -> None:
    """A sender that hears nothing for a second sends again, while the first is still on its way."""
    running = server()
    tables.add_session("shopper")
    body: dict[str, object] = {"session_id": "shopper", "goal_value": 5}

    replies = post_many(running, [body] * 50, at_once=50)

    assert {reply.status for reply in replies if isinstance(reply, Reply)} == {200}
    assert len(tables.goals("shopper")) == 1


def test_transaction_pooler_is_enough(
    server: MakeServer, postgres: Cluster, pgbouncer: PoolerUrl, database: str, tables: Tables
) -> None:
    """Supabase's shared pooler forgets everything between two transactions."""
    assert postgres.pid is not None
    running = server(database_url=pgbouncer(database.rpartition("/")[2]))
    tables.add_session("shopper")
    bodies = [deal("shopper", str(one)) for one in range(100)]

    replies = post_many(running, bodies)
    revised = running.post(deal("shopper", "1", goal_value=900))
    late = running.post(deal("later", "x"))
    tables.add_session("later")

    assert len(accepted(bodies, replies)) == 100
    assert (revised.status, late.status) == (200, 404)
    wait_until(lambda: len(tables.goals("later")) == 1, what="the late session is found")
    assert '"prepared": false' in running.log()


def test_held_session_does_not_hold_up_others(server: MakeServer, database: str, tables: Tables) -> None:
    """Somebody's open transaction on one row must not stop the sales of a hundred sites."""
    running = server()
    tables.add_session("held")
    tables.add_session("free")
    bodies = [deal("free", str(one)) for one in range(50)]

    with psycopg.connect(database) as script:
        script.execute("update public.user_analytics set session_id = session_id where session_id = 'held'")
        waiting = threading.Thread(target=lambda: running.post(deal("held", "h")))
        waiting.start()
        replies = post_many(running, bodies)
        free_goals = len(tables.goals("free"))
    waiting.join()

    assert len(accepted(bodies, replies)) == 50
    assert free_goals == 50
    wait_until(lambda: len(tables.goals("held")) == 1, what="the held session has its goal")


@pytest.mark.parametrize("deals", [1, 60])
def test_poisoned_row_fails_alone(server: MakeServer, tables: Tables, deals: int) -> None:
    """A trigger of theirs that refuses one session is no reason to refuse all that came with it."""
    running = server()
    tables.add_session("poisoned")
    tables.add_session("healthy")
    tables.conn.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'not this one'; end $$"
    )
    tables.conn.execute(
        "create trigger refuse before update on public.user_analytics"
        " for each row when (old.session_id = 'poisoned') execute function refuse()"
    )
    bodies = [deal("healthy", f"h{one}") for one in range(deals)] + [deal("poisoned", "p")]

    replies = post_many(running, bodies, at_once=64)

    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [200] * deals + [500]
    assert "not this one" in str(replies[-1].json()) if isinstance(replies[-1], Reply) else False
    assert len(tables.goals("healthy")) == deals
    assert tables.deals("matched")[-1] == "p"


def test_stop_finishes_what_was_accepted(server: MakeServer, tables: Tables) -> None:
    """Every deployment stops the server; a sender's request may be in it at that moment."""
    running = server()
    tables.add_session("shopper")
    bodies = [deal("shopper", str(one)) for one in range(2000)]
    codes: list[int] = []

    def stop() -> None:
        codes.append(running.terminate())

    with when(lambda: len(tables.deals()) > 100, stop, what="the load has begun"):
        replies = post_many(running, bodies)

    assert codes == [0]
    assert set(accepted(bodies, replies)) <= set(tables.deals())
    assert not [reply for reply in replies if isinstance(reply, Reply) and reply.status not in {200, 503}]


def test_more_web_processes_share_the_port(server: MakeServer, tables: Tables) -> None:
    """Two cores take twice as much, and a deal told to either is the same deal."""
    running = server(arguments=("--workers", "2"))
    tables.add_session("shopper")
    bodies = [deal("shopper", str(one)) for one in range(200)]

    replies = post_many(running, bodies + bodies)

    assert len(accepted(bodies + bodies, replies)) == 400
    assert len(tables.goals("shopper")) == 200
