"""One deployment with its CRMs: commands run in it as its owner does, or its parts inside of the test."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import pytest

from closedloop.config import read_config
from closedloop.settings import AmoCrm as AmoSettings
from closedloop.settings import Bitrix24 as BitrixSettings
from closedloop.settings import Config, Site
from closedloop.stages.process import Process
from fix_server import KEY
from platforms.amocrm import AmoCrm
from platforms.amocrm_data import WON, CustomField
from platforms.bitrix24 import Bitrix24
from platforms.bitrix24_data import DEAL

T = TypeVar("T")

FIELD, AMO_FIELD = "UF_CRM_1721244482", 700001
FAST = 1000.0  # how many seconds of a fake's limit pass in one


class Deployment:
    """A folder with `closedloop.toml`, a database, and the environment in which its owner types commands.

    `configure` writes the file: `BITRIX24` and `AMOCRM` connect it with the fakes.
    """

    def __init__(self, folder: Path, database_url: str, portal: Bitrix24, account: AmoCrm) -> None:
        self.folder = folder
        self.database_url = database_url
        self.bitrix24 = (
            '[sites.default.bitrix24]\nrest_url = "env:BITRIX24_REST_URL"\nprivate_address = true\n'
        )
        self.amocrm = (
            f'[sites.default.amocrm]\nbase_url = "{account.url}"\naccess_token = "env:AMOCRM_TOKEN"\n'
            "private_address = true\n"
        )
        self.environment = {
            "PATH": os.pathsep.join(os.get_exec_path()),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "200",
            "DATABASE_URL": database_url,
            "CLOSEDLOOP_WEBHOOK_KEY": KEY,
            "BITRIX24_REST_URL": portal.webhook_url,
            "AMOCRM_TOKEN": account.tokens.long_lived,
        }

    def configure(self, *parts: str) -> None:
        """Write the configuration."""
        (self.folder / "closedloop.toml").write_text("\n".join(parts))

    def settings(self) -> Config:
        """Return the configuration as commands read it, with their keys."""
        file, folder = self.folder / "closedloop.toml", self.folder / "data"
        return read_config(config=file, data_dir=folder, environment=self.environment)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, nobody at the terminal."""
        return subprocess.run(
            [sys.executable, "-m", "closedloop", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Generator[subprocess.Popen[str]]:
        """Start a command, and end it at the latest with the block."""
        with subprocess.Popen(
            [sys.executable, "-m", "closedloop", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.folder,
        ) as started:
            yield started
            started.kill()


@pytest.fixture
def known_crms(bitrix24: Bitrix24, amocrm: AmoCrm) -> None:
    """Let portal and account show the time a minute ago, have wide limits, and a field of the session."""
    now = time.time() - 60
    bitrix24.clock.set(now)
    amocrm.clock.set(now)
    bitrix24.buckets.watch.speed = amocrm.window.watch.speed = FAST
    bitrix24.crm.add_user_field(DEAL, FIELD, "session_id")
    amocrm.add_field(CustomField(AMO_FIELD, "session_id"))


@pytest.fixture
def deployment(
    database: str,
    tmp_path: Path,
    known_crms: None,  # noqa: ARG001 - it changes the fakes
    bitrix24: Bitrix24,
    amocrm: AmoCrm,
) -> Deployment:
    """Give a deployment beside a portal and an account."""
    return Deployment(tmp_path, database, bitrix24, amocrm)


def won(portal: Bitrix24, worth: int = 5000, session: str = "") -> int:
    """Make a deal of Bitrix24 that is won now, and return its id."""
    deal = portal.create_deal(opportunity=Decimal(worth), fields={FIELD: session} if session else {})
    portal.move_deal(deal, "WON")
    return deal


def amo_won(account: AmoCrm, worth: int = 5000, session: str = "") -> int:
    """Make a lead of amoCRM that is won now, and return its id."""
    lead = account.create_lead(price=Decimal(worth), fields={AMO_FIELD: session} if session else {})
    account.move_lead(lead, WON)
    return lead


def site_of(
    portal: Bitrix24 | None = None,
    account: AmoCrm | None = None,
    *,
    bitrix24: Mapping[str, object] | None = None,
    amocrm: Mapping[str, object] | None = None,
    **more: object,
) -> Site:
    """Return the settings of a site whose CRMs are fakes; the mappings are further settings of each."""
    told: dict[str, object] = dict(more)
    if portal is not None:
        usual: dict[str, object] = {"rest_url": portal.webhook_url, "private_address": True}
        told["bitrix24"] = BitrixSettings(**{**usual, **(bitrix24 or {})})  # type: ignore[arg-type]
    if account is not None:
        usual = {
            "base_url": account.url,
            "access_token": account.tokens.long_lived,
            "private_address": True,
        }
        told["amocrm"] = AmoSettings(**{**usual, **(amocrm or {})})  # type: ignore[arg-type]
    return Site(**told)  # type: ignore[arg-type]


def in_process(deployment: Deployment, settings: Site | Config, use: Callable[[Process], Awaitable[T]]) -> T:
    """Return what `use` returns, with a process that writes and runs no loop of its own.

    A call of a CRM that fails is not repeated.
    """
    url = deployment.database_url
    config = settings
    if isinstance(config, Site):
        config = Config(
            sites={config.name: config},
            data_dir=deployment.folder,
            database_url=url,
            deployment_key=b"k" * 32,
        )

    async def run() -> T:
        process = Process(config, url, web=False, worker=False)
        for of_site in process.crms.of.values():
            for crm in of_site.values():
                if crm.client is not None:
                    crm.client.tries = 1
        await process.start()
        try:
            return await use(process)
        finally:
            await process.stop()

    return asyncio.run(run())
