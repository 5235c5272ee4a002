"""One conversion on its way to one destination: what is told, what came of it, and what follows from that."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Literal
from uuid import UUID

import msgspec


class Outcome(StrEnum):
    """What every answer of every platform is mapped to (docs/protocols/destinations/README.md, 2)."""

    ACCEPTED_PENDING = "accepted_pending"
    ACCEPTED_UNVERIFIABLE = "accepted_unverifiable"
    CONFIRMED = "confirmed"
    PARTIAL = "partial"
    DUPLICATE_OK = "duplicate_ok"
    RETRY_LATER = "retry_later"
    THROTTLED = "throttled"
    UNKNOWN_OUTCOME = "unknown_outcome"
    REAUTH = "reauth"
    AUTH_BLOCKED = "auth_blocked"
    CONFIG_BLOCKED = "config_blocked"
    REJECT_RECORD = "reject_record"
    EXPIRED = "expired"
    NOT_MATCHED = "not_matched"


# Nothing more will happen to a delivery with one of these, unless a person replays it.
FINAL = frozenset(
    {
        Outcome.ACCEPTED_UNVERIFIABLE,
        Outcome.CONFIRMED,
        Outcome.DUPLICATE_OK,
        Outcome.REJECT_RECORD,
        Outcome.EXPIRED,
        Outcome.NOT_MATCHED,
    }
)
# The whole destination pauses, and a person is told once.
BLOCKED = frozenset({Outcome.REAUTH, Outcome.AUTH_BLOCKED, Outcome.CONFIG_BLOCKED})


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one delivery, in the words of the vocabulary.

    `reason` is the platform's own, for people. `wait_s` is how long the platform asks to be left alone.
    `reference` is by what it is asked for its verdict later: an upload's id.
    """

    outcome: Outcome
    reason: str = ""
    wait_s: float | None = None
    reference: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The state that a destination has taken before: of this conversion, or of its order.

    Where a platform keeps one state for each order, it is the last one that it took of any conversion with
    this `order_id`, and `goal` says of which. `created_at` is under which moment the order stands there.
    """

    value: Decimal
    currency: str
    is_cancelled: bool
    revision: int
    goal: str = ""  # empty: of the same goal
    created_at: datetime | None = None


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """One state of one conversion, with all that a platform may want to know of it.

    `ids` are what the session and the deal have: session_id, user_id, ym_uid, click ids, fbp, fbc, ga_uid,
    ga_session. `phones` are E.164, `emails` lower case: in the clear, so that each platform hashes its own
    way, and never in a log. `told` is what this destination has taken of it before, None when nothing.
    """

    delivery_id: UUID
    conversion_id: UUID
    site: str
    goal: str
    deal_id: str | None
    revision: int
    value: Decimal
    currency: str
    is_cancelled: bool = False
    occurred_at: datetime
    deal_created_at: datetime | None = None
    visited_at: datetime | None = None  # when the session began
    match: str | None = None  # the rule that found the session: session_id, ym_uid, yclid, phone…
    ids: Mapping[str, str] = {}
    phones: Sequence[str] = ()
    emails: Sequence[str] = ()
    told: Told | None = None
    attempt: int = 0  # how often it was tried before
    door: str = ""  # by which id it goes, where one file holds one kind only; set by `compile`

    @property
    def order_id(self) -> str:
        """The name under which a platform keeps it: the deal's, else our own, the same for each revision."""
        return self.deal_id or str(self.conversion_id)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination declares, and all that the engine knows of it.

    `window` is how long after `counts_from` it takes a conversion, None for ever; `change_window` is how long
    it takes changes of one that it has, None just as long; `margin` is how much earlier sending stops, since
    retries age. `hold` is how old a visit must be before it is told.
    """

    window: timedelta | None = None
    change_window: timedelta | None = None
    counts_from: Literal["visit", "conversion"] = "conversion"
    margin: timedelta = timedelta()
    hold: timedelta = timedelta()
    gather: timedelta = timedelta()  # how long rows are collected for one batch
    max_rows: int = 1
    max_bytes: int = 16 * 1024 * 1024
    at_once: int = 1  # batches in flight
    repeat_lost_answer: bool  # a request without an answer may be sent again: the platform de-duplicates
    ask_lost_after: timedelta = timedelta(minutes=1)  # else: when to ask whether it has the batch
    one_state_per_order: bool = False  # it keeps one state of each order, whichever conversion told it
    verdict_after: Sequence[timedelta] = ()  # when to ask after an accepted batch; empty: nobody can be asked
    attempts: int = 12


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """Why a state of a conversion does not go to a destination: a sentence for the journal."""

    reason: str


def deadline(sale: Sale, terms: Terms) -> datetime | None:
    """Return the last instant at which sending makes sense, None when there is none."""
    window = terms.window
    if sale.told is not None and terms.change_window is not None:
        window = terms.change_window
    if window is None:
        return None
    start = sale.visited_at or sale.deal_created_at if terms.counts_from == "visit" else sale.occurred_at
    return (start or sale.occurred_at) + window - terms.margin
