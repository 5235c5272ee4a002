"""JSON that a CRM's API answers, as plain trees in which a number is its digits; knows no CRM."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import TypeAlias, TypeVar

import msgspec

from closedloop.domain.money import read_currency, read_number
from closedloop.errors import CallerError

Json: TypeAlias = "bool | str | list[Json] | dict[str, Json] | None"
Table: TypeAlias = dict[str, Json]
T = TypeVar("T")

_UNIX = re.compile(r"[0-9]{1,11}")
# An old PHP prints 999.9 as 999.89999999999998; no currency has more than four places.
_NOISY = re.compile(r"-?[0-9]{1,15}\.[0-9]{7,}")
_PLACES = Decimal("0.0001")
_DIGITS = re.compile(r"[1-9][0-9]{0,18}")


def read_object(body: bytes) -> Table | None:
    """Return the JSON object of an answer, None when it is something else; no number goes through a float.

    Bytes that are no UTF-8 are replaced: one broken title must not hide a page of deals.
    """
    try:
        told: Json = json.loads(
            body.decode("utf-8-sig", errors="replace"), parse_int=str, parse_float=str, parse_constant=str
        )
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def inside(node: Json, *path: str) -> Json:
    """Return what stands at a path of names, None when there is nothing."""
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def table(node: Json) -> Table:
    """Return an object as it is, and an empty one for everything else: PHP writes `[]` for an empty map."""
    return node if isinstance(node, dict) else {}


def rows(node: Json) -> list[Table]:
    """Return the objects of a list in their order, none when it is no list."""
    return [item for item in node if isinstance(item, dict)] if isinstance(node, list) else []


def text(node: Json) -> str:
    """Return a scalar as text that PostgreSQL can hold: true is `1`, false, null and objects are empty.

    Several are joined by `; `.
    """
    if isinstance(node, str):
        return _storable(node)
    if isinstance(node, list):
        return "; ".join(filter(None, map(text, node)))
    return "1" if node is True else ""


def texts(node: Json) -> list[str]:
    """Return the texts of a field that may have one value or several, empty ones left out."""
    return list(filter(None, map(text, node if isinstance(node, list) else [node])))


def object_id(node: Json) -> str:
    """Return an id as its digits; empty for nothing, which is null, `""`, `0` or something else."""
    told = text(node)
    return told if _DIGITS.fullmatch(told) else ""


def moment(node: Json) -> datetime | None:
    """Return the moment of `"2025-03-08T15:20:00+03:00"` or of Unix seconds; None without a zone."""
    told = text(node)
    try:
        if _UNIX.fullmatch(told):
            return datetime.fromtimestamp(int(told), UTC) if told.strip("0") else None
        found = datetime.fromisoformat(told)
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo is not None else None


def number(node: Json) -> Decimal | None:
    """Return a sum from its digits; None when there is none, which is not zero."""
    told = text(node)
    if _NOISY.fullmatch(told):
        return Decimal(told).quantize(_PLACES)
    try:
        return read_number(told)
    except CallerError:
        return None


def currency(node: Json) -> str | None:
    """Return an ISO 4217 code, None when there is none."""
    try:
        return read_currency(text(node))
    except CallerError:
        return None


def chunks(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in groups of at most `size`, in their order."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def sweep_of(cursor: str, shape: type[T], crm: str) -> T:
    """Return a sweep from the JSON of its cursor. Raises CallerError for a text that is none."""
    try:
        return msgspec.json.decode(cursor, type=shape)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CallerError("cursor", f"is no cursor of {crm}", shown=cursor) from error


def _storable(told: str) -> str:
    told = told.replace("\0", "")
    try:
        told.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return told.encode("utf-8", errors="replace").decode()
    return told
