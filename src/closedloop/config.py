"""closedloop.toml and the environment, read once into one frozen value; the sole reader of either."""

import functools
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec

from closedloop.deliver.registry import DestinationConfig, read_destination
from closedloop.domain.money import CURRENCIES
from closedloop.domain.signing import NO_SIGNING_KEY, SIGNING_PREFIX, signing_key
from closedloop.domain.tables import Table, as_list, as_table, nearest, not_a_setting, tables_in
from closedloop.errors import ConfigError
from closedloop.settings import (
    FILE_NAME,
    GOAL_VALUE,
    MAX_DEDUP_HOURS,
    MOMENT_BY_ID,
    MOMENTS,
    SITE_NAME,
    Config,
    Site,
    Tracker,
)

# Settings whose text may be "env:NAME" or "file:PATH", and must be where they would be a secret.
# What is secret in a destination, its settings say themselves.
SECRETS = {"webhook_keys", "rest_url", "application_token", "access_token", "refresh_token", "client_secret"}
ADDRESS = re.compile(r"https?://[^/\s]+(?:/\S*)?")


class Reader:
    """Reads one configuration and collects every mistake with the place it is in."""

    def __init__(self, environment: Mapping[str, str], path: Path | None) -> None:
        self.environment = environment
        self.path = path
        self.mistakes: list[str] = []

    def mistake(self, key: str, problem: str) -> None:
        """Note one mistake: file, key, what is wrong."""
        self.mistakes.append(f"{self.path or 'environment'}: {key} {problem}")

    @functools.cached_property
    def document(self) -> Table:
        """Return the parsed file, empty when there is none."""
        if self.path is None:
            return {}
        try:
            return tomllib.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError([f"{self.path}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError([f"{self.path}: is not TOML: {error}"]) from error

    def sites(self) -> dict[str, Site]:
        """Return the sites of the file, or the one site that needs no ceremony."""
        self.check_names("", self.document, {"sites", "tracker"})
        tables = as_table(self.document.get("sites", {}))
        if tables is None:
            self.mistake("sites", "must be tables such as [sites.default]")
            return {}
        tables.setdefault("default", {})
        return {name: self.site(name, table) for name, table in tables.items()}

    def tracker(self) -> Tracker:
        """Return the names of the tracker; its mistakes are noted and answered with the default."""
        table = as_table(self.document.get("tracker", {}))
        if table is None:
            self.mistake("tracker", "must be a table")
            return Tracker()
        self.check("tracker", table, Tracker)
        for name in table.keys() & {"script", "collect"}:
            if not isinstance(table[name], str) or not re.fullmatch(FILE_NAME, str(table[name])):
                self.mistake(f"tracker.{name}", "must be a name of letters, digits, '.', '_' and '-'")
                return Tracker()
        return Tracker(
            **{name: str(value) for name, value in table.items() if name in Tracker.__struct_fields__}
        )

    def site(self, name: str, value: object) -> Site:
        """Return one site; its mistakes are noted and answered with the default."""
        place = f"sites.{name}"
        table = as_table(value)
        if table is None:
            self.mistake(place, "must be a table")
            return Site(name=name)
        rest = {key: told for key, told in table.items() if key != "destinations"}
        self.check(place, rest, Site)
        settings = self.settings(place, self.with_secrets(place, rest))
        destinations = self.destinations(f"{place}.destinations", table.get("destinations", []))
        site = Site(name=name, destinations=destinations, **settings)
        self.check_site(place, site)
        return site

    def settings(self, place: str, table: Table) -> dict[str, Any]:
        """Return the settings of one site that have the right type; the mistakes of the others are noted."""
        found: dict[str, Any] = {}
        for field in msgspec.structs.fields(Site):
            if field.name == "name" or field.name not in table:
                continue
            try:
                found[field.name] = msgspec.convert(table[field.name], field.type)
            except msgspec.ValidationError as error:
                self.mistake(f"{place}.{field.name}", f"is wrong: {error}")
        return found

    def destinations(self, place: str, value: object) -> tuple[DestinationConfig, ...]:
        """Return the destinations of one site; the mistakes of the others are noted."""
        rows, tables = as_list(value), tables_in(place, value)
        if rows is None or len(tables) < len(rows):
            self.mistake(place, f"must be tables such as [[{place}]]")
        found: dict[str, DestinationConfig] = {}
        for at, row in tables:
            try:
                read = read_destination(row, functools.partial(self.revealed, at))
            except ConfigError as error:
                self.mistakes += [f"{self.path or 'environment'}: {at}.{line}" for line in error.mistakes]
                continue
            if read.name in found:
                self.mistake(f"{at}.name", f"is that of another destination, too: {read.name!r}")
            found[read.name] = read
        return tuple(found.values())

    def revealed(self, place: str, key: str, value: object) -> object:
        """Return a secret of a destination, or several; None when there is a mistake in it."""
        known = len(self.mistakes)
        rows = as_list(value)
        if rows is None:
            told = self.secret(f"{place}.{key}", str(value))
        else:
            told = [self.secret(f"{place}.{key}[{at}]", str(row)) for at, row in enumerate(rows)]
        return told if len(self.mistakes) == known else None

    def check_site(self, place: str, site: Site) -> None:
        """Note what a type alone does not say about a site."""
        try:
            ZoneInfo(site.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            hint = nearest(site.timezone, known_zones())
            self.mistake(f"{place}.timezone", f"is not an IANA time zone: {site.timezone!r}{hint}")
        if site.currency not in CURRENCIES:
            hint = nearest(site.currency, CURRENCIES)
            self.mistake(f"{place}.currency", f"is not an ISO 4217 code such as RUB: {site.currency!r}{hint}")
        if not 0 < site.dedup_hours <= MAX_DEDUP_HOURS:
            self.mistake(f"{place}.dedup_hours", f"must be more than 0 and at most {MAX_DEDUP_HOURS}, a year")
        for index, goal in enumerate(site.goals):
            if goal.on not in MOMENTS and not re.fullmatch(MOMENT_BY_ID, goal.on):
                hint = nearest(goal.on, MOMENTS)
                known = f"{', '.join(MOMENTS)}, stage:ID or status:ID"
                self.mistake(f"{place}.goals[{index}].on", f"must be {known}: {goal.on!r}{hint}")
            if not re.fullmatch(GOAL_VALUE, goal.value):
                told = f"must be sum, field:NAME, a sum such as 1500 or a share such as 30%: {goal.value!r}"
                self.mistake(f"{place}.goals[{index}].value", told)
        self.check_crm(place, site)
        for index, key in enumerate(site.webhook_keys):
            self.check_key(f"{place}.webhook_keys[{index}]", key)

    def check_crm(self, place: str, site: Site) -> None:
        """Note what could not work in how a CRM is read back; never shows a secret."""
        told = {
            "bitrix24.rest_url": site.bitrix24.rest_url if site.bitrix24 else None,
            "amocrm.base_url": site.amocrm.base_url if site.amocrm else None,
        }
        for name, address in told.items():
            if address and not ADDRESS.fullmatch(address):
                self.mistake(f"{place}.{name}", "must be an address that begins with https://")
        amo = site.amocrm
        if amo is None:
            return
        parts = {
            "client_id": amo.client_id,
            "client_secret": amo.client_secret,
            "redirect_uri": amo.redirect_uri,
        }
        missing = [name for name, value in parts.items() if not value]
        if amo.refresh_token and missing:
            self.mistake(f"{place}.amocrm", f"has a refresh_token and lacks {', '.join(missing)}")

    def check_key(self, place: str, key: str) -> None:
        """Note a signing secret with which anybody could sign; never shows it."""
        if key.startswith(SIGNING_PREFIX) and signing_key(key) is None:
            self.mistake(place, NO_SIGNING_KEY)

    def check(self, place: str, table: Table, shape: type[msgspec.Struct]) -> None:
        """Note unknown names in a table and in the tables inside it."""
        fields = {field.name: field for field in msgspec.structs.fields(shape)}
        self.check_names(f"{place}.", table, set(fields) - {"name"})
        for name, value in table.items():
            inner = inner_struct(fields[name].type) if name in fields else None
            if inner is None:
                continue
            for at, row in tables_in(f"{place}.{name}", value):
                self.check(at, row, inner)

    def check_names(self, prefix: str, table: Table, known: set[str]) -> None:
        """Note every name that is not known, with the nearest that is."""
        for name in table.keys() - known:
            self.mistake(f"{prefix}{name}", not_a_setting(name, known))

    def with_secrets(self, place: str, table: Table) -> Table:
        """Return the table with every `env:` and `file:` replaced by what it points to."""
        return {name: self.with_secret(f"{place}.{name}", name, value) for name, value in table.items()}

    def with_secret(self, place: str, name: str, value: object) -> object:
        """Return one setting, the secrets in it or below it replaced."""
        table = as_table(value)
        if table is not None:
            return self.with_secrets(place, table)
        rows = as_list(value)
        if rows is None:
            return self.secret(place, value) if name in SECRETS else value
        return [self.with_secret(f"{place}[{index}]", name, row) for index, row in enumerate(rows)]

    def secret(self, place: str, value: object) -> object:
        """Return one secret; one that stands in the file itself is a mistake."""
        if not isinstance(value, str):
            return value
        kind, _, name = value.partition(":")
        if kind == "env":
            told = self.environment.get(name, "").strip()
            if not told:
                self.mistake(place, f"names the environment variable {name}, which is not set")
            return told
        if kind == "file":
            return self.secret_file(place, Path(name))
        self.mistake(place, 'holds a secret in the file; write "env:NAME" or "file:PATH" instead')
        return ""

    def secret_file(self, place: str, path: Path) -> str:
        """Return the text of a secret's file without its line end."""
        try:
            told = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            self.mistake(place, f"names the file {path}, which cannot be read: {error.strerror}")
            return ""
        except UnicodeDecodeError:
            self.mistake(place, f"names the file {path}, which is not UTF-8")
            return ""
        if not told:
            self.mistake(place, f"names the file {path}, which is empty")
        return told


def read_sites(path: Path, environment: Mapping[str, str] | None = None) -> dict[str, Site]:
    """Return the sites of one configuration file; makes nothing. Raises ConfigError with every mistake."""
    reader = Reader(os.environ if environment is None else environment, path)
    sites = reader.sites()
    if reader.mistakes:
        raise ConfigError(sorted(reader.mistakes))
    return sites


def read_config(
    *, config: Path | None = None, data_dir: Path | None = None, environment: Mapping[str, str] | None = None
) -> Config:
    """Return the settings of this deployment; arguments win over the environment.

    Makes the data folder, the deployment's key and, when no key of site `default` is configured, its
    webhook key, each once. Raises ConfigError with every mistake, one line each.
    """
    environment = os.environ if environment is None else environment
    named = config or (Path(value) if (value := environment.get("CLOSEDLOOP_CONFIG")) else None)
    here = Path("closedloop.toml")
    reader = Reader(environment, named or (here if here.exists() else None))
    sites = reader.sites()
    tracker = reader.tracker()
    for name in sites:
        check_site_name(reader, name)
    given = environment.get("CLOSEDLOOP_WEBHOOK_KEY", "").strip()
    reader.check_key("CLOSEDLOOP_WEBHOOK_KEY", given)
    refuse_shared_keys(reader, sites, given)
    folder = data_dir or Path(environment.get("CLOSEDLOOP_DATA_DIR") or "data")
    if reader.mistakes:
        raise ConfigError(sorted(reader.mistakes))
    make_folder(folder)
    sites, made = with_default_key(sites, given, folder)
    return Config(
        sites=sites,
        tracker=tracker,
        data_dir=folder.resolve(),
        database_url=environment.get("DATABASE_URL") or None,
        deployment_key=read_deployment_key(folder / "deployment.key"),
        new_webhook_key=made,
    )


def read_deployment_key(path: Path) -> bytes:
    """Return the 32 bytes by which this deployment seals and hashes: made once, the same on each machine."""
    key, _ = kept_secret(path, lambda: secrets.token_hex(32))
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ConfigError([f"{path}: is not 64 hexadecimal digits; put back the file that was here first"])
    return bytes.fromhex(key)


def child_environment(database_url: str) -> dict[str, str]:
    """Return the environment for a further process of ours on the same database."""
    return os.environ | {"DATABASE_URL": database_url}


def refuse_shared_keys(reader: Reader, sites: Mapping[str, Site], given: str) -> None:
    """Note a key that opens two sites: nobody could say whose sale it is. `given` is one of `default`."""
    owners = {given: "default"}
    for name, site in sites.items():
        for key in filter(None, site.webhook_keys):
            if owners.setdefault(key, name) != name:
                reader.mistake(f"sites.{name}.webhook_keys", f"holds a key that sites.{owners[key]} has, too")


def check_site_name(reader: Reader, name: str) -> None:
    """Note a site's name that would not fit into an address."""
    if not re.fullmatch(SITE_NAME, name):
        reader.mistake(f"sites.{name}", "must be lower-case letters, digits, '-' and '_'")


def with_default_key(sites: dict[str, Site], given: str, folder: Path) -> tuple[dict[str, Site], str | None]:
    """Return the sites with the key of `default` in place, and that key if it was made just now."""
    site = sites["default"]
    made = None
    if given:
        keys = (given, *site.webhook_keys)
    elif site.webhook_keys:
        keys = site.webhook_keys
    else:
        key, is_new = kept_secret(folder / "webhook.key", lambda: secrets.token_urlsafe(24))
        keys, made = (key,), key if is_new else None
    return {**sites, "default": msgspec.structs.replace(site, webhook_keys=keys)}, made


def make_folder(folder: Path) -> None:
    """Make the data folder. Raises ConfigError when it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"{folder}: the data folder cannot be made: {error.strerror}"]) from error


def kept_secret(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """Return the secret in a file, and whether it was made just now; two starts at once agree on one."""
    if not path.exists():
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            os.link(fresh, path)
            return path.read_text().strip(), True
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error
        finally:
            fresh.unlink(missing_ok=True)
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.chmod(0o600)
        return path.read_text().strip(), False
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error


def inner_struct(annotation: object) -> type[msgspec.Struct] | None:
    """Return the struct inside `Struct | None` or `tuple[Struct, ...]`, if there is one."""
    for candidate in (annotation, get_origin(annotation), *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None


def known_zones() -> list[str]:
    """Return the names of all time zones of this machine."""
    return sorted(available_timezones())
