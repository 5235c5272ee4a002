"""What comes later: sessions after their conversions, and scripts that wipe what we wrote."""

import json

import pytest

from fix_flow import Tables, deal
from fix_server import MakeServer
from fix_tools import wait_until

SOON_S = 5.0
MINUTE_S = 60.0


def test_late_session_is_found_within_five_seconds(server: MakeServer, tables: Tables) -> None:
    """The predecessor's script writes the row five minutes after the visit began, often after the deal."""
    running = server()
    assert running.post(deal("unknown", "1")).status == 404

    tables.add_session("unknown")

    wait_until(lambda: len(tables.goals("unknown")) == 1, what="the session is found", wait_s=SOON_S)
    assert running.post(deal("unknown", "1")).status == 200
    assert len(tables.goals("unknown")) == 1


@pytest.mark.parametrize(
    ("told", "ids"),
    [
        ({"ym_uid": "1741000000123456789"}, {"ym_uid": "1741000000123456789"}),
        ({"ym_uid": 1741000000123456800}, {"ym_uid": "1741000000123456789"}),
        ({"yclid": "9007199254740993"}, {"yclid": "9007199254740993"}),
    ],
)
def test_late_session_is_found_by_every_identifier(
    server: MakeServer, tables: Tables, told: dict[str, object], ids: dict[str, str]
) -> None:
    """Many CRMs keep only the ClientID or the click id, and some have rounded it."""
    running = server()
    assert running.post({**told, "deal_id": "1"}).status == 404

    tables.add_session("s", **ids)

    wait_until(lambda: len(tables.goals("s")) == 1, what="the session is found", wait_s=SOON_S)


def test_identifier_added_later_is_found_too(server: MakeServer, tables: Tables) -> None:
    """Metrica's cookie often appears after the row: the script then updates it."""
    running = server()
    tables.add_session("s")
    assert running.post({"ym_uid": "1741000000123456789", "deal_id": "1"}).status == 404

    tables.conn.execute(
        "update public.user_analytics set analytics_data ="
        " jsonb_set(analytics_data, '{ids,ym_uid}', '\"1741000000123456789\"') where session_id = 's'"
    )

    wait_until(lambda: len(tables.goals("s")) == 1, what="the session is found", wait_s=SOON_S)


def test_rounded_id_that_fits_two_visitors_stays_unmatched(server: MakeServer, tables: Tables) -> None:
    """To guess between two people would credit the wrong advertisement half of the time."""
    running = server()
    tables.add_session("one", ym_uid="1741000000123456789")
    tables.add_session("two", ym_uid="1741000000123456801")

    reply = running.post({"ym_uid": 1741000000123456800, "deal_id": "1"})

    assert reply.status == 404
    assert tables.deals("unmatched") == ["1"]


def test_rounded_id_is_repaired_and_says_so(server: MakeServer, tables: Tables) -> None:
    """The repair is a guess that happens to be certain; whoever asks why has to be told."""
    running = server()
    tables.add_session("one", ym_uid="1741000000123456789")

    reply = running.post({"ym_uid": 1741000000123456800, "deal_id": "1"})

    assert reply.status == 200
    assert tables.one("select rule from closedloop.conversion") == "ym_uid_rounded"


def test_wiped_goals_come_back_within_a_minute_once(server: MakeServer, tables: Tables) -> None:
    """A tracker that saves its whole document knows nothing of our goals and wipes them."""
    running = server()
    tables.add_session("shopper")
    for number in range(3):
        running.post(deal("shopper", str(number)))
    document = {"ids": {"ym_uid": "5"}, "target_actions": {"yandex_goals_triggered": [{"goal": "seen"}]}}

    tables.conn.execute(
        "update public.user_analytics set analytics_data = %s where session_id = 'shopper'",
        [json.dumps(document)],
    )

    wait_until(lambda: len(tables.goals("shopper")) >= 4, what="the goals are back", wait_s=MINUTE_S)
    assert [goal.get("deal_id") for goal in tables.goals("shopper")] == [None, "0", "1", "2"]
    assert tables.one("select analytics_data #>> '{ids,ym_uid}' from public.user_analytics") == "5"
