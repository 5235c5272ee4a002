"""A night of changes is read inside the portal's limit, in little memory; a kill loses nothing."""

import time
from collections.abc import Callable
from decimal import Decimal

import psutil
import pytest

from fix_flow import Tables
from fix_server import MakeServer, Server
from fix_tools import wait_until
from platforms.bitrix24 import Bitrix24

CONFIG = """
[sites.default.bitrix24]
rest_url = "env:BITRIX24_REST_URL"
private_address = true
sweep_minutes = 600
"""
MEBIBYTE = 1024 * 1024


@pytest.fixture
def start(server: MakeServer, bitrix24: Bitrix24) -> Callable[[], Server]:
    """Give what starts a server that sweeps the portal at once."""
    bitrix24.clock.set(time.time() - 6 * 3600)
    environment = {"BITRIX24_REST_URL": bitrix24.webhook_url}
    return lambda: server(config=CONFIG, environment=environment)


def changed(portal: Bitrix24, count: int) -> None:
    """Make deals, every tenth of them won."""
    with portal.one_hit():
        for number in range(count):
            stage = "WON" if number % 10 == 0 else "EXECUTING"
            portal.create_deal(opportunity=Decimal(number), stage_id=stage)
    portal.pending.clear()


def swept(tables: Tables) -> bool:
    """Return whether a sweep has come to its end."""
    return tables.one("select done_at is not null and cursor is null from closedloop.sweep") is True


def test_night_of_changes_is_read_within_the_limits(
    start: Callable[[], Server], bitrix24: Bitrix24, tables: Tables
) -> None:
    """20,000 deals changed while nobody listened."""
    changed(bitrix24, 20_000)

    one = start()
    assert one.pid is not None
    process = psutil.Process(one.pid)
    peak = 0

    def done() -> bool:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)
        return swept(tables)

    wait_until(done, what="the sweep", wait_s=100)
    assert bitrix24.refused == {}
    assert peak < 200 * MEBIBYTE
    assert tables.one("select count(*) from closedloop.deal") == 20_000
    assert tables.one("select count(*) from closedloop.conversion") == 2_000


def test_kill_in_the_middle_loses_and_doubles_nothing(
    start: Callable[[], Server], bitrix24: Bitrix24, tables: Tables
) -> None:
    """The next start goes on where the last page was kept."""
    changed(bitrix24, 3_000)
    one = start()
    wait_until(lambda: int(tables.one("select count(*) from closedloop.deal")) > 300, what="a part of it")

    one.kill()
    before = len(bitrix24.calls)
    one.start()

    wait_until(lambda: swept(tables), what="the rest", wait_s=60)
    assert tables.one("select count(*) from closedloop.conversion") == 300
    assert tables.one("select count(*) from closedloop.journal where kind = 'unmatched'") == 300
    assert len(bitrix24.calls) > before
