"""What was refused lately, for the page that helps to set up a site; in memory, lost with the process."""

from collections import deque
from datetime import datetime

import msgspec

KEPT = 50


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A hit of a page that may not send."""

    at: datetime
    origin: str


class Recent:
    """The latest refusals of each site."""

    def __init__(self) -> None:
        self.refused: dict[str, deque[Refused]] = {}

    def refuse(self, site: str, at: datetime, origin: str) -> None:
        """Note that a page of this origin may not send to this site."""
        self.refused.setdefault(site, deque(maxlen=KEPT)).append(Refused(at=at, origin=origin[:200]))

    def of(self, site: str) -> list[Refused]:
        """Return the latest refusals of a site, newest first."""
        return list(reversed(self.refused.get(site, ())))
