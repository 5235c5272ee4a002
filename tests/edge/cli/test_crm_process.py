"""Commands over CRMs begin alike: no loop of the server runs in them; what they print obeys nobody."""

import asyncio
from pathlib import Path

import pytest

from closedloop.edge.cli.crm_process import crm_process, print_table, process_on, progress_bar
from closedloop.errors import DatabaseAwayError
from closedloop.settings import Config
from closedloop.stages.crm import FEW_TRIES
from fix_deployment import Deployment
from fix_flow import Tables
from fix_tools import free_port

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.migrated
def test_process_writes_and_runs_no_loop(
    deployment: Deployment, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server beside it does the sweeping and matching; two of each would ask the CRM twice."""
    deployment.configure(deployment.bitrix24)
    monkeypatch.setenv("BITRIX24_REST_URL", deployment.environment["BITRIX24_REST_URL"])
    monkeypatch.setenv("DATABASE_URL", deployment.database_url)

    async def use() -> tuple[int, list[int]]:
        file, folder = deployment.folder / "closedloop.toml", deployment.folder / "data"
        async with crm_process(file, folder) as (settings, process):
            assert settings.sites["default"].bitrix24 is not None
            clients = [crm.client for crm in process.crms.of["default"].values()]
            return len(process.loops), [one.tries for one in clients if one is not None]

    assert asyncio.run(use()) == (0, [FEW_TRIES])
    assert tables.one("select count(*) from closedloop.sweep") == 0


def config_of(folder: Path, url: str) -> Config:
    """Return a deployment without settings."""
    return Config(sites={}, data_dir=folder, database_url=url, deployment_key=b"k" * 32)


async def begin(config: Config, url: str) -> None:
    """Begin and end a process."""
    async with process_on(config, url):
        pass


def test_database_that_is_away_is_an_error_at_once(tmp_path: Path) -> None:
    """A server waits for it and spools; a command has nobody who would come again."""
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/none"

    with pytest.raises(DatabaseAwayError) as caught:
        asyncio.run(begin(config_of(tmp_path, url), url))

    assert "Connection refused" in str(caught.value)


@pytest.mark.parametrize(("total", "shown"), [(8, "5/8"), (None, "5/?")])
def test_bar_shows_how_far_it_is(capsys: pytest.CaptureFixture[str], total: int | None, shown: str) -> None:
    """Bitrix24 says how many deals there are, amoCRM does not."""
    with progress_bar("bitrix24", quiet=False) as progress:
        progress(5, total)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert f" {shown} " in printed.err


def test_quiet_bar_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for JSON, both outputs are a program's."""
    with progress_bar("bitrix24", quiet=True) as progress:
        progress(5, 8)

    assert capsys.readouterr() == ("", "")


def test_table_obeys_nothing_that_stands_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of deals are typed by strangers: escapes would move the cursor, brackets end the command."""
    print_table(["deal"], [["[/red]\x1b[2J:smile:"]])

    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[/red]?[2J:smile:" in printed
