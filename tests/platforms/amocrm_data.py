"""What an amoCRM account holds and what a change does to it: moments, statuses, and the events it fires.

Source: docs/protocols/amocrm.md, 1.3, 1.4, 1.6 and 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias, TypedDict, Unpack

from platforms.clocks import Clock

WON, LOST = 142, 143
ROBOT = 0
PHONE_FIELD, EMAIL_FIELD = 735002, 735003
PIPELINE = 4500001

Entity = Literal["leads", "contacts"]
Action = Literal["add", "update", "status", "delete", "restore", "responsible"]
# Text, or Unix seconds for dates; several for lists and phones; None is a field that is there and empty.
Value: TypeAlias = str | int | bool | list[str] | None


@dataclass(frozen=True)
class CustomField:
    """A field of leads or contacts; `enums` are the choices of a list by their texts."""

    id: int
    name: str
    kind: str = "text"
    code: str | None = None
    enums: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Status:
    """One column of a pipeline."""

    id: int
    name: str


@dataclass(frozen=True)
class Pipeline:
    """One pipeline; won and lost have the same numbers in each."""

    id: int
    name: str
    statuses: tuple[Status, ...]


@dataclass
class Card:
    """What leads and contacts have in common; moments are Unix seconds."""

    id: int
    created: int
    updated: int
    name: str = ""
    responsible_id: int = 9000001
    created_by: int = ROBOT
    updated_by: int = 9000001
    fields: dict[int, Value] = field(default_factory=dict[int, Value])
    is_deleted: bool = False


@dataclass
class Lead(Card):
    """A lead; `closed` is None while it is open."""

    price: Decimal = Decimal(0)
    pipeline_id: int = PIPELINE
    status_id: int = 0
    closed: int | None = None
    contact_ids: list[int] = field(default_factory=list[int])
    tags: list[str] = field(default_factory=list[str])


@dataclass
class Contact(Card):
    """A contact; phones and e-mails are fields of it."""

    lead_ids: list[int] = field(default_factory=list[int])


class Given(TypedDict, total=False):
    """What a test may say of a lead or a contact; what it does not say is as in a new card."""

    id: int
    name: str
    price: Decimal
    pipeline_id: int
    status_id: int
    fields: Mapping[int, Value]
    contact_ids: list[int]
    tags: list[str]
    phones: list[str]
    emails: list[str]
    created_by: int
    updated_by: int


class Event(NamedTuple):
    """One event: the card as it was then, and what was before the change."""

    entity: Entity
    action: Action
    card: Card
    old_status_id: int | None = None
    old_responsible_id: int | None = None

    @property
    def setting(self) -> str:
        """What a webhook subscribes to for it, as `status_lead`."""
        return f"{self.action}_{self.entity.removesuffix('s')}"


class Crm:
    """All that an account holds; `pending` are the events of which no webhook was sent yet."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.leads: dict[int, Lead] = {}
        self.contacts: dict[int, Contact] = {}
        self.next_lead_id = 30100001
        self.next_contact_id = 37000001
        self.pipelines: dict[int, Pipeline] = {}
        self.lead_fields: dict[int, CustomField] = {}
        self.contact_fields = {
            PHONE_FIELD: CustomField(
                PHONE_FIELD, "Phone", "multitext", "PHONE", {"WORK": 718321, "MOB": 718323}
            ),
            EMAIL_FIELD: CustomField(
                EMAIL_FIELD, "Email", "multitext", "EMAIL", {"WORK": 718333, "PRIV": 718335}
            ),
        }
        self.pending: list[Event] = []
        self.add_pipeline(
            PIPELINE, "Sales", {41000001: "First contact", 41000002: "Talks", 41000003: "Paying"}
        )

    def add_pipeline(self, pipeline_id: int, name: str, statuses: Mapping[int, str]) -> None:
        """Add a pipeline; won and lost come by themselves."""
        both = {**statuses, WON: "Closed - won", LOST: "Closed - lost"}
        self.pipelines[pipeline_id] = Pipeline(
            pipeline_id, name, tuple(Status(number, title) for number, title in both.items())
        )

    def add_field(self, added: CustomField) -> None:
        """Add a field to leads."""
        self.lead_fields[added.id] = added

    def create_lead(self, **given: Unpack[Given]) -> int:
        """Make a lead and return its id."""
        lead_id = given.get("id", self.next_lead_id)
        self.next_lead_id = max(self.next_lead_id, lead_id + 1)
        lead = Lead(lead_id, self.clock.unix, self.clock.unix)
        lead.pipeline_id = given.get("pipeline_id", PIPELINE)
        lead.status_id = self.pipelines[lead.pipeline_id].statuses[0].id
        self.leads[lead_id] = lead
        self.fill(lead, given)
        self.put_on_status(lead, lead.status_id)
        self.fire("leads", "add", lead)
        return lead_id

    def create_contact(self, **given: Unpack[Given]) -> int:
        """Make a contact and return its id."""
        contact_id = given.get("id", self.next_contact_id)
        self.next_contact_id = max(self.next_contact_id, contact_id + 1)
        contact = Contact(contact_id, self.clock.unix, self.clock.unix)
        self.contacts[contact_id] = contact
        self.fill(contact, given)
        self.fire("contacts", "add", contact)
        return contact_id

    def fill(self, card: Card, given: Given) -> None:
        """Put what was given into a card; fields are added to those that are there."""
        for name, value in given.items():
            if name not in ("id", "fields", "phones", "emails"):
                setattr(card, name, value)
        card.fields = {**card.fields, **given.get("fields", {})}
        if "phones" in given:
            card.fields[PHONE_FIELD] = given["phones"]
        if "emails" in given:
            card.fields[EMAIL_FIELD] = given["emails"]
        card.name = card.name or f"Card #{card.id}"
        for contact_id in given.get("contact_ids", []):
            contact = self.contacts[contact_id]
            contact.lead_ids = list(dict.fromkeys([*contact.lead_ids, card.id]))

    def put_on_status(self, lead: Lead, status_id: int) -> None:
        """Put a lead on a status of its pipeline; the closed ones say when."""
        assert status_id in {status.id for status in self.pipelines[lead.pipeline_id].statuses}
        lead.status_id = status_id
        lead.closed = self.clock.unix if status_id in (WON, LOST) else None

    def change_lead(self, lead_id: int, **given: Unpack[Given]) -> None:
        """Save a lead with other values; another status fires an event of its own beside the update."""
        lead = self.leads[lead_id]
        old_status_id, old_pipeline_id = lead.status_id, lead.pipeline_id
        self.fill(lead, given)
        lead.updated = self.clock.unix
        if (lead.status_id, lead.pipeline_id) != (old_status_id, old_pipeline_id):
            self.put_on_status(lead, lead.status_id)
            self.fire("leads", "status", lead, old_status_id=old_status_id)
            self.fire("leads", "update", lead, old_status_id=old_status_id)
        else:
            self.fire("leads", "update", lead)

    def change_contact(self, contact_id: int, **given: Unpack[Given]) -> None:
        """Save a contact with other values."""
        contact = self.contacts[contact_id]
        self.fill(contact, given)
        contact.updated = self.clock.unix
        self.fire("contacts", "update", contact)

    def assign_lead(self, lead_id: int, responsible_id: int) -> None:
        """Give a lead to another user."""
        lead = self.leads[lead_id]
        old, lead.responsible_id = lead.responsible_id, responsible_id
        lead.updated = self.clock.unix
        self.fire("leads", "responsible", lead, old_responsible_id=old)

    def delete_lead(self, lead_id: int) -> None:
        """Put a lead into the bin: it is found no more, but can be restored."""
        lead = self.leads[lead_id]
        lead.is_deleted, lead.updated = True, self.clock.unix
        self.fire("leads", "delete", lead)

    def restore_lead(self, lead_id: int) -> None:
        """Take a lead out of the bin."""
        lead = self.leads[lead_id]
        lead.is_deleted, lead.updated = False, self.clock.unix
        self.fire("leads", "restore", lead)

    def fire(
        self,
        entity: Entity,
        action: Action,
        card: Card,
        *,
        old_status_id: int | None = None,
        old_responsible_id: int | None = None,
    ) -> None:
        """Note an event with the card as it is now."""
        self.pending.append(Event(entity, action, snapshot(card), old_status_id, old_responsible_id))


def snapshot(card: Card) -> Card:
    """Return a card that later changes do not reach; values in it are replaced, never changed."""
    copied = type(card)(card.id, card.created, card.updated)
    vars(copied).update({**vars(card), "fields": dict(card.fields)})
    return copied
