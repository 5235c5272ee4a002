"""PHP's way with forms and arrays, which both CRMs have: brackets as trees, maps that turn into lists."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"

NAME = re.compile(r"([^\[]+)((?:\[[^\]]*\])*)")
# Of the maps that PHP writes, those with the keys 0, 1, 2… come out as lists, and so do empty ones.
Tree: TypeAlias = "dict[str, Tree | str]"


def parse_form(text: str) -> dict[str, Json]:
    """Return what PHP makes of a query or a form: `{"filter": {">id": "5"}, "select": ["id", "title"]}`."""
    tree: Tree = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        found = NAME.match(name)
        if found is not None:
            put(tree, [found[1], *re.findall(r"\[([^\]]*)\]", found[2])], value)
    return {name: as_php(value) for name, value in tree.items()}


def put(tree: Tree, keys: Sequence[str], value: str) -> None:
    """Put a value at the end of a path; an empty key is the next number."""
    key = keys[0] or str(len(tree))
    if len(keys) == 1:
        tree[key] = value
        return
    inner = tree.get(key)
    if not isinstance(inner, dict):
        inner = tree[key] = {}
    put(inner, keys[1:], value)


def as_php(value: Json) -> Json:
    """Return a value as PHP writes it into JSON: maps without keys of their own are lists, at every depth."""
    if isinstance(value, Mapping):
        if list(value) == [str(index) for index in range(len(value))]:
            return [as_php(inner) for inner in value.values()]
        return {key: as_php(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_php(inner) for inner in value]
    return value


def write_form(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return a form as both CRMs write it: `%5B`, `%5D` and `%7E` for brackets and `~`, `+` for a space."""
    return urlencode(list(pairs)).replace("~", "%7E").encode()


def as_map(value: Json) -> Mapping[str, Json]:
    """Return a value as a map: a list's keys are its numbers, anything else has none."""
    if isinstance(value, Mapping):
        return value
    return {str(index): inner for index, inner in enumerate(as_list(value))}


def as_list(value: Json) -> list[Json]:
    """Return a value as a list: the values of a map, one text or number alone."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return [] if value is None else [value]


def as_text(value: Json) -> str:
    """Return a text or number as text; anything else is empty."""
    if isinstance(value, bool):
        return "1" if value else ""
    return str(value) if isinstance(value, str | int | float) else ""


def as_int(value: Json) -> int | None:
    """Return a whole number that stands in a text or is one, else None."""
    text = as_text(value)
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None
