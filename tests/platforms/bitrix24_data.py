"""What a Bitrix24 portal holds and what a change does to it: moments, stage history, and the events it fires.

Source: docs/protocols/bitrix24.md, 2 (which change fires what), 5.2, 5.3.
"""

import bisect
import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Literal, NamedTuple, TypedDict, Unpack

from platforms.clocks import Clock
from platforms.forms import Json

LEAD, DEAL, CONTACT = 1, 2, 3
FIRST_SMART_PROCESS = 128
NAMES = {LEAD: "LEAD", DEAL: "DEAL", CONTACT: "CONTACT"}

# In work, won, lost.
Semantics = Literal["P", "S", "F"]
Action = Literal["ADD", "UPDATE", "DELETE"]
CREATED, MOVED_ON, CLOSED, FUNNEL_CHANGED = 1, 2, 3, 5


@dataclass(frozen=True)
class Stage:
    """One stage of a funnel; `status_id` is whole, as `C5:WON`."""

    status_id: str
    name: str
    semantics: Semantics = "P"
    sort: int = 10
    extra: str = ""  # process, success, failure, apology; found by the semantics when empty


@dataclass
class Funnel:
    """The stages of one category of one type; leads have one, contacts none."""

    type_id: int
    category_id: int
    name: str
    stages: dict[str, Stage]

    @property
    def entity_id(self) -> str:
        """The name of its directory of statuses."""
        if self.type_id == LEAD:
            return "STATUS"
        if self.type_id == DEAL:
            return f"DEAL_STAGE_{self.category_id}" if self.category_id else "DEAL_STAGE"
        return f"DYNAMIC_{self.type_id}_STAGE_{self.category_id}"


@dataclass(frozen=True)
class UserField:
    """A field of the owner's, `name` as `UF_CRM_1721244482250`."""

    id: int
    name: str
    label: str
    kind: str = "string"


@dataclass
class Item:
    """A lead, deal, contact or item of a smart process; moments are Unix seconds."""

    type_id: int
    id: int
    created: int
    updated: int
    moved: int
    title: str = ""
    category_id: int = 0
    stage_id: str = ""
    previous_stage_id: str = ""
    semantics: Semantics = "P"
    opportunity: Decimal = Decimal(0)
    currency: str = "RUB"
    lead_id: int = 0
    contact_ids: list[int] = field(default_factory=list[int])
    company_id: int = 0
    closed: int | None = None
    close_date: date | None = None
    comments: str = ""
    source_id: str = "WEB"
    source_description: str = ""
    originator_id: str | None = None
    origin_id: str | None = None
    utm: dict[str, str] = field(default_factory=dict[str, str])
    name: str | None = None
    last_name: str | None = None
    phones: list[str] = field(default_factory=list[str])
    emails: list[str] = field(default_factory=list[str])
    fields: dict[str, Json] = field(default_factory=dict[str, Json])


class Given(TypedDict, total=False):
    """What a test may say of an item; what it does not say is as in a new card."""

    id: int
    title: str
    category_id: int
    stage_id: str
    opportunity: Decimal
    currency: str
    lead_id: int
    contact_ids: list[int]
    company_id: int
    close_date: date | None
    comments: str
    source_id: str
    source_description: str
    originator_id: str | None
    origin_id: str | None
    utm: dict[str, str]
    name: str
    last_name: str
    phones: list[str]
    emails: list[str]
    fields: Mapping[str, Json]


class Move(NamedTuple):
    """One record of the stage history."""

    id: int
    kind: int
    type_id: int
    owner_id: int
    at: int
    category_id: int
    semantics: Semantics
    stage_id: str


class Event(NamedTuple):
    """One event that an outgoing webhook is to get."""

    name: str
    type_id: int
    id: int


class Crm:
    """All that a portal holds.

    `pending` are the events that nobody was told of yet, in the order of the changes. Whatever changes raises
    `version`. Ids count from 1 unless a test gives one.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.items: dict[int, dict[int, Item]] = {LEAD: {}, DEAL: {}, CONTACT: {}}
        self.ids: dict[int, list[int]] = {LEAD: [], DEAL: [], CONTACT: []}
        self.last_ids: dict[int, int] = {LEAD: 0, DEAL: 0, CONTACT: 0}
        self.funnels: dict[tuple[int, int], Funnel] = {}
        self.user_fields: dict[int, list[UserField]] = {LEAD: [], DEAL: [], CONTACT: []}
        self.history: list[Move] = []
        self.pending: list[Event] = []
        self.version = 0
        self.hit: set[Event] | None = None
        self.add_first_funnels()

    def add_first_funnels(self) -> None:
        """Make the stages that a new portal has."""
        self.add_funnel(
            LEAD,
            0,
            "Leads",
            Stage("NEW", "Unassigned"),
            Stage("IN_PROCESS", "In progress", sort=20),
            Stage("PROCESSED", "Processed", sort=30),
            Stage("CONVERTED", "Good lead", "S", 40),
            Stage("JUNK", "Junk lead", "F", 50),
        )
        self.add_funnel(
            DEAL,
            0,
            "General",
            Stage("NEW", "New"),
            Stage("PREPARATION", "Documents", sort=20),
            Stage("EXECUTING", "In progress", sort=40),
            Stage("FINAL_INVOICE", "Final invoice", sort=50),
            Stage("WON", "Deal won", "S", 60),
            Stage("LOSE", "Deal lost", "F", 70),
            Stage("APOLOGY", "Why it failed", "F", 80, "apology"),
        )

    def add_funnel(self, type_id: int, category_id: int, name: str, *stages: Stage) -> Funnel:
        """Add a funnel; without stages it gets new, won and lost ones under the names of its type."""
        if not stages:
            start = f"C{category_id}:" if type_id == DEAL else f"DT{type_id}_{category_id}:"
            won, lost = ("WON", "LOSE") if type_id == DEAL else ("SUCCESS", "FAIL")
            stages = (
                Stage(f"{start}NEW", "New"),
                Stage(f"{start}EXECUTING", "In progress", sort=20),
                Stage(f"{start}{won}", "Success", "S", 30),
                Stage(f"{start}{lost}", "Failure", "F", 40),
            )
        funnel = Funnel(type_id, category_id, name, {stage.status_id: stage for stage in stages})
        self.funnels[type_id, category_id] = funnel
        return funnel

    def add_smart_process(self, type_id: int, category_id: int = 9) -> None:
        """Add a type of items, 128 or more, with one funnel."""
        assert type_id >= FIRST_SMART_PROCESS
        self.items[type_id], self.ids[type_id], self.last_ids[type_id] = {}, [], 0
        self.user_fields[type_id] = []
        self.add_funnel(type_id, category_id, "General")

    def add_user_field(self, type_id: int, name: str, label: str, kind: str = "string") -> None:
        """Add a field of the owner's."""
        number = sum(map(len, self.user_fields.values())) + 1
        self.user_fields[type_id].append(UserField(number, name, label, kind))

    def create(self, type_id: int, **given: Unpack[Given]) -> int:
        """Make an item and return its id."""
        item_id = given.get("id", self.last_ids[type_id] + 1)
        now = self.clock.unix
        item = Item(type_id, item_id, now, now, now)
        self.fill(item, given)
        if type_id != CONTACT:
            stage_id = given.get("stage_id")
            stages = self.stages_of(type_id, item.category_id) if stage_id is None else [stage_id]
            self.put_on_stage(item, stages[0], CREATED)
        self.items[type_id][item_id] = item
        self.last_ids[type_id] = max(item_id, self.last_ids[type_id])
        bisect.insort(self.ids[type_id], item_id)
        self.fire(item, "ADD")
        return item_id

    def stages_of(self, type_id: int, category_id: int) -> list[str]:
        """Return the stages of a funnel; of a type's first funnel when it has none of this number."""
        funnel = self.funnels.get((type_id, category_id))
        return list((funnel or self.funnels_of(type_id)[0]).stages)

    def funnels_of(self, type_id: int) -> list[Funnel]:
        """Return the funnels of a type."""
        return [funnel for funnel in self.funnels.values() if funnel.type_id == type_id]

    def fill(self, item: Item, given: Given) -> None:
        """Put what was given into a card; fields of the owner's are added to those that are there."""
        for name, value in given.items():
            if name == "fields":
                item.fields = {**item.fields, **given.get("fields", {})}
            elif name not in ("id", "stage_id"):
                setattr(item, name, value)
        title = f"{NAMES.get(item.type_id, 'Item').title()} #{item.id}"
        item.title = item.title or title

    def put_on_stage(self, item: Item, stage_id: str, kind: int | None = None) -> bool:
        """Put an item on a stage, write it into the history, and return whether it stayed in its funnel."""
        funnel = next(one for one in self.funnels_of(item.type_id) if stage_id in one.stages)
        stays = kind == CREATED or funnel.category_id == item.category_id
        item.previous_stage_id, item.stage_id = item.stage_id, stage_id
        item.category_id, item.semantics = funnel.category_id, funnel.stages[stage_id].semantics
        item.moved = self.clock.unix
        item.closed = None if item.semantics == "P" else self.clock.unix
        if kind is None:
            kind = FUNNEL_CHANGED if not stays else MOVED_ON if item.semantics == "P" else CLOSED
        self.history.append(
            Move(
                len(self.history) + 1,
                kind,
                item.type_id,
                item.id,
                self.clock.unix,
                item.category_id,
                item.semantics,
                stage_id,
            )
        )
        return stays

    def change(self, type_id: int, item_id: int, **given: Unpack[Given]) -> None:
        """Save a card with other values, a stage among them; a stage of another funnel moves it there."""
        item = self.items[type_id][item_id]
        self.fill(item, given)
        item.updated = self.clock.unix
        stage_id = given.get("stage_id", item.stage_id)
        stays = stage_id == item.stage_id or self.put_on_stage(item, stage_id)
        if stays:
            self.fire(item, "UPDATE")
        else:
            # No outgoing webhook is told of another funnel.
            self.version += 1

    def delete(self, type_id: int, item_id: int) -> None:
        """Delete an item; its stage history goes with it."""
        item = self.items[type_id].pop(item_id)
        self.ids[type_id].remove(item_id)
        self.history = [move for move in self.history if (move.type_id, move.owner_id) != (type_id, item_id)]
        self.fire(item, "DELETE")

    def fire(self, item: Item, action: Action) -> None:
        """Note an event; equal ones of one hit are one."""
        self.version += 1
        event = Event(f"ONCRM{NAMES.get(item.type_id, 'DYNAMICITEM')}{action}", item.type_id, item.id)
        if self.hit is not None:
            if event in self.hit:
                return
            self.hit.add(event)
        self.pending.append(event)

    @contextlib.contextmanager
    def one_hit(self) -> Generator[None]:
        """Make several changes in one PHP hit, whose equal events are merged."""
        self.hit = set()
        try:
            yield
        finally:
            self.hit = None
