"""How amoCRM's REST v4 shows leads, contacts, fields and pipelines.

Source: docs/protocols/amocrm.md, 4; what it leaves open is as on the vendor's pages.
"""

from collections.abc import Mapping

from platforms.amocrm_bodies import plain, texts
from platforms.amocrm_data import Card, Contact, CustomField, Lead, Pipeline, Value
from platforms.forms import Json

# Numbers, beside dates, that are no text.
COLORS = {142: "#CCFF66", 143: "#D5D8DB"}


class Writer:
    """Writes for one account; links point to `base`, where the account answers."""

    def __init__(self, account_id: int) -> None:
        self.account_id = account_id
        self.base = ""
        self.has_minor_units = False

    def link(self, path: str) -> Json:
        """Return a link to something below the API."""
        return {"self": {"href": f"{self.base}/api/v4/{path}"}}

    def card(self, card: Card, fields: Mapping[int, CustomField]) -> dict[str, Json]:
        """Return what leads and contacts have in common."""
        values = [
            told for number, value in card.fields.items() if (told := field_value(fields[number], value))
        ]
        return {
            "id": card.id,
            "name": card.name,
            "responsible_user_id": card.responsible_id,
            "group_id": 0,
            "created_by": card.created_by,
            "updated_by": card.updated_by,
            "created_at": card.created,
            "updated_at": card.updated,
            "closest_task_at": None,
            "is_deleted": card.is_deleted,
            "custom_fields_values": values or None,
            "account_id": self.account_id,
        }

    def lead(self, lead: Lead, fields: Mapping[int, CustomField], asked: set[str]) -> Json:
        """Return a lead; its contacts only when `with` asks for them."""
        told: dict[str, Json] = {
            **self.card(lead, fields),
            "price": int(lead.price),
            "status_id": lead.status_id,
            "pipeline_id": lead.pipeline_id,
            "loss_reason_id": None,
            "closed_at": lead.closed,
            "score": None,
            "labor_cost": None,
            "_links": self.link(f"leads/{lead.id}"),
        }
        if self.has_minor_units:
            told["price_with_minor_units"] = float(plain(lead.price))
        if "source_id" in asked:
            told["source_id"] = None
        embedded: dict[str, Json] = {
            "tags": [{"id": 55001 + at, "name": tag, "color": None} for at, tag in enumerate(lead.tags)],
            "companies": [],
        }
        if "contacts" in asked:
            embedded["contacts"] = [
                {"id": one, "is_main": at == 0, "_links": self.link(f"contacts/{one}")}
                for at, one in enumerate(lead.contact_ids)
            ]
        if "loss_reason" in asked:
            embedded["loss_reason"] = []
        return {**told, "_embedded": embedded}

    def contact(self, contact: Contact, fields: Mapping[int, CustomField], asked: set[str]) -> Json:
        """Return a contact; its leads only when `with` asks for them."""
        embedded: dict[str, Json] = {"tags": [], "companies": []}
        if "leads" in asked:
            embedded["leads"] = [{"id": one, "_links": self.link(f"leads/{one}")} for one in contact.lead_ids]
        return {
            **self.card(contact, fields),
            "first_name": "",
            "last_name": "",
            "is_unsorted": False,
            "_links": self.link(f"contacts/{contact.id}"),
            "_embedded": embedded,
        }

    def custom_field(self, entity: str, known: CustomField) -> Json:
        """Return one line of the dictionary of fields."""
        enums: Json = [
            {"id": number, "value": text, "sort": 500, "code": text if known.kind == "multitext" else None}
            for text, number in known.enums.items()
        ]
        return {
            "id": known.id,
            "name": known.name,
            "type": known.kind,
            "account_id": self.account_id,
            "code": known.code,
            "sort": 500,
            "is_api_only": False,
            "enums": enums or None,
            "entity_type": entity,
            "_links": self.link(f"{entity}/custom_fields/{known.id}"),
        }

    def pipeline(self, pipeline: Pipeline, place: int) -> Json:
        """Return a pipeline with its statuses."""
        statuses: Json = [
            {
                "id": status.id,
                "name": status.name,
                "sort": 10 * at,
                "is_editable": status.id not in COLORS,
                "pipeline_id": pipeline.id,
                "color": COLORS.get(status.id, "#99CCFF"),
                "type": 0,
                "account_id": self.account_id,
                "_links": self.link(f"leads/pipelines/{pipeline.id}/statuses/{status.id}"),
            }
            for at, status in enumerate(pipeline.statuses, start=1)
        ]
        return {
            "id": pipeline.id,
            "name": pipeline.name,
            "sort": place,
            "is_main": place == 1,
            "is_unsorted_on": True,
            "is_archive": False,
            "account_id": self.account_id,
            "_links": self.link(f"leads/pipelines/{pipeline.id}"),
            "_embedded": {"statuses": statuses},
        }


def field_value(known: CustomField, value: Value) -> Json:
    """Return one filled field; None for one that is empty."""
    values = [one_value(known, one, at) for at, one in enumerate(raw(value))]
    if not values:
        return None
    return {
        "field_id": known.id,
        "field_name": known.name,
        "field_code": known.code,
        "field_type": known.kind,
        "values": values,
    }


def raw(value: Value) -> list[str | int | bool]:
    """Return a field's values: a list's texts, else the one value, dates as numbers."""
    return [*texts(value)] if isinstance(value, list) else [] if value is None else [value]


def one_value(known: CustomField, value: str | int | bool, at: int) -> Json:  # noqa: FBT001 - a box
    """Return one value, with the number of what was chosen from a list."""
    if known.kind == "multitext":
        code, number = list(known.enums.items())[at % len(known.enums)]
        return {"value": value, "enum_id": number, "enum_code": code}
    if known.enums:
        return {"value": value, "enum_id": known.enums[str(value)], "enum_code": None}
    return {"value": value}
