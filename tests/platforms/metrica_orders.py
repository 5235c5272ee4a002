"""Orders of CRMs in the fake Metrica: one state for each, which later files replace; goals stay reached.

Source: docs/protocols/destinations/yandex-metrica.md, 4 and 11.
"""

import hashlib
import random
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from platforms.clocks import Clock
from platforms.metrica_data import (
    LINK_WINDOW,
    ApiError,
    Counter,
    Reached,
    Visit,
    decimal_or_none,
    heading,
    is_currency,
    is_price,
    read_table,
)

IDS = ("client_ids", "emails", "phones", "emails_md5", "phones_md5")
CHANGE_WINDOW = timedelta(days=111)
CREATED, PAID = "CRM: order created", "CRM: order paid"
STATUS_GOALS = {
    "IN_PROGRESS": (CREATED,),
    "PAID": (CREATED, PAID),
    "CANCELLED": ("CRM: order cancelled",),
    "SPAM": ("CRM: spam order",),
}
DAYS = ("%d.%m.%Y", "%d.%m.%y", "%Y-%m-%d")
HASH = re.compile(r"[0-9a-f]{32}")
Mode: TypeAlias = Literal["SAVE", "UPDATE", "APPEND"]
Row = dict[str, str]


@dataclass
class Order:
    """One order as it stands; `visit` is where it was linked to, None while it is not."""

    id: str
    created: datetime
    told: Row
    visit: Visit | None = None
    passed_over: int = 0

    @property
    def status(self) -> str:
        """The status; without one an order is paid."""
        return self.told.get("order_status") or "PAID"

    @property
    def revenue(self) -> Decimal | None:
        """The revenue."""
        return decimal_or_none(self.told.get("revenue", ""))

    def listed(self, name: str) -> list[str]:
        """Return the values of a cell that may hold several."""
        return [one.strip() for one in self.told.get(name, "").split(",") if one.strip()]


@dataclass
class OrderUpload:
    """One file that came; `status` is empty until Metrica has looked at it."""

    id: str
    counter: Counter
    created: datetime
    content: bytes
    mode: Mode
    status: str = ""
    elements: int = 0


@dataclass
class Orders:
    """All orders of all counters. `lag` later a file has passed or failed; rows are applied by `chance`."""

    clock: Clock
    lag: timedelta = timedelta(minutes=1)
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - a fake's
    uploads: list[OrderUpload] = field(default_factory=list[OrderUpload])
    orders: dict[int, dict[str, Order]] = field(default_factory=dict[int, dict[str, Order]])

    def upload(self, counter: Counter, content: bytes, mode: str, delimiter: str) -> OrderUpload:
        """Store a file; what is in it is looked at later. Raises ApiError for wrong parameters."""
        if not mode:
            raise ApiError(400, "missing_parameter", "merge_mode")
        chosen: Mode | None = next((one for one in get_args(Mode) if one == mode), None)
        if chosen is None or delimiter not in {"", "COMMA"}:
            raise ApiError(400, "invalid_parameter", "merge_mode, delimiter_type")
        number = len(self.uploads) + 1
        made = OrderUpload(f"54f3af75-17d7-{number:04}", counter, self.clock.now, content, chosen)
        self.uploads.append(made)
        self.work()
        return made

    def work(self) -> None:
        """Look at the files that are due by the clock, each at its own moment."""
        for upload in self.uploads:
            if not upload.status and self.clock.now >= upload.created + self.lag:
                self.look_at(upload, upload.created + self.lag)

    def look_at(self, upload: OrderUpload, now: datetime) -> None:
        """Let a file pass and apply it, or fail as a whole."""
        try:
            columns, rows = heading(upload.content), read_table(upload.content)
        except ValueError:
            upload.status = "FAILED"
            return
        is_whole = "create_date_time" in columns and bool(set(IDS) & set(columns)) and bool(rows)
        if not is_whole or not all(passes(row, upload.counter) for row in rows):
            upload.status = "FAILED"
            return
        upload.status, upload.elements = "PASSED", len(rows)
        self.chance.shuffle(rows)
        for row in rows:
            self.apply(upload, row, now)

    def apply(self, upload: OrderUpload, row: Row, now: datetime) -> None:
        """Bring one order to a new state; its moment stays, and it is linked once."""
        known = self.of(upload.counter)
        name = row.get("id") or f"nameless {len(known)}"
        order = known.get(name)
        if order is None:
            created = moment(row["create_date_time"], ZoneInfo(upload.counter.zone))
            order = known[name] = Order(name, created, row)
        elif order.visit is not None and now - order.visit.start > CHANGE_WINDOW:
            order.passed_over += 1
            return
        else:
            order.told = merged(order.told, row, upload.mode)
        if order.visit is None:
            order.visit = visit_of(upload.counter, order, now)
        if order.visit is not None:
            reach(order, order.visit)

    def of(self, counter: Counter) -> dict[str, Order]:
        """Return the orders of a counter by their names."""
        return self.orders.setdefault(counter.id, {})

    def latest(
        self, counter: Counter, limit: str, before: datetime | None, source: str
    ) -> list[dict[str, object]]:
        """Return what the API says of the latest uploads, newest first. Raises ApiError for a wrong limit."""
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= 1000:
            raise ApiError(400, "invalid_parameter", "limit")
        found = [
            one
            for one in reversed(self.uploads)
            if one.counter is counter and (before is None or one.created < before)
        ]
        return [self.body(one) for one in found[: int(limit)]] if source in {"", "API"} else []

    def body(self, upload: OrderUpload) -> dict[str, object]:
        """Return what the API says of an upload; its state is missing at first."""
        told: dict[str, object] = {
            "uploading_id": upload.id,
            "datetime": upload.created.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "entity_type": "SYSTEM",
            "uploading_format": "CSV",
            "uploading_source": "API",
        }
        state = {"api_validation_status": upload.status, "elements_count": upload.elements}
        return {**told, **state} if upload.status else told


def passes(row: Row, counter: Counter) -> bool:
    """Return whether a row may stand in a file."""
    status = row.get("order_status", "")
    hashes = [one for name in ("emails_md5", "phones_md5") for one in row.get(name, "").split(",") if one]
    return (
        any(row.get(name) for name in IDS)
        and any(read_moment(row["create_date_time"]))
        and (not status or status in STATUS_GOALS or status in counter.goals)
        and all(is_price(row.get(name, "")) for name in ("revenue", "cost"))
        and is_currency(row.get("currency", ""))
        and all(map(HASH.fullmatch, hashes))
    )


def read_moment(text: str) -> tuple[datetime | None, bool]:
    """Return a moment without a zone, and whether it has a time of day; None for what is no moment."""
    for day in DAYS:
        for time in ("", " %H:%M", " %H:%M:%S"):
            try:
                return datetime.strptime(text, day + time), bool(time)  # noqa: DTZ007 - the counter's zone
            except ValueError:
                continue
    return None, False


def moment(text: str, zone: ZoneInfo) -> datetime:
    """Return the moment of an order; a date alone is the last second of its day."""
    found, has_time = read_moment(text)
    assert found is not None
    whole = found if has_time else found.replace(hour=23, minute=59, second=59)
    return whole.replace(tzinfo=zone)


def merged(known: Row, row: Row, mode: Mode) -> Row:
    """Return the state after a row by its mode."""
    if mode == "SAVE":
        return row
    told = {name: value for name, value in row.items() if value}
    if mode == "UPDATE":
        return {**known, **told}
    lists = {name: ",".join(filter(None, [known.get(name), told.get(name)])) for name in IDS}
    return {**known, **told, **lists}


def visit_of(counter: Counter, order: Order, now: datetime) -> Visit | None:
    """Return the nearest visit before an order, of its ClientID first; none after 21 days."""
    if now - order.created > LINK_WINDOW:
        return None
    young = [one for one in counter.visits if now - one.start <= LINK_WINDOW]
    by_client = [one for one in young if one.client_id in order.listed("client_ids")]
    found = counter.last_visit(by_client, order.created)
    return found or counter.last_visit((one for one in young if shares_contact(one, order)), order.created)


def shares_contact(visit: Visit, order: Order) -> bool:
    """Return whether a visitor left a phone or an e-mail of the order."""
    kinds = ((visit.emails, "emails", "emails_md5"), (visit.phones, "phones", "phones_md5"))
    return any(
        one in order.listed(plain) or md5(one) in order.listed(hashed)
        for contacts, plain, hashed in kinds
        for one in contacts
    )


def md5(text: str) -> str:
    """Return the hash by which contacts are matched."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def reach(order: Order, visit: Visit) -> None:
    """Reach the goals of a status in its visit, each once for an order; those reached before stay."""
    cost = decimal_or_none(order.told.get("cost", "")) or Decimal(0)
    income = None if order.revenue is None else order.revenue - cost
    for goal in STATUS_GOALS.get(order.status, (order.status,)):
        told = Reached(goal, income, order.told.get("currency") or "RUB", order.id)
        same = [at for at, one in enumerate(visit.reached) if (one.goal, one.order) == (goal, order.id)]
        if same:
            visit.reached[same[0]] = told
        else:
            visit.reached.append(told)
