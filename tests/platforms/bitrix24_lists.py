"""How Bitrix24's list methods filter, order and page: fifty records, their number, and where to go on.

Source: docs/protocols/bitrix24.md, 5.5 and 5.6; `start` = -1 as on the vendor's page about much data.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from platforms.forms import Json, as_int, as_list, as_map, as_text

# The portal's own.
ZONE = timezone(timedelta(hours=3))
PAGE = 50
NOT_COUNTED = -1
NUMBERS = {"integer", "user", "crm_category", "crm_lead", "crm_contact", "crm_company"}
PREFIX = re.compile(r"(!=%|!%=|>=|<=|!@|!=|!%|=%|%=|[><@!=%])?(.+)", re.DOTALL)

Record = TypeVar("Record")
# What a field is before it is written; moments are Unix seconds.
Value: TypeAlias = int | str | Decimal | date | list[int] | None


class RestError(Exception):
    """A refusal; `error` is the word for programs and may be empty."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(status, error, description)
        self.status, self.error, self.description = status, error, description


@dataclass(frozen=True)
class Column(Generic[Record]):
    """What a list is filtered and ordered by; `kind` is the vendor's word for its type."""

    kind: str
    read: Callable[[Record], Value]
    is_list: bool = False


class Page(NamedTuple):
    """One page of a list."""

    records: Sequence[Json]
    total: int
    next: int | None


def bad(description: str) -> RestError:
    """Return the refusal of a parameter."""
    return RestError(400, "INVALID_ARG_VALUE", description)


def compiled(
    conditions: Json, columns: Mapping[str, Column[Record]], *, is_strict: bool
) -> Callable[[Record], bool]:
    """Return what a filter lets through: all conditions, or any of them when `logic` says so.

    Raises RestError for a field that is not there or a value that is none; the classic methods ignore both.
    """
    tests: list[Callable[[Record], bool]] = []
    given = as_map(conditions)
    for key, value in given.items():
        if isinstance(value, Mapping) and (key.isdigit() or not key):
            tests.append(compiled(value, columns, is_strict=is_strict))
        elif key.lower() != "logic":
            tests.append(condition(key, value, columns, is_strict=is_strict))
    if as_text(given.get("logic")).upper() == "OR":
        return lambda record: any(test(record) for test in tests)
    return lambda record: all(test(record) for test in tests)


def condition(
    key: str, value: Json, columns: Mapping[str, Column[Record]], *, is_strict: bool
) -> Callable[[Record], bool]:
    """Return one condition, as `{">=movedTime": "2025-03-08T12:00:00+03:00"}` has it."""
    found = PREFIX.fullmatch(key)
    prefix, name = (found[1] or "", found[2]) if found is not None else ("", key)
    column = columns.get(name)
    if column is None or column.is_list:
        if is_strict:
            raise bad(f"Invalid filter: field '{name}' is not allowed in filter")
        return lambda _: True
    try:
        wanted = [comparable(column.kind, one) for one in as_list(value)] or [comparable(column.kind, "")]
    except (ValueError, ArithmeticError):
        if is_strict:
            raise bad(f"Invalid filter: field '{name}' has invalid value") from None
        return lambda _: True
    return compared(column.read, prefix, wanted)


def compared(read: Callable[[Record], Value], prefix: str, wanted: list[Value]) -> Callable[[Record], bool]:
    """Return one comparison; a list of values is a choice, whatever the prefix."""
    first = wanted[0]
    if prefix in ("", "=", "@"):
        return lambda record: plain(read(record)) in map(plain, wanted)
    if prefix in ("!", "!=", "!@"):
        return lambda record: plain(read(record)) not in map(plain, wanted)
    if "%" in prefix:
        part = str(first).strip("%").lower()
        return lambda record: (part in str(read(record) or "").lower()) != prefix.startswith("!")
    return ordered(read, prefix, first)


def ordered(read: Callable[[Record], Value], prefix: str, bound: Value) -> Callable[[Record], bool]:
    """Return a comparison by size; a field without a value is neither above nor below anything."""
    limit = sort_key(bound)

    def holds(record: Record) -> bool:
        value = read(record)
        if value is None:
            return False
        key = sort_key(value)
        if prefix == ">":
            return key > limit
        if prefix == ">=":
            return key >= limit
        return key < limit if prefix == "<" else key <= limit

    return holds


def plain(value: Value) -> Value:
    """Return a value for a comparison: nothing, an empty text and 0 are one."""
    return value or None


def sort_key(value: Value) -> tuple[bool, float, str]:
    """Return what values of one field are sorted by, nothing first."""
    if isinstance(value, str | date):
        return (True, 0.0, str(value))
    if value is None or isinstance(value, list):
        return (False, 0.0, "")
    return (True, float(value), "")


def comparable(kind: str, value: Json) -> Value:
    """Return a filter's value as the column's own; raises ValueError or ArithmeticError when it is none."""
    text = as_text(value)
    if kind == "datetime":
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=ZONE)).timestamp())
    if kind == "date":
        return datetime.fromisoformat(text).date()
    if kind == "double":
        return Decimal(text or 0)
    return int(text or 0) if kind in NUMBERS else text


def order_of(
    order: Json, columns: Mapping[str, Column[Record]], *, is_strict: bool
) -> list[tuple[Column[Record], bool]]:
    """Return columns and whether they descend, the most important first; none when nothing is asked for."""
    found: list[tuple[Column[Record], bool]] = []
    for name, direction in as_map(order).items():
        column = columns.get(name)
        if column is None and is_strict:
            raise bad(f"Invalid order: field '{name}' is not allowed in order")
        way = as_text(direction).upper()
        if way not in ("ASC", "DESC") and is_strict:
            raise bad(
                f"Invalid order: allowed sort directions are ASC, DESC. But got '{way}' for field '{name}'"
            )
        if column is not None:
            found.append((column, way == "DESC"))
    return found


def in_order(records: list[Record], order: list[tuple[Column[Record], bool]]) -> list[Record]:
    """Return records in an order; equals stay as they came, which is by their ids."""
    for column, descends in reversed(order):
        records = by_column(records, column, descends=descends)
    return records


def by_column(records: list[Record], column: Column[Record], *, descends: bool) -> list[Record]:
    """Return records in the order of one column."""
    return sorted(records, key=lambda one: sort_key(column.read(one)), reverse=descends)


def paged(records: Sequence[Record], start: Json, write: Callable[[Record], Json]) -> Page:
    """Return the page that begins at `start`; at -1 nothing is counted and nothing said of a next one."""
    first = as_int(start) or 0
    if first == NOT_COUNTED:
        return Page([write(one) for one in records[:PAGE]], 0, None)
    end = first + PAGE
    page = [write(one) for one in records[max(first, 0) : end]]
    return Page(page, len(records), end if end < len(records) else None)
