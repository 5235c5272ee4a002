"""The comparison for programs: whose key came is whose deals are shown, and an error says what to do."""

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from closedloop.edge.http.reconcile import PATH
from closedloop.stages import clock
from fix_deployment import won
from fix_postgres import Cluster
from fix_server import KEY, Reply, Server
from fix_tools import wait_until
from platforms.bitrix24 import Bitrix24

OTHER_KEY = "other-key-0123456789abcdef"
TODAY = clock.now().astimezone(ZoneInfo("Europe/Moscow")).date()
DAYS = f"from={TODAY - timedelta(days=1)}&to={TODAY}"
CONFIG = """
[sites.default.bitrix24]
rest_url = "env:BITRIX24_REST_URL"
private_address = true
sweep_minutes = 600

[sites.other]
webhook_keys = ["env:OTHER_KEY"]
"""


class Served(NamedTuple):
    """A server and the portal of its first site; the second has no CRM."""

    server: Server
    portal: Bitrix24


@pytest.fixture(scope="module")
def served(postgres: Cluster, scratch: Path) -> Iterator[Served]:
    """Give a server that has read one won deal, and was never told of a second."""
    name = postgres.create_database()
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
    (folder / "closedloop.toml").write_text(CONFIG)
    with Bitrix24() as portal:
        portal.clock.set(clock.now() - timedelta(minutes=1))
        won(portal, 5000)
        environment = {"BITRIX24_REST_URL": portal.webhook_url, "OTHER_KEY": OTHER_KEY}
        arguments = ("--config", str(folder / "closedloop.toml"))
        server = Server(folder, postgres.url(name), environment, arguments)
        server.start()
        wait_until(lambda: '"swept"' in server.log(), what="the first sweep")
        won(portal, 700)
        yield Served(server, portal)
        server.close()
    postgres.drop_database(name)


def asked(server: Server, query: str, key: str | None = KEY) -> Reply:
    """Ask for the comparison."""
    return server.get(PATH, query=query, key=key)


def error_of(reply: Reply) -> str:
    """Return the sentence of an error."""
    assert reply.headers["content-type"] == "application/json"
    sentence: str = reply.json()["error"]
    return sentence


def test_program_gets_the_comparison_of_its_site(served: Served) -> None:
    """The same as the command prints, so that both can be built upon."""
    reply = asked(served.server, DAYS)

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {
        "bitrix24": {
            "in_crm": 2,
            "here": 1,
            "differences": [
                {
                    "kind": "no_session",
                    "deal_id": "1",
                    "goal": "payment_success",
                    "in_crm": "5000 RUB",
                    "here": "5000 RUB",
                    "why": "the deal carries nothing that leads to a visitor: "
                    "no session_id, ym_uid, click id, phone or e-mail",
                },
                {
                    "kind": "missing",
                    "deal_id": "2",
                    "goal": "payment_success",
                    "in_crm": "700 RUB",
                    "here": None,
                    "why": "it was never told, or is cancelled here: run closedloop sweep",
                },
            ],
        }
    }


@pytest.mark.parametrize("key", [None, "wrong-key-0123456789abcdef"])
def test_without_the_key_nothing_is_shown(served: Served, key: str | None) -> None:
    """What a shop sells is nobody's business; the key in the address is none, as addresses are logged."""
    reply = asked(served.server, f"{DAYS}&key={KEY}", key=key)

    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert error_of(reply).startswith("key is ")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "from is missing: it is a day such as 2026-11-01"),
        (f"from={TODAY}", "to is missing: it is a day such as 2026-11-01"),
        (f"from=&to={TODAY}", "from is missing: it is a day such as 2026-11-01"),
        (f"from=tomorrow&to={TODAY}", "from is no day such as 2026-11-01: 'tomorrow'"),
        (f"from={TODAY}&to=2020-01-01", f"to is before from, {TODAY}: '2020-01-01'"),
    ],
)
def test_wrong_period_is_refused_with_its_key(served: Served, query: str, sentence: str) -> None:
    """Whoever writes the program reads it once and mends it."""
    reply = asked(served.server, query)

    assert (reply.status, error_of(reply)) == (400, sentence)


@pytest.mark.parametrize(
    ("key", "query", "sentence"),
    [
        (OTHER_KEY, DAYS, "no CRM of site other can be asked: set bitrix24.rest_url, or "),
        (KEY, f"{DAYS}&crm=hubspot", "there is no CRM hubspot; known are: bitrix24, amocrm"),
        (KEY, f"{DAYS}&crm=amocrm", "amocrm of site default cannot be asked: set amocrm.base_url"),
    ],
)
def test_crm_that_is_not_there_is_no_empty_comparison(
    served: Served, key: str, query: str, sentence: str
) -> None:
    """An empty answer would be read as: nothing is missing."""
    reply = asked(served.server, query, key=key)

    assert reply.status == 404
    assert error_of(reply).startswith(sentence)


def test_crm_that_refuses_us_is_no_fault_of_the_caller(served: Served) -> None:
    """The sentence is for the owner of the CRM."""
    served.portal.refuse("*", 401, "NO_AUTH_FOUND")

    reply = asked(served.server, DAYS)

    served.portal.allow("*")
    assert reply.status == 502
    assert "make a new incoming webhook" in error_of(reply)


def test_crm_that_is_away_is_said_within_the_patience_of_a_program(served: Served) -> None:
    """Half a minute is what most clients wait for; `Retry-After` tells them when to come again."""
    served.portal.go_down()
    started = clock.elapsed()

    reply = asked(served.server, DAYS)

    took_s = clock.elapsed() - started
    served.portal.come_up()
    assert (reply.status, reply.headers["retry-after"]) == (503, "60")
    assert "cannot be reached" in error_of(reply)
    assert took_s < 20
