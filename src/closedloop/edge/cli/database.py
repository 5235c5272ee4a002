"""Which database a command works on: DATABASE_URL, or the embedded one for as long as it is needed."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from closedloop.config import read_config
from closedloop.settings import Config
from closedloop.store.database import plain_conninfo
from closedloop.store.embedded import Embedded


@contextlib.contextmanager
def database_of(config: Path | None, data_dir: Path | None) -> Generator[tuple[Config, str]]:
    """Give the configuration and the conninfo; errors as `read_config`, `plain_conninfo` and `Embedded`."""
    settings = read_config(config=config, data_dir=data_dir)
    with contextlib.ExitStack() as stack:
        url = settings.database_url or stack.enter_context(Embedded(settings.data_dir)).url
        yield settings, plain_conninfo(url)
