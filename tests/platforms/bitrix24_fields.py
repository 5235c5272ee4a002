"""The fields of Bitrix24's items under their two names, and how each is written, compared and asked for.

Source: docs/protocols/bitrix24.md, 5.2; a filter's errors are those of the vendor's page on `crm.item.list`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from platforms.bitrix24_data import CONTACT, DEAL, FIRST_SMART_PROCESS, LEAD, Item, UserField
from platforms.bitrix24_lists import ZONE, Column, Value
from platforms.forms import Json, as_list, as_text


@dataclass(frozen=True)
class Field(Column[Item]):
    """One field: `name` in the universal methods, `upper` in the classic ones."""

    name: str = ""
    upper: str = ""
    title: str = ""
    is_own: bool = False

    def description(self) -> dict[str, Json]:
        """Return what `crm.*.fields` says of it."""
        return {
            "type": self.kind,
            "isRequired": False,
            "isReadOnly": self.upper in READ_ONLY,
            "isImmutable": False,
            "isMultiple": self.is_list,
            "isDynamic": self.is_own,
            "title": self.title or self.upper,
        }


READ_ONLY = {
    *("ID", "DATE_CREATE", "DATE_MODIFY", "CREATED_BY_ID", "MODIFY_BY_ID", "MOVED_BY_ID", "MOVED_TIME"),
    *("CREATED_TIME", "UPDATED_TIME", "CREATED_BY", "UPDATED_BY", "MOVED_BY"),
    *("STAGE_SEMANTIC_ID", "STATUS_SEMANTIC_ID", "LEAD_ID", "QUOTE_ID", "LAST_ACTIVITY_TIME"),
    *("LAST_ACTIVITY_BY", "PREVIOUS_STAGE_ID"),
}
UTM = ("source", "medium", "campaign", "content", "term")


def camel(upper: str) -> str:
    """Return `UTM_SOURCE` as `utmSource`, and the owner's `UF_CRM_44_172` as `ufCrm44_172`."""
    own = re.fullmatch(r"UF_CRM_(\d+)(?:_(\d+))?", upper)
    if own is not None:
        return f"ufCrm_{own[1]}" if own[2] is None else f"ufCrm{own[1]}_{own[2]}"
    first, *others = upper.lower().split("_")
    return first + "".join(word.capitalize() for word in others)


def always(value: Value) -> Callable[[Item], Value]:
    """Return a field of which the tests want nothing."""
    return lambda _: value


def utm(part: str) -> Callable[[Item], Value]:
    """Return one of the five marks of a link."""
    return lambda item: item.utm.get(part)


def basic(upper: str, kind: str, read: Callable[[Item], Value], name: str = "") -> Field:
    """Return a field that every card has; the two names differ by their letters only, unless one is given."""
    return Field(kind, read, name=name or camel(upper), upper=upper)


def moments(*uppers: str) -> list[Field]:
    """Return when a card was made, changed and moved, and by whom, under a type's own classic names."""
    created, updated, created_by, updated_by, moved_by = uppers
    return [
        basic(created, "datetime", lambda item: item.created, "createdTime"),
        basic(updated, "datetime", lambda item: item.updated, "updatedTime"),
        basic(created_by, "user", always(1), "createdBy"),
        basic(updated_by, "user", always(1), "updatedBy"),
        basic("ASSIGNED_BY_ID", "user", always(1)),
        basic("OPENED", "char", always("Y")),
        basic("LAST_ACTIVITY_TIME", "datetime", lambda item: item.updated),
        basic("LAST_ACTIVITY_BY", "user", always(1)),
        *(
            [basic("MOVED_TIME", "datetime", lambda item: item.moved), basic(moved_by, "user", always(1))]
            if moved_by
            else []
        ),
    ]


CLASSIC = ("DATE_CREATE", "DATE_MODIFY", "CREATED_BY_ID", "MODIFY_BY_ID")
START = [
    basic("ID", "integer", lambda item: item.id),
    basic("TITLE", "string", lambda item: item.title),
]
MONEY = [
    basic("CURRENCY_ID", "crm_currency", lambda item: item.currency),
    basic("OPPORTUNITY", "double", lambda item: item.opportunity),
    basic("IS_MANUAL_OPPORTUNITY", "char", always("Y")),
]
ORIGIN = [
    basic("SOURCE_ID", "crm_status", lambda item: item.source_id),
    basic("SOURCE_DESCRIPTION", "string", lambda item: item.source_description),
    basic("COMMENTS", "string", lambda item: item.comments),
    basic("ORIGINATOR_ID", "string", lambda item: item.originator_id),
    basic("ORIGIN_ID", "string", lambda item: item.origin_id),
    *(basic(f"UTM_{part.upper()}", "string", utm(part)) for part in UTM),
]
LINKS = [
    basic("COMPANY_ID", "crm_company", lambda item: item.company_id),
    basic("CONTACT_ID", "crm_contact", lambda item: item.contact_ids[0] if item.contact_ids else 0),
    Field("crm_contact", lambda item: item.contact_ids, is_list=True, name="contactIds", upper="CONTACT_IDS"),
]
PERSON = [
    basic("NAME", "string", lambda item: item.name),
    basic("LAST_NAME", "string", lambda item: item.last_name),
    basic("HAS_PHONE", "char", lambda item: "Y" if item.phones else "N"),
    basic("HAS_EMAIL", "char", lambda item: "Y" if item.emails else "N"),
]
STAGE = [
    basic("CATEGORY_ID", "crm_category", lambda item: item.category_id),
    basic("STAGE_ID", "crm_status", lambda item: item.stage_id),
]
DEAL_FIELDS = [
    *START,
    *STAGE,
    basic("STAGE_SEMANTIC_ID", "string", lambda item: item.semantics),
    *MONEY,
    *LINKS,
    *moments(*CLASSIC, "MOVED_BY_ID"),
    *ORIGIN,
    basic("TYPE_ID", "crm_status", always("SALE")),
    basic("PROBABILITY", "integer", always(None)),
    basic("TAX_VALUE", "double", always(Decimal(0))),
    basic("LEAD_ID", "crm_lead", lambda item: item.lead_id or None),
    basic("QUOTE_ID", "crm_quote", always(None)),
    basic("BEGINDATE", "date", lambda item: datetime.fromtimestamp(item.created, ZONE).date()),
    basic("CLOSEDATE", "date", lambda item: item.close_date),
    basic("CLOSED", "char", lambda item: "N" if item.semantics == "P" else "Y"),
    basic("ADDITIONAL_INFO", "string", always(None)),
    basic("LOCATION_ID", "location", always(None)),
    *(
        basic(name, "char", always("N"))
        for name in ("IS_NEW", "IS_RECURRING", "IS_RETURN_CUSTOMER", "IS_REPEATED_APPROACH")
    ),
]
LEAD_FIELDS = [
    *START,
    basic("STATUS_ID", "crm_status", lambda item: item.stage_id, "stageId"),
    basic("STATUS_SEMANTIC_ID", "string", lambda item: item.semantics, "stageSemanticId"),
    *MONEY,
    *LINKS,
    *moments(*CLASSIC, "MOVED_BY_ID"),
    *ORIGIN,
    *PERSON,
    basic("DATE_CLOSED", "datetime", lambda item: item.closed),
]
CONTACT_FIELDS = [
    basic("ID", "integer", lambda item: item.id),
    *PERSON,
    basic("LEAD_ID", "crm_lead", lambda item: item.lead_id or None),
    basic("COMPANY_ID", "crm_company", lambda item: item.company_id),
    *moments(*CLASSIC, ""),
    *ORIGIN,
]
# They have no classic methods, and nothing in them says whether a stage is a success.
SMART_FIELDS = [
    *START,
    *STAGE,
    basic("PREVIOUS_STAGE_ID", "crm_status", lambda item: item.previous_stage_id),
    *MONEY,
    *LINKS,
    *moments("CREATED_TIME", "UPDATED_TIME", "CREATED_BY", "UPDATED_BY", "MOVED_BY"),
    *(one for one in ORIGIN if one.upper.startswith("SOURCE")),
]
FIELDS = {LEAD: LEAD_FIELDS, DEAL: DEAL_FIELDS, CONTACT: CONTACT_FIELDS}


def own(user_field: UserField, *, is_original: bool) -> Field:
    """Return a field of the owner's, in the universal methods under the name that was asked for."""
    name = user_field.name if is_original else camel(user_field.name)

    def read(item: Item) -> Value:
        value = item.fields.get(user_field.name)
        return as_text(value) or None

    return Field(
        user_field.kind,
        read,
        name=name,
        upper=user_field.name,
        title=user_field.label,
        is_own=True,
    )


def fields_of(type_id: int, user_fields: list[UserField], *, is_original: bool) -> list[Field]:
    """Return the fields of a type."""
    basics = SMART_FIELDS if type_id >= FIRST_SMART_PROCESS else FIELDS[type_id]
    return [*basics, *(own(one, is_original=is_original) for one in user_fields)]


def iso(unix: int) -> str:
    """Return a moment as the portal shows it."""
    return datetime.fromtimestamp(unix, ZONE).isoformat()


def written(field: Field, item: Item, *, is_classic: bool) -> Json:
    """Return a field's value in an answer: numbers are text in the classic methods."""
    if field.is_own:
        # An empty field of the owner's is an empty text here, false or a list in others.
        return item.fields.get(field.upper, "")
    value = field.read(item)
    if field.kind == "datetime":
        return iso(value) if isinstance(value, int) else "" if is_classic else None
    if isinstance(value, date):
        return f"{value.isoformat()}T03:00:00+03:00"
    if isinstance(value, Decimal):
        return f"{value:.2f}" if is_classic else as_number(value)
    if isinstance(value, int) and is_classic:
        return str(value)
    return value


def as_number(value: Decimal) -> int | float:
    """Return money as PHP writes a float: without a point when nothing is behind it."""
    return int(value) if value == int(value) else float(value)


def multiple(item: Item) -> list[tuple[int, str, str]]:
    """Return phones and e-mails as `(id, type, value)`."""
    values = [("PHONE", phone) for phone in item.phones] + [("EMAIL", email) for email in item.emails]
    return [(item.id * 100 + index, kind, value) for index, (kind, value) in enumerate(values, start=1)]


def universal(item: Item, fields: list[Field], wanted: set[str] | None = None) -> dict[str, Json]:
    """Return an item as the universal methods do; `wanted` are the names to tell, None is all."""
    chosen = [one for one in fields if wanted is None or one.name in wanted]
    told = {one.name: written(one, item, is_classic=False) for one in chosen}
    if wanted is None or "fm" in wanted:
        told["fm"] = [
            {"id": number, "valueType": "WORK", "value": value, "typeId": kind}
            for number, kind, value in multiple(item)
        ]
    return told if wanted is not None else {**told, "entityTypeId": item.type_id}


def classic(item: Item, fields: list[Field]) -> dict[str, Json]:
    """Return an item as the classic methods do, phones and e-mails only where there are some."""
    told = {one.upper: written(one, item, is_classic=True) for one in fields if not one.is_list}
    for kind in ("PHONE", "EMAIL"):
        found = [
            {"ID": str(number), "VALUE_TYPE": "WORK", "VALUE": value, "TYPE_ID": kind}
            for number, its_kind, value in multiple(item)
            if its_kind == kind
        ]
        if found:
            told[kind] = found
    return told


def wanted_names(select: Json) -> set[str] | None:
    """Return the names that `select` asks for, None for all."""
    names = {as_text(one) for one in as_list(select)}
    return None if not names or "*" in names else names


def described(fields: list[Field], *, is_classic: bool) -> Mapping[str, Json]:
    """Return what `crm.deal.fields` or `crm.item.fields` says."""
    if not is_classic:
        return {one.name: {**one.description(), "upperName": one.upper} for one in fields}
    return {one.upper: classic_description(one) for one in fields}


def classic_description(field: Field) -> dict[str, Json]:
    """Return what `crm.deal.fields` says of a field; the owner's have their label beside the name."""
    if not field.is_own:
        return field.description()
    labels = dict.fromkeys(("listLabel", "formLabel", "filterLabel"), field.title)
    return {**field.description(), "title": field.upper, **labels}
