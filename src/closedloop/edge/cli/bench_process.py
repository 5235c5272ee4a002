"""What the processes of a server cost, processor and memory, and on what machine they run."""

import os
import platform
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psutil

from closedloop.edge.cli.demo_server import OwnServer

LOOK_S = 0.2
MIB = 1024 * 1024


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """Processor seconds of the server and of all of PostgreSQL."""

    server: float
    postgres: float

    def since(self, before: "Cpu") -> "Cpu":
        """Return what was spent after `before`."""
        return Cpu(server=self.server - before.server, postgres=self.postgres - before.postgres)

    @property
    def both(self) -> float:
        """The sum."""
        return self.server + self.postgres


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of the server's process in MiB; `pss` divides what it shares with others among these."""

    rss: float
    pss: float


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine in words, without its name."""

    cores: int
    processor: str
    memory_gib: int
    system: str
    python: str
    postgres: str
    fsync: str
    synchronous_commit: str


def cpu_of(server: OwnServer) -> Cpu:
    """Return what was spent until now; backends of PostgreSQL that have ended are in it."""
    postmaster = psutil.Process(server.postmaster.pid)
    spent = sum(postmaster.cpu_times()[:4])  # its own and those of children that ended: user, system
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            spent += sum(child.cpu_times()[:2])
    own = psutil.Process(server.pid).cpu_times()
    return Cpu(server=own.user + own.system, postgres=spent)


def memory_of(server: OwnServer) -> Memory:
    """Return what the server's process holds now."""
    held = psutil.Process(server.pid).memory_full_info()
    return Memory(rss=held.rss / MIB, pss=held.pss / MIB)


@contextmanager
def highest_memory(server: OwnServer) -> Generator[list[Memory]]:
    """Watch the server's memory; the list holds one value, the highest, when the block has ended."""
    found: list[Memory] = []
    over = threading.Event()

    def look() -> None:
        seen = [memory_of(server)]
        while not over.wait(LOOK_S):
            seen.append(memory_of(server))
        found.append(max(seen, key=lambda one: one.rss))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def machine(facts: tuple[str, str, str]) -> Machine:
    """Return the machine; `facts` are the version, fsync and synchronous_commit of its PostgreSQL."""
    version, fsync, synchronous_commit = facts
    return Machine(
        cores=os.cpu_count() or 1,
        processor=processor_name(),
        memory_gib=round(psutil.virtual_memory().total / MIB / 1024),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        postgres=version,
        fsync=fsync,
        synchronous_commit=synchronous_commit,
    )


def processor_name() -> str:
    """Return the processor's name as Linux says it, else its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
