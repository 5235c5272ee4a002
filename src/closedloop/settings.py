"""All settings of a deployment as frozen structs; reads neither files nor the environment."""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

SITE_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
FILE_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
MOMENTS = ("created", "qualified", "won", "lost")
MOMENT_BY_ID = r"(?:stage|status):\S+"
MAX_DEDUP_HOURS = 366 * 24
# A webhook key that begins so is the secret of Standard Webhooks signatures, base64 of at least so many bytes
# (docs/protocols/standard-webhooks.md, 1).
SIGNING_PREFIX = "whsec_"
MIN_SIGNING_BYTES = 24


class Bitrix24(msgspec.Struct, frozen=True, kw_only=True):
    """How to read back from one Bitrix24 portal."""

    rest_url: str | None = None
    application_token: str | None = None


class AmoCrm(msgspec.Struct, frozen=True, kw_only=True):
    """How to read back from one amoCRM account."""

    base_url: str | None = None
    access_token: str | None = None


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """Which moment in the CRM is which goal: `on` is created, qualified, won, lost, stage:ID or status:ID."""

    on: str
    goal: str


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One website: its keys, its money, its day."""

    name: str = "default"
    timezone: str = "Europe/Moscow"
    currency: str = msgspec.field(default="RUB")
    origins: tuple[str, ...] = ()
    webhook_keys: tuple[str, ...] = ()
    dedup_hours: float = 24
    bitrix24: Bitrix24 | None = None
    amocrm: AmoCrm | None = None
    goals: tuple[Goal, ...] = ()
    destinations: tuple[dict[str, Any], ...] = ()

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which this site cuts its days and people write its dates."""
        return ZoneInfo(self.timezone)


class Tracker(msgspec.Struct, frozen=True, kw_only=True):
    """Under which names the tracker is served and sends: lists of blockers know names one by one."""

    script: str = "tilda-analytics.js"
    collect: str = "collect"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one deployment."""

    sites: dict[str, Site]
    tracker: Tracker = Tracker()
    data_dir: Path
    database_url: str | None  # None: the embedded PostgreSQL
    deployment_key: bytes
    new_webhook_key: str | None = None  # made just now, to be printed once
