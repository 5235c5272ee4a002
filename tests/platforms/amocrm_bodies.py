"""The bodies of amoCRM's webhooks as three generations of its sender write them, and the Digital Pipeline's.

Source: docs/protocols/amocrm.md, 1.1, 1.3, 1.4 and 2; tests/recorded/amocrm has the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Literal, TypeAlias

from platforms.amocrm_data import Card, Contact, CustomField, Event, Lead, Value
from platforms.forms import write_form

# `2016` is the old sender with little in `account`; `2021` puts `account` behind the cards, `2024` in front.
Generation = Literal["2016", "2021", "2024"]
Pair: TypeAlias = tuple[str, str]
# Their values have no `[value]` in a webhook.
BARE = ("date", "date_time", "birthday")


@dataclass
class Account:
    """What every body says of the account, and how it says the rest."""

    id: int = 30000001
    subdomain: str = "alfashop"
    generation: Generation = "2024"
    has_minor_units: bool = False

    @property
    def domain(self) -> str:
        """The account's host."""
        return f"{self.subdomain}.amocrm.example"

    def pairs(self) -> list[Pair]:
        """Return the block `account`."""
        if self.generation == "2016":
            return [("account[subdomain]", self.subdomain)]
        return [
            ("account[subdomain]", self.subdomain),
            ("account[id]", str(self.id)),
            ("account[_links][self]", f"https://{self.domain}"),
        ]


def webhook_body(account: Account, events: Sequence[Event], fields: Mapping[int, CustomField]) -> bytes:
    """Return one body with several events; `fields` are those of leads and contacts."""
    cards: list[Pair] = []
    counts: dict[str, int] = {}
    for event in events:
        start = f"{event.entity}[{event.action}]"
        index = counts[start] = counts.get(start, -1) + 1
        inner = card_pairs(account, event, fields)
        cards += [(f"{start}[{index}]{name}", value) for name, value in inner]
    is_first = account.generation == "2024"
    return write_form([*account.pairs(), *cards] if is_first else [*cards, *account.pairs()])


def card_pairs(account: Account, event: Event, fields: Mapping[int, CustomField]) -> Iterator[Pair]:
    """Yield what a body says of one card: `("[id]", "30100001")`."""
    card, is_old = event.card, account.generation == "2016"
    yield "[id]", str(card.id)
    if event.action == "delete":
        yield from deleted(card, is_old=is_old)
        return
    yield "[name]", card.name
    old_status = [] if event.old_status_id is None else [("[old_status_id]", str(event.old_status_id))]
    if isinstance(card, Lead):
        yield "[status_id]", str(card.status_id)
        yield from [] if is_old else old_status
        yield "[price]", str(int(card.price)) if card.price or not is_old else ""
    yield "[responsible_user_id]", str(card.responsible_id)
    made, saved = ("[date_create]", str(card.created)), ("[last_modified]", str(card.updated))
    maker, saver = ("[created_user_id]", str(card.created_by)), ("[modified_user_id]", str(card.updated_by))
    yield from (saved, saver, maker, made) if isinstance(card, Lead) else (made, saved, maker, saver)
    if isinstance(card, Lead):
        yield from lead_pairs(account, card)
    yield "[account_id]", str(account.id)
    if event.old_responsible_id is not None:
        yield "[old_responsible_user_id]", str(event.old_responsible_id)
    yield from field_pairs(card, fields)
    if isinstance(card, Contact):
        yield from ((f"[linked_leads_id][{one}][ID]", str(one)) for one in card.lead_ids)
    dates = [("[created_at]", str(card.created)), ("[updated_at]", str(card.updated))]
    yield from old_status if is_old else dates
    if isinstance(card, Contact):
        yield "[type]", "contact"


def lead_pairs(account: Account, lead: Lead) -> Iterator[Pair]:
    """Yield what only leads have."""
    yield "[pipeline_id]", str(lead.pipeline_id)
    if account.has_minor_units:
        yield "[price_with_minor_units]", plain(lead.price)
    for index, tag in enumerate(lead.tags):
        yield f"[tags][{index}][id]", str(55001 + index)
        yield f"[tags][{index}][name]", tag


def deleted(card: Card, *, is_old: bool) -> Iterator[Pair]:
    """Yield what is left of a deleted card."""
    if is_old:
        yield "[type]", "lead"
    elif isinstance(card, Lead):
        yield "[status_id]", str(card.status_id)
        yield "[pipeline_id]", str(card.pipeline_id)


def plain(amount: Decimal) -> str:
    """Return an amount as PHP prints a float: `100.5`."""
    return f"{amount.normalize():f}"


def field_pairs(card: Card, fields: Mapping[int, CustomField]) -> Iterator[Pair]:
    """Yield the fields of a card that are filled, and those that are there without a value."""
    for index, (field_id, value) in enumerate(card.fields.items()):
        known = fields[field_id]
        start = f"[custom_fields][{index}]"
        yield f"{start}[id]", str(field_id)
        yield f"{start}[name]", known.name
        yield from ((f"{start}{name}", text) for name, text in value_pairs(known, value))
        if known.code is not None:
            yield f"{start}[code]", known.code


def value_pairs(known: CustomField, value: Value) -> Iterator[Pair]:
    """Yield the values of one field, with the numbers of what was chosen from a list."""
    for index, one in enumerate(texts(value)):
        if known.kind in BARE:
            yield f"[values][{index}]", one
            continue
        yield f"[values][{index}][value]", escape(one, quote=False) if known.kind == "url" else one
        if known.kind == "multitext":
            yield f"[values][{index}][enum]", str(list(known.enums.values())[index % len(known.enums)])
        elif known.enums:
            yield f"[values][{index}][enum]", str(known.enums[one])
        elif known.kind == "smart_address":
            yield f"[values][{index}][subtype]", str(1 + 2 * index)


def texts(value: Value) -> list[str]:
    """Return a field's values as text; a ticked box is 1."""
    if isinstance(value, list):
        return value
    if isinstance(value, bool):
        return ["1" if value else "0"]
    return [] if value is None else [str(value)]


def pipeline_body(account: Account, lead: Lead, old: Lead | None) -> bytes:
    """Return the short body of the Digital Pipeline: a lead that came, or that left another status."""
    start = "leads[add][0]" if old is None else "leads[status][0]"
    pairs = [
        (f"{start}[id]", str(lead.id)),
        (f"{start}[status_id]", str(lead.status_id)),
        (f"{start}[pipeline_id]", str(lead.pipeline_id)),
    ]
    if old is not None:
        pairs += [
            (f"{start}[old_status_id]", str(old.status_id)),
            (f"{start}[old_pipeline_id]", str(old.pipeline_id)),
        ]
    pairs += [("account[id]", str(account.id)), ("account[subdomain]", account.subdomain)]
    return write_form(pairs)
