"""One visitor is forgotten on demand, wholly; what the shop has earned stays."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest

from fix_adopt import run_command
from fix_flow import Tables
from fix_server import KEY, MakeServer, Server

SENT = 1_795_000_000_000
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def visit(one: Server, session: str, visitor: str, view: str = "v1") -> None:
    """Send one hit."""
    shown = {"p": view, "u": f"https://shop.example/{session}?yclid=77", "a": SENT, "r": ""}
    told = {"i": session, "v": visitor, "d": SENT, "k": {"ym_uid": "1712345678901234567"}, "h": [shown]}
    assert one.post(json.dumps(told), path="/collect", key=None).status == 204


def everything(tables: Tables) -> str:
    """Return every row of every table as text."""
    names = ["public.user_analytics", *(f"closedloop.{name}" for name in ("conversion", "lead", "identity"))]
    rows: list[Any] = []
    for name in names:
        rows += tables.conn.execute(f"select t::text from {name} t".encode()).fetchall()  # noqa: S608 - constants
    return str(rows)


@pytest.fixture
def shop(server: MakeServer) -> Server:
    """Give a shop with two visitors; the first sent a form and bought."""
    one = server()
    visit(one, "session-first", "visitor-first")
    visit(one, "session-again", "visitor-first")
    visit(one, "session-other", "visitor-other")
    lead = {"Phone": "+7 900 1234567", "session_id": "session-first", "tranid": "7:1"}
    assert (
        one.post(urlencode(lead), path="/webhooks/default/tilda", query=f"key={KEY}", headers=FORM).status
        == 200
    )
    assert one.post({"session_id": "session-first", "deal_id": "1", "goal_value": 500}).status == 200
    return one


BY = {
    "--session": "session-first",
    "--visitor": "visitor-first",
    "--phone": "8 (900) 123-45-67",
}


@pytest.mark.parametrize("option", BY)
def test_visitor_is_forgotten_and_the_money_stays(shop: Server, database: str, option: str) -> None:
    """By whatever they are known to the shop, all of their sessions go."""
    done = run_command(database, shop.folder, "erase", option, BY[option], "--yes", "--json")

    assert json.loads(done.stdout) == {"sessions": 2, "leads": 1, "conversions": 1, "erased": True}
    tables = Tables(database)
    left = everything(tables)
    assert ("visitor-first" in left, "session-first?yclid" in left, "session-again?yclid" in left) == (
        False,
    ) * 3
    assert ("visitor-other" in left, "session-other?yclid" in left) == (True, True)
    assert [goal["value"] for goal in tables.goals("session-first")] == [500]
    assert tables.one("select value from closedloop.conversion") == 500
    assert tables.one("select count(*) from closedloop.webhook where body <> ''") == 0
    tables.conn.close()


def test_without_yes_nothing_changes(shop: Server, database: str) -> None:
    """A typing mistake must not cost another visitor's history."""
    tables = Tables(database)
    before = everything(tables)

    done = run_command(database, shop.folder, "erase", "--visitor", "visitor-first")

    assert done.returncode == 0
    assert "Would forget: sessions: 2, leads: 1, conversions: 1" in done.stdout
    assert everything(tables) == before
    tables.conn.close()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "name the visitor"),
        (["--phone", "x"], "--phone is none that can be read"),
        (["--site", "y", "--session", "s"], "there is no site y"),
    ],
)
def test_wrong_use_is_one_sentence(database: str, tmp_path: Path, asked: list[str], said: str) -> None:
    """The person at the keyboard is under a deadline of the law."""
    run_command(database, tmp_path, "migrate")

    done = run_command(database, tmp_path, "erase", *asked)

    assert done.returncode == 1
    assert said in done.stderr


def test_erasure_stands_in_the_journal(shop: Server, database: str) -> None:
    """Later the owner has to show that it was done, and when."""
    run_command(database, shop.folder, "erase", "--visitor", "visitor-first", "--yes")

    with psycopg.connect(database) as conn:
        kinds = conn.execute("select kind from closedloop.journal order by entry").fetchall()
    assert kinds[-1] == ("erased",)
