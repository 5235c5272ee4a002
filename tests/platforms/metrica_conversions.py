"""Offline conversions in the fake Metrica: append only, linked later, counted twice when they come twice.

Source: docs/protocols/destinations/yandex-metrica.md, 2 and 11.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

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

IDS = ("ClientId", "UserId", "Yclid", "PurchaseId")
FIRST_ID = 2_147_483_650
EXPORTED = timedelta(minutes=5)
MATCHED = timedelta(minutes=20)
DONE = timedelta(minutes=60)
COMMENT = re.compile(r"[0-9A-Za-zА-Яа-яЁё]{0,255}")  # noqa: RUF001 - Cyrillic is allowed in it
Row = dict[str, str]


@dataclass
class Upload:
    """One file that came; `rows` are those that passed."""

    id: int
    counter: Counter
    created: datetime
    comment: str
    source_quantity: int
    rows: list[Row]
    linked: list[tuple[Row, Visit]] | None = None
    no_goal: int = 0
    no_user: int = 0
    extra: dict[str, object] = field(default_factory=dict[str, object])


class Conversions:
    """All uploads of all counters. `is_old` answers without the counts that came in 2026."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.uploads: list[Upload] = []
        self.is_old = False

    def upload(self, counter: Counter, content: bytes, comment: str) -> Upload:
        """Store a file. Raises ApiError for one that is none, never for a bad row."""
        if not COMMENT.fullmatch(comment):
            raise ApiError(400, "invalid_parameter", "comment")
        try:
            columns, rows = heading(content), read_table(content)
        except ValueError as error:
            raise ApiError(400, "invalid_uploading", str(error)) from error
        if not {"Target", "DateTime"} <= set(columns) or not set(IDS) & set(columns) or not rows:
            raise ApiError(400, "invalid_uploading", "columns")
        made = Upload(
            id=FIRST_ID + len(self.uploads),
            counter=counter,
            created=self.clock.now,
            comment=comment,
            source_quantity=len(rows),
            rows=[row for row in rows if self.passes(row)],
        )
        self.uploads.append(made)
        return made

    def passes(self, row: Row) -> bool:
        """Return whether a row is taken; nobody is ever told which were not."""
        when = row["DateTime"]
        return (
            any(row.get(name) for name in IDS)
            and all(re.fullmatch(r"[0-9]{0,20}", row.get(name, "")) for name in ("ClientId", "Yclid"))
            and bool(row["Target"])
            and re.fullmatch(r"[0-9]{1,11}", when) is not None
            and int(when) < self.clock.unix
            and is_price(row.get("Price", ""))
            and is_currency(row.get("Currency", ""))
        )

    def work(self) -> None:
        """Link what is due by the clock, each upload at its own moment."""
        for upload in self.uploads:
            if upload.linked is None and self.clock.now >= upload.created + MATCHED:
                self.link(upload, upload.created + MATCHED)

    def link(self, upload: Upload, now: datetime) -> None:
        """Give each row to its visit, if the visitor was there within 21 days of now."""
        upload.linked = []
        for row in upload.rows:
            visit = visit_of(upload.counter, row, now)
            if visit is None:
                upload.no_user += 1
            elif row["Target"] not in upload.counter.goals:
                upload.no_goal += 1
            else:
                price = decimal_or_none(row.get("Price", ""))
                visit.reached.append(Reached(row["Target"], price, row.get("Currency", "")))
                upload.linked.append((row, visit))

    def find(self, counter: Counter, upload_id: str) -> Upload:
        """Return one upload of a counter. Raises ApiError for another."""
        for upload in self.of(counter):
            if str(upload.id) == upload_id:
                return upload
        raise ApiError(404, "not_found", "uploading")

    def of(self, counter: Counter) -> list[Upload]:
        """Return the uploads of a counter, newest first."""
        return [one for one in reversed(self.uploads) if one.counter is counter]

    def status(self, upload: Upload) -> str:
        """Return how far an upload is."""
        age = self.clock.now - upload.created
        if age < EXPORTED:
            return "UPLOADED"
        if age < MATCHED:
            return "EXPORTED"
        if age < DONE:
            return "MATCHED"
        return "PROCESSED" if upload.linked else "LINKAGE_FAILURE"

    def body(self, upload: Upload) -> dict[str, object]:
        """Return what the API says of an upload."""
        told: dict[str, object] = {
            "id": upload.id,
            "create_time": upload.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "source_quantity": upload.source_quantity,
            "line_quantity": len(upload.rows),
            "comment": upload.comment,
            "status": self.status(upload),
            **upload.extra,
        }
        counts: dict[str, object] = {
            "type": "BASIC",
            "goal_not_found_quantity": upload.no_goal,
            "user_not_found_quantity": upload.no_user,
            "linked_quantity": len(upload.linked or ()),
        }
        return told if self.is_old else {**told, **counts}


def visit_of(counter: Counter, row: Row, now: datetime) -> Visit | None:
    """Return the visit that a row belongs to; None for a visitor who is unknown, or was here too long ago."""
    at = datetime.fromtimestamp(int(row["DateTime"]), UTC)
    if row.get("Yclid"):
        found = next((one for one in counter.visits if one.yclid == row["Yclid"]), None)
    elif row.get("PurchaseId"):
        found = next((one for one in counter.visits if one.purchase_id == row["PurchaseId"]), None)
    elif row.get("ClientId"):
        found = counter.last_visit((one for one in counter.visits if one.client_id == row["ClientId"]), at)
    else:
        found = counter.last_visit((one for one in counter.visits if one.user_id == row["UserId"]), at)
    if found is None:
        return None
    latest = counter.last_visit((one for one in counter.visits if one.client_id == found.client_id), now)
    return found if latest is not None and now - latest.start <= LINK_WINDOW else None
