"""Monitors learn whether the process lives and whether it can serve, and Prometheus its numbers."""

from prometheus_client.parser import text_string_to_metric_families
from psycopg.sql import SQL, Identifier

from closedloop.telemetry import REGISTRY
from fix_postgres import Cluster
from fix_server import HOOK, MakeServer, Server
from fix_tools import free_port, wait_until


def numbers(server: Server) -> dict[str, float]:
    """Return the samples of /metrics by name and labels: `{"closedloop_spool{waiting}": 0.0}`."""
    families = text_string_to_metric_families(server.get("/metrics", key=None).body.decode())
    return {
        sample.name + (f"{{{','.join(sample.labels.values())}}}" if sample.labels else ""): sample.value
        for family in families
        for sample in family.samples
    }


def test_living_process_says_so_to_anybody(hook: Server) -> None:
    """A container is killed when this fails, so it depends on nothing: no key, no database."""
    reply = hook.get("/healthz", key=None)

    assert (reply.status, reply.json()) == (200, {"status": "alive"})


def test_ready_process_says_so_to_anybody(hook: Server) -> None:
    """A balancer sends requests from then on."""
    reply = hook.get("/readyz", key=None)

    assert (reply.status, reply.json()) == (200, {"status": "ready"})


def test_process_without_its_database_lives_but_is_not_ready(server: MakeServer) -> None:
    """Killed, it could not spool what comes in meanwhile; and the address in the reason has no password."""
    url = f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/x"
    made = server(database_url=url, ready=False)

    reply = made.get("/readyz", key=None)

    assert made.get("/healthz", key=None).status == 200
    assert reply.status == 503
    assert reply.headers["retry-after"] == "5"
    assert reply.json()["status"] == "not ready"
    assert "refused" in reply.json()["reason"]
    assert "hunter2" not in reply.body.decode() + made.log()
    assert numbers(made)["closedloop_database_up"] == 0


def test_process_becomes_ready_when_its_database_comes(
    server: MakeServer, postgres: Cluster, database: str
) -> None:
    """A machine that starts brings its services up in any order."""
    name = database.rpartition("/")[2]
    rename = SQL("alter database {} rename to {}")
    postgres.execute(rename.format(Identifier(name), Identifier(f"{name}_away")))
    made = server(ready=False)
    reason = made.get("/readyz", key=None).json()["reason"]
    postgres.execute(rename.format(Identifier(f"{name}_away"), Identifier(name)))

    wait_until(lambda: made.get("/readyz", key=None).status == 200, what="/readyz says that it serves")
    assert f'database "{name}" does not exist' in reason
    assert made.post({"session_id": "s-1"}).status == 404


def test_metrics_are_those_of_the_registry(hook: Server) -> None:
    """A name that is exported but never defined, or the other way round, is an empty plot."""
    reply = hook.get("/metrics", key=None)

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(reply.body.decode())
    exported = {family.name for family in families if not family.name.endswith("_created")}
    assert exported == {metric.name for metric in REGISTRY.collect()}


def test_every_request_is_counted_by_its_outcome(hook: Server) -> None:
    """An alarm on `unauthorized` tells that a key has run out before anybody misses a sale."""
    counted = [
        f"closedloop_hook_requests_total{{{name}}}"
        for name in ("unmatched", "unauthorized", "refused", "head")
    ]
    before = numbers(hook)

    hook.post({"session_id": "nobody"})
    hook.post(b"", key=None)
    hook.post(b"{")
    hook.request("HEAD", HOOK)

    after = numbers(hook)
    assert [after.get(name, 0) - before.get(name, 0) for name in counted] == [1, 1, 1, 1]
    assert after["closedloop_hook_seconds_count"] - before.get("closedloop_hook_seconds_count", 0) == 4
    assert (after["closedloop_spool{waiting}"], after["closedloop_database_up"]) == (0, 1)
