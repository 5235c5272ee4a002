"""Which loops run in this process; how they start, drain and stop."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import structlog

from closedloop.errors import DatabaseAwayError
from closedloop.settings import Config
from closedloop.stages.collector import HitRecorder, HitWriter
from closedloop.stages.crms import Crms
from closedloop.stages.images import ImageKeeper
from closedloop.stages.intake import Intake, UnitWriter
from closedloop.stages.matching import Matcher
from closedloop.stages.recorder import ConversionRecorder
from closedloop.stages.routes import Routes, names_of
from closedloop.stages.writer import Writer
from closedloop.store.database import make_pool, plain_conninfo
from closedloop.store.sealed import Sealer
from closedloop.store.spool import Spool
from closedloop.store.statements import Shape
from closedloop.telemetry import DATABASE_UP

FIRST_CONNECT_S = 3.0
STOP_S = 20.0

log = structlog.get_logger()


class Process:
    """Everything that runs behind HTTP: the halves `web` (writer, spool) and `worker` (matching, images)."""

    def __init__(self, config: Config, database_url: str, *, web: bool = True, worker: bool = True) -> None:
        conninfo = plain_conninfo(database_url)
        names = list(config.sites)
        self.config = config
        self.web = web
        self.worker = worker
        self.pool = make_pool(conninfo)
        windows = {site.name: timedelta(hours=site.dedup_hours) for site in config.sites.values()}
        self.shape = Shape(windows, names_of(config.sites))
        self.writer: UnitWriter = Writer(conninfo, self.shape, ConversionRecorder(self.shape))
        self.hit_writer: HitWriter = Writer(conninfo, self.shape, HitRecorder(self.shape))
        self.keeper = ImageKeeper(self.pool, self.shape, names)
        self.matcher = Matcher(self.pool, self.shape, self.keeper, names)
        self.spool = Spool(config.data_dir / "spool.sqlite3")
        self.intake = Intake(self.writer, self.keeper, self.spool, Sealer(config.deployment_key))
        self.routes = Routes(config.sites, self.pool, self.shape, self.intake.sealer)
        self.crms = Crms(config.sites, self.intake, self.keeper, self.shape)
        self.writing: list[asyncio.Task[None]] = []
        self.loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the loops; returns when the database was reached, or was found to be away."""
        await self.pool.open()
        self.writing.append(asyncio.create_task(self.writer.run(), name="writer"))
        if self.web:
            self.writing.append(asyncio.create_task(self.hit_writer.run(), name="hit-writer"))
            self.begin(self.intake.drain(), "drain")
        if self.worker:
            self.begin(self.matcher.run(), "matching")
            self.begin(self.keeper.run(), "images")
        DATABASE_UP.set_function(lambda: float(self.writer.away is None))
        try:
            await asyncio.wait_for(self.writer.connected.wait(), FIRST_CONNECT_S)
        except TimeoutError:
            log.warning("database_away_at_start", reason=str(self.writer.away))
        if self.worker:
            # Not before: a sweep that finds the database away is put off, and a start is when it matters.
            for name, loop in (*self.crms.loops(), *self.routes.loops()):
                self.begin(loop, name)

    def begin(self, loop: Coroutine[Any, Any, None], name: str) -> None:
        """Run one endless loop until the end of the process."""
        self.loops.append(asyncio.create_task(loop, name=name))

    async def stop(self) -> None:
        """Record what was accepted, then end the loops; what the database does not take is in the spool."""
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        self.writer.stop()
        self.hit_writer.stop()
        if self.writing:
            await asyncio.wait(self.writing, timeout=STOP_S)
        for writing in self.writing:
            writing.cancel()
        await self.intake.close()
        await self.crms.close()
        await self.routes.close()
        await self.pool.close(timeout=1)
        self.spool.close()

    def readiness(self) -> DatabaseAwayError | None:
        """Return why this process cannot serve now, or None when it can."""
        return self.writer.away
