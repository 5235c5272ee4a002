"""Tables as TOML and JSON give them: narrowed to types, each with its place; near names to wrong ones."""

import difflib
from collections.abc import Iterable
from typing import TypeAlias, cast

Table: TypeAlias = dict[str, object]


def as_table(value: object) -> Table | None:
    """Return a table as one, or None when it is something else."""
    return cast("Table", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """Return an array as one, or None when it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else None


def tables_in(place: str, value: object) -> list[tuple[str, Table]]:
    """Return the tables that a setting consists of, each with its place: `goals[0]`."""
    rows = as_list(value)
    places = [(place, value)] if rows is None else [(f"{place}[{at}]", row) for at, row in enumerate(rows)]
    return [(at, table) for at, row in places if (table := as_table(row)) is not None]


def nearest(told: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names what was probably meant, empty when nothing is near."""
    near = difflib.get_close_matches(told, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def not_a_setting(name: str, known: Iterable[str]) -> str:
    """Return what is wrong with an unknown name: the nearest that is known, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(names)}"
    return f"is not a setting; {hint}"
