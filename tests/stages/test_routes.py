"""Each destination has its own loop and its own connections; a server without any has neither."""

import asyncio
from pathlib import Path

import pytest

from closedloop.deliver.registry import read_destination
from closedloop.settings import Config, Site
from closedloop.stages.process import Process
from closedloop.stages.routes import names_of

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105 - invented
ROWS = [
    {"name": name, "type": "webhook", "url": f"https://{name}.example/hook", "secrets": [SECRET]}
    for name in ("one", "two")
]
SHOP = Site(destinations=tuple(read_destination(row, lambda _key, value: value) for row in ROWS))


def loops_of(database: str, folder: Path, site: Site) -> tuple[list[str], int]:
    """Return the names of the loops of a site, and how many sets of connections there are."""

    async def run() -> tuple[list[str], int]:
        config = Config(
            sites={site.name: site}, data_dir=folder, database_url=database, deployment_key=b"k" * 32
        )
        process = Process(config, database, web=False, worker=False)
        loops = list(process.routes.loops())
        for _, loop in loops:
            loop.close()
        await process.start()
        await process.stop()
        return [name for name, _ in loops], len(set(process.routes.outbounds))

    return asyncio.run(run())


def test_each_destination_has_its_own(database: str, tmp_path: Path) -> None:
    """One that is slow holds up no other."""
    assert loops_of(database, tmp_path, SHOP) == (["deliver-default-one", "deliver-default-two"], 2)


def test_site_without_destinations_has_none(database: str, tmp_path: Path) -> None:
    """The first day of every shop."""
    assert loops_of(database, tmp_path, Site()) == ([], 0)


def test_conversions_are_given_to_the_destinations_of_their_own_site() -> None:
    """One agency's client must not see another's."""
    sites = {"default": SHOP, "second": Site(name="second")}

    assert names_of(sites) == {"default": ["one", "two"], "second": []}
