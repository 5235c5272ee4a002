"""`why` answers the question that every owner asks of a deal: what happened, and what happens next."""

import json

import pytest

from fix_adopt import run_command
from fix_flow import Tables, deal
from fix_server import MakeServer, Server

CONFIG = """
[[sites.default.destinations]]
name = "own"
type = "webhook"
url = "http://127.0.0.1:9/hook"
secrets = ["env:OWN_SECRET"]
private_address = true
"""
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105 - invented


@pytest.fixture
def shop(server: MakeServer, tables: Tables) -> Server:
    """Give a shop with one deal that was revised, and a destination that is away."""
    one = server(config=CONFIG, environment={"OWN_SECRET": SECRET})
    tables.add_session("s-1")
    for value in (500, 400):
        assert one.post(deal("s-1", "662", goal_value=value)).status == 200
    return one


def test_story_of_a_deal_is_told_in_order(shop: Server, database: str) -> None:
    """From the webhook to the destination that waits."""
    done = run_command(database, shop.folder, "why", "662")

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("Deal 662, ")
    assert "400 RUB, counts; session row 1 by session_id." in lines[0]
    assert "recorded, and found its session (by hook)" in lines[1]
    assert "now 400 RUB, before 500 RUB" in lines[2]
    assert lines[-1].startswith("  → own: ")


def test_program_gets_the_story_whole(shop: Server, database: str) -> None:
    """Sums are exact text."""
    done = run_command(database, shop.folder, "why", "662", "--json")

    (story,) = json.loads(done.stdout)
    assert (story["conversion"]["deal_id"], story["conversion"]["value"]) == ("662", "400")
    assert [entry["kind"] for entry in story["entries"]] == ["matched", "revised"]


def test_deal_of_which_nobody_told_is_said_with_what_to_do(shop: Server, database: str) -> None:
    """Exit code 1."""
    done = run_command(database, shop.folder, "why", "663")

    assert done.returncode == 1
    assert "closedloop reconcile" in done.stdout


def test_deliveries_are_listed_and_filtered(shop: Server, database: str) -> None:
    """What waits, and what was refused."""
    listed = json.loads(run_command(database, shop.folder, "deliveries", "--json").stdout)
    refused = run_command(database, shop.folder, "deliveries", "--state", "reject_record")

    assert [(one["destination"], one["deal_id"], one["value"]) for one in listed] == [("own", "662", "400")]
    assert "No deliveries" in refused.stdout
    assert "662" in run_command(database, shop.folder, "deliveries", "--destination", "own").stdout
