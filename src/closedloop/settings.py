"""All settings of a deployment as frozen structs; reads neither files nor the environment."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from closedloop.deliver.registry import DestinationConfig
from closedloop.domain.goals import Goal

SITE_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
FILE_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
MOMENTS = ("created", "qualified", "won", "lost")
MOMENT_BY_ID = r"(?:stage|status):\S+"
GOAL_VALUE = r"sum|field:\S.*|[0-9]{1,12}(?:\.[0-9]{1,4})?%?"
MAX_DEDUP_HOURS = 366 * 24
# `alfashop` of https://alfashop.amocrm.ru; a machine of one's own (127.0.0.1, localhost) names no account.
_ACCOUNT_HOST = re.compile(r"https?://([a-z0-9-]+)\.(?:[a-z0-9-]+\.)+[a-z]{2,}(?=[:/]|$)", re.IGNORECASE)


class WriteBack(msgspec.Struct, frozen=True, kw_only=True):
    """Into which fields of a deal we write where it came from; None leaves a field alone.

    Bitrix24: names such as UF_CRM_1721244482. amoCRM: ids of fields.
    """

    source: str | None = None
    campaign: str | None = None
    match: str | None = None


class Bitrix24(msgspec.Struct, frozen=True, kw_only=True):
    """How to believe one Bitrix24 portal, and how to read back from it."""

    rest_url: str | None = None
    application_token: str | tuple[str, ...] = ()
    member_id: str | None = None
    session_field: str | None = None  # UF_CRM_…; None: any of the usual names
    private_address: bool = False  # the portal stands in a private network, and that is meant
    sweep_minutes: float = 5
    write_back: WriteBack = WriteBack()

    @property
    def application_tokens(self) -> tuple[str, ...]:
        """The tokens that are believed: every outgoing webhook of a portal has its own."""
        told = self.application_token
        return (told,) if isinstance(told, str) else told


class AmoCrm(msgspec.Struct, frozen=True, kw_only=True):
    """How to believe one amoCRM account, and how to read back from it: by a long-lived token, or OAuth."""

    base_url: str | None = None
    account_id: str | None = None
    access_token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    redirect_uri: str | None = None
    refresh_token: str | None = None  # the first; the later ones are kept in the database
    session_field: str | None = None  # id, code or name; None: any of the usual names
    private_address: bool = False
    sweep_minutes: float = 5
    write_back: WriteBack = WriteBack()

    @property
    def accounts(self) -> tuple[str, ...]:
        """What the account is called in its webhooks: its id, and the first name of its address."""
        named = _ACCOUNT_HOST.match(self.base_url or "")
        return tuple(filter(None, (self.account_id, named[1] if named else None)))


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
    destinations: tuple[DestinationConfig, ...] = ()

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
