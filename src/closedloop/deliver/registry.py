"""Which destinations there are: the one place where a new one is named; and their settings from a file."""

import re
from collections.abc import Callable, Mapping

import msgspec

from closedloop.deliver.base import Destination
from closedloop.deliver.destinations.metrica_conversions import MetricaConversions
from closedloop.deliver.destinations.metrica_orders import MetricaOrders
from closedloop.deliver.destinations.url_template import UrlTemplate
from closedloop.deliver.destinations.webhook import Webhook
from closedloop.deliver.fields import Field, fields_of, read_settings
from closedloop.domain.tables import nearest
from closedloop.errors import ConfigError

DESTINATIONS: Mapping[str, Destination] = {
    one.name: one for one in (MetricaOrders(), MetricaConversions(), Webhook(), UrlTemplate())
}
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

# Gives the text of a secret that `env:` or `file:` names; None after noting why it cannot.
Reveal = Callable[[str, object], object]


class DestinationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One destination of one site; what it was told is kept under its name: a new name is told it again."""

    name: str
    type: str
    settings: msgspec.Struct

    @property
    def destination(self) -> Destination:
        """How it is spoken to."""
        return DESTINATIONS[self.type]


def settings_of(kind: str, table: Mapping[str, object]) -> msgspec.Struct:
    """Return the settings of a type of destination from a table without `name` and `type`.

    Raises ConfigError with every mistake, each a line that begins with its key.
    """
    if kind not in DESTINATIONS:
        raise ConfigError([f"type {unknown_type(kind)}"])
    return read_settings(DESTINATIONS[kind].settings, table)


def read_destination(row: Mapping[str, object], reveal: Reveal) -> DestinationConfig:
    """Return one table of `[[sites.NAME.destinations]]`; `name` is the type where it is left out.

    `reveal` is asked for each secret, with its key. Raises as `settings_of`, mistakes of `name` among them.
    """
    kind = row.get("type")
    if not isinstance(kind, str):
        raise ConfigError([f"type is missing: one of {', '.join(sorted(DESTINATIONS))}"])
    if kind not in DESTINATIONS:
        raise ConfigError([f"type {unknown_type(kind)}"])
    name = row.get("name", kind)
    mistakes: list[str] = []
    if not isinstance(name, str) or not NAME.fullmatch(name):
        mistakes = ["name must be lower-case letters, digits, '-' and '_'"]
    fields = {field.name: field for field in fields_of(DESTINATIONS[kind].settings)}
    table = {key: value for key, value in row.items() if key not in ("name", "type")}
    for key in table.keys() & {field.name for field in fields.values() if field.is_secret is not False}:
        table[key] = revealed(fields[key], table[key], reveal)
    try:
        settings = settings_of(kind, table)
    except ConfigError as error:
        raise ConfigError(sorted([*mistakes, *error.mistakes])) from None
    if mistakes:
        raise ConfigError(mistakes)
    return DestinationConfig(name=str(name), type=kind, settings=settings)


def revealed(field: Field, value: object, reveal: Reveal) -> object:
    """Return a secret's text; if it cannot be read, an example in its place: the rest is still checked."""
    told = reveal(field.name, value)
    return field.examples[0] if told is None and field.examples else told


def unknown_type(kind: str) -> str:
    """Return what is wrong with a type that no destination has."""
    hint = nearest(kind, DESTINATIONS) or f"; known are: {', '.join(sorted(DESTINATIONS))}"
    return f"is not a destination: {kind[:80]!r}{hint}"
