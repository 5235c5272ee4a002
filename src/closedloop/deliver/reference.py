"""The page docs/reference/destinations.md, made from the settings that the code reads."""

import json
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args, get_origin

from closedloop.deliver.base import Destination
from closedloop.deliver.fields import Field, fields_of
from closedloop.deliver.registry import DESTINATIONS

_HEAD = """\
# Destinations

Written by `scripts/reference` from the code; a test holds it up to date.

Each destination of a site is one table in `closedloop.toml`. Besides its settings it has a `type`, and a
`name`: lower-case letters, digits, `-` and `_`, the type where it is left out. What a destination was told is
kept under its name: two of one type need two names, and one that is renamed is told everything again. A
secret stands in the file as `"env:NAME"` or `"file:PATH"`. Wrong settings stop the start, with every mistake
by its key.
"""
_ROW = "| {name} | {kind} | {default} | {meaning} | {example} |\n"
_KINDS: Mapping[object, str] = {str: "text", bool: "true or false", int: "whole number"}


def reference_page(destinations: Mapping[str, Destination] = DESTINATIONS) -> str:
    """Return the whole page: for each destination, what it is, the least that it needs, and all settings."""
    return _HEAD + "".join(_section(one) for _, one in sorted(destinations.items()))


def _section(destination: Destination) -> str:
    fields = fields_of(destination.settings)
    about = (type(destination).__doc__ or "").partition("\n")[0]
    least = [f'type = "{destination.name}"', *(_line(field) for field in fields if field.is_required)]
    rows = [
        _ROW.format(name="setting", kind="value", default="default", meaning="meaning", example="example"),
        "|---|---|---|---|---|\n",
        *map(_row, fields),
    ]
    toml = "\n".join(["```toml", "[[sites.default.destinations]]", *least, "```"])
    return f"\n## {destination.name}\n\n{about}\n\n{toml}\n\n{''.join(rows)}"


def _row(field: Field) -> str:
    example = _line(field).partition(" = ")[2]
    return _ROW.format(
        name=f"`{field.name}`",
        kind=_kind(field.kind),
        default=_default(field),
        meaning=f"**{field.title}.** {field.help}".replace("|", "\\|"),
        example=f"`{example}`".replace("|", "\\|"),
    )


def _default(field: Field) -> str:
    if field.is_required:
        return "required"
    return "none" if field.default in (None, "", (), {}) else f"`{_toml(field.default)}`"


def _line(field: Field) -> str:
    """Return a setting as an owner writes it; a secret is named, never written."""
    named = f"env:{field.name.upper()}"
    example = field.examples[0] if field.examples else ""
    if field.is_secret:
        example = [named] if isinstance(example, tuple | list) else named
    return f"{field.name} = {_toml(example)}"


def _kind(kind: Any) -> str:  # noqa: ANN401 - a type in all its shapes
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{_toml(one)}`" for one in inner)
    if origin is tuple:
        return "list of texts"
    if origin is dict:
        return "table of texts"
    return _KINDS.get(kind, "text")


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, cast('list[object]', value)))}]"
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return f"{{{', '.join(f'{_toml(name)} = {_toml(told)}' for name, told in pairs)}}}"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    """Return a text in quotes; in single ones where that saves escapes."""
    return f"'{value}'" if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)
