"""What the tests of the CRM stages share: a process without loops, and deals to be told."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from closedloop.domain.deal import Deal, Finding
from closedloop.domain.goals import Goal
from closedloop.settings import AmoCrm, Bitrix24, Config, Site
from closedloop.stages.crms import Crm
from closedloop.stages.process import Process

T = TypeVar("T")

CREATED = datetime(2026, 11, 1, 10, tzinfo=UTC)
WON = CREATED + timedelta(days=9)


def deal(**more: Any) -> Deal:  # noqa: ANN401 - any field
    """Return a deal of Bitrix24 that was won for 5000."""
    usual: dict[str, Any] = {
        "crm": "bitrix24",
        "deal_id": "662",
        "title": "Order",
        "funnel": "0",
        "stage": "WON",
        "outcome": "won",
        "value": Decimal(5000),
        "currency": "RUB",
        "created_at": CREATED,
        "changed_at": WON,
        "closed_at": WON,
    }
    return Deal(**{**usual, **more})


def found(kind: str, value: str, place: str = "deal 662, field") -> Finding:
    """Return one identifier."""
    return Finding(kind=kind, value=value, place=place)


class World:
    """A process of ours whose loops do not run, and one CRM of its only site."""

    def __init__(self, process: Process, name: str) -> None:
        self.process = process
        self.crm: Crm = process.crms.of["default"][name]
        self.book = self.crm.book
        self.site = self.crm.site


class InWorld:
    """Runs what a test does inside a world, to its end."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def __call__(
        self,
        use: Callable[[World], Awaitable[T]],
        *,
        crm: str = "bitrix24",
        goals: tuple[Goal, ...] = (),
        bitrix24: Bitrix24 | None = None,
        amocrm: AmoCrm | None = None,
    ) -> T:
        """Return what `use` returns."""
        site = Site(name="default", goals=goals, bitrix24=bitrix24, amocrm=amocrm)
        config = Config(
            sites={"default": site},
            data_dir=self.folder,
            database_url=self.url,
            deployment_key=b"k" * 32,
        )

        async def run() -> T:
            process = Process(config, self.url, web=False, worker=False)
            await process.start()
            try:
                return await use(World(process, crm))
            finally:
                await process.stop()

        return asyncio.run(run())


@pytest.fixture
def in_world(database: str, tmp_path: Path) -> InWorld:
    """Give what runs a test's work inside a process on the test's database."""
    return InWorld(database, tmp_path)
