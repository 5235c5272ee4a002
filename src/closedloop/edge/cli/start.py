"""What `serve`, `web` and `worker` are started with."""

from pathlib import Path

import msgspec


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve`, `web` and `worker` are started with."""

    web: bool = True
    worker: bool = True
    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path | None = None
    config: Path | None = None
    workers: int = 1
    joins: bool = False  # one of several processes on one port, started by the first
