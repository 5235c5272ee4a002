"""Which database a command works on: DATABASE_URL, or the embedded one for as long as it is needed."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from closedloop.config import read_config
from closedloop.errors import OperatorError
from closedloop.settings import Config, Site
from closedloop.store.database import plain_conninfo
from closedloop.store.embedded import Embedded


@contextlib.contextmanager
def database_of(config: Path | None, data_dir: Path | None) -> Generator[tuple[Config, str]]:
    """Give the configuration and the conninfo; errors as `read_config`, `plain_conninfo` and `Embedded`."""
    settings = read_config(config=config, data_dir=data_dir)
    with contextlib.ExitStack() as stack:
        url = settings.database_url or stack.enter_context(Embedded(settings.data_dir)).url
        yield settings, plain_conninfo(url)


def site_of(settings: Config, name: str) -> Site:
    """Return a configured site. Raises OperatorError for a name that is none."""
    if name not in settings.sites:
        raise OperatorError(f"there is no site {name}; known are: {', '.join(settings.sites)}")
    return settings.sites[name]
