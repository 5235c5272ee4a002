"""What a counter of the fake Metrica knows: its visits, its goals, who may do what; and how files are read.

Source: docs/protocols/destinations/yandex-metrica.md.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, TypedDict

LINK_WINDOW = timedelta(days=21)
PRICE = re.compile(r"[0-9]{1,15}(\.[0-9]{1,4})?")
CURRENCY = re.compile(r"[A-Z]{3}")

Permission = Literal["own", "edit", "view"]


class ApiError(Exception):
    """An error, answered in Metrica's shape."""

    def __init__(self, status: int, kind: str, message: str = "") -> None:
        super().__init__(status, kind)
        self.status = status
        self.kind = kind
        self.message = message or kind

    @property
    def body(self) -> dict[str, object]:
        """What stands in the answer."""
        error = {"error_type": self.kind, "message": self.message}
        return {"errors": [error], "code": self.status, "message": self.message}


class Reached(NamedTuple):
    """One goal that was reached in a visit, with its income; `order` is empty for offline conversions."""

    goal: str
    price: Decimal | None = None
    currency: str = ""
    order: str = ""


class Known(TypedDict, total=False):
    """What else may be known of a visitor; the contacts are what the site's forms told."""

    user_id: str
    yclid: str
    purchase_id: str
    emails: Sequence[str]
    phones: Sequence[str]


@dataclass(eq=False)
class Visit:
    """One visit and the goals that were reached in it."""

    client_id: str
    start: datetime
    user_id: str = ""
    yclid: str = ""
    purchase_id: str = ""
    emails: Sequence[str] = ()
    phones: Sequence[str] = ()
    reached: list[Reached] = field(default_factory=list[Reached])

    @property
    def goals(self) -> list[str]:
        """The goals in the order of their reaching, one as often as it counts."""
        return [one.goal for one in self.reached]


@dataclass
class Counter:
    """One counter; `goals` are the identifiers of its goals of the type JavaScript event."""

    id: int
    goals: list[str]
    zone: str = "Europe/Moscow"
    name: str = "Shop"
    rights: dict[str, Permission] = field(default_factory=dict[str, Permission])
    is_deleted: bool = False
    is_in_connect: bool = False
    visits: list[Visit] = field(default_factory=list[Visit])

    def body(self, login: str, extra: Iterable[str]) -> dict[str, object]:
        """Return what the API says of it to a login."""
        told: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "status": "Deleted" if self.is_deleted else "Active",
            "permission": self.rights[login],
            "time_zone_name": self.zone,
        }
        if "goals" in extra:
            told["goals"] = [
                {
                    "id": number,
                    "name": goal.title(),
                    "type": "action",
                    "conditions": [{"type": "exact", "url": goal}],
                }
                for number, goal in enumerate(self.goals, 1)
            ]
        return told

    def last_visit(self, visits: Iterable[Visit], before: datetime) -> Visit | None:
        """Return the latest of some visits that began before a moment."""
        return max((one for one in visits if one.start <= before), key=lambda one: one.start, default=None)


def read_table(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a file by its columns. Raises ValueError for what is no CSV with a heading."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    if not rows or len(set(rows[0])) < len(rows[0]) or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("rows of different lengths, or no heading")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def heading(content: bytes) -> list[str]:
    """Return the columns of a file. Raises ValueError for what is no text."""
    rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    return next(rows, list[str]())


def is_price(text: str) -> bool:
    """Return whether a sum may stand in a file; it may be left out."""
    return not text or PRICE.fullmatch(text) is not None


def is_currency(text: str) -> bool:
    """Return whether a currency may stand in a file; it may be left out."""
    return not text or CURRENCY.fullmatch(text) is not None


def decimal_or_none(text: str) -> Decimal | None:
    """Return a sum, None when it was left out."""
    return Decimal(text) if text else None
