"""Bitrix24's lists of what stands around the items: stages, funnels, the stage history, the owner's fields.

Source: docs/protocols/bitrix24.md, 5.3; shapes that it leaves open are those of the vendor's pages.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from platforms.bitrix24_data import CONTACT, DEAL, LEAD, Crm, Funnel, Move, Stage, UserField
from platforms.bitrix24_fields import iso
from platforms.bitrix24_lists import Column, Record, RestError, compiled, in_order, order_of, paged
from platforms.forms import Json, as_int, as_map

Params: TypeAlias = Mapping[str, Json]


class Result(NamedTuple):
    """What a method gives; lists say how many there are, and where the next page begins."""

    result: Json
    total: int | None = None
    next: int | None = None


Method: TypeAlias = Callable[[Params], Result]
SEMANTICS = {"P": "process", "S": "success", "F": "failure"}
OWNERS = {LEAD: "CRM_LEAD", DEAL: "CRM_DEAL", CONTACT: "CRM_CONTACT"}


class Status(NamedTuple):
    """One stage with where it stands."""

    number: int
    funnel: Funnel
    stage: Stage


STATUSES: dict[str, Column[Status]] = {
    "ID": Column("integer", lambda one: one.number),
    "ENTITY_ID": Column("string", lambda one: one.funnel.entity_id),
    "STATUS_ID": Column("string", lambda one: one.stage.status_id),
    "NAME": Column("string", lambda one: one.stage.name),
    "SORT": Column("integer", lambda one: one.stage.sort),
    "CATEGORY_ID": Column("integer", lambda one: one.funnel.category_id),
    "SEMANTICS": Column("string", lambda one: "" if one.stage.semantics == "P" else one.stage.semantics),
}
MOVES: dict[str, Column[Move]] = {
    "ID": Column("integer", lambda move: move.id),
    "TYPE_ID": Column("integer", lambda move: move.kind),
    "OWNER_ID": Column("integer", lambda move: move.owner_id),
    "CREATED_TIME": Column("datetime", lambda move: move.at),
    "CATEGORY_ID": Column("integer", lambda move: move.category_id),
    "STAGE_SEMANTIC_ID": Column("string", lambda move: move.semantics),
    "STAGE_ID": Column("string", lambda move: move.stage_id),
}
LEAD_MOVES = {
    {"STAGE_SEMANTIC_ID": "STATUS_SEMANTIC_ID", "STAGE_ID": "STATUS_ID"}.get(name, name): column
    for name, column in MOVES.items()
    if name != "CATEGORY_ID"
}
USER_FIELDS: dict[str, Column[UserField]] = {
    "ID": Column("integer", lambda one: one.id),
    "FIELD_NAME": Column("string", lambda one: one.name),
    "USER_TYPE_ID": Column("string", lambda one: one.kind),
}


def param(params: Params, name: str) -> Json:
    """Return a parameter, whatever the case of its letters."""
    return next((value for key, value in params.items() if key.lower() == name.lower()), None)


def type_of(crm: Crm, params: Params) -> int:
    """Return the parameter `entityTypeId`; raises RestError for a type that is not there."""
    type_id = as_int(param(params, "entityTypeId"))
    if type_id is None or type_id not in crm.items:
        raise RestError(400, "NOT_FOUND", "Smart process not found")
    return type_id


def listed(
    records: Sequence[Record],
    columns: Mapping[str, Column[Record]],
    params: Params,
    write: Callable[[Record], Json],
    *,
    is_strict: bool,
) -> Result:
    """Return the page of records that is asked for."""
    test = compiled(param(params, "filter"), columns, is_strict=is_strict)
    order = order_of(param(params, "order"), columns, is_strict=is_strict)
    chosen = in_order([one for one in records if test(one)], order)
    page = paged(chosen, param(params, "start"), write)
    return Result(page.records, page.total, page.next)


def list_statuses(crm: Crm, params: Params) -> Result:
    """Return the stages of all funnels, or of those that the filter names."""
    stages = [(funnel, stage) for funnel in crm.funnels.values() for stage in funnel.stages.values()]
    statuses = [Status(101 + 2 * index, *pair) for index, pair in enumerate(stages)]
    return listed(statuses, STATUSES, params, write_status, is_strict=False)


def write_status(status: Status) -> Json:
    """Return a stage as `crm.status.list` does."""
    stage, category_id = status.stage, status.funnel.category_id
    return {
        "ID": str(status.number),
        "ENTITY_ID": status.funnel.entity_id,
        "STATUS_ID": stage.status_id,
        "NAME": stage.name,
        "NAME_INIT": "",
        "SORT": str(stage.sort),
        "SYSTEM": "N",
        "CATEGORY_ID": str(category_id) if category_id else None,
        "COLOR": "#39A8EF",
        "SEMANTICS": None if stage.semantics == "P" else stage.semantics,
        "EXTRA": {"SEMANTICS": stage.extra or SEMANTICS[stage.semantics], "COLOR": "#39A8EF"},
    }


def list_categories(crm: Crm, params: Params) -> Result:
    """Return the funnels of a type."""
    type_id = type_of(crm, params)
    funnels: list[Json] = [
        {
            "id": funnel.category_id,
            "name": funnel.name,
            "sort": 100 * index,
            "entityTypeId": type_id,
            "isDefault": "Y" if index == 1 else "N",
            "originId": "",
            "originatorId": "",
        }
        for index, funnel in enumerate(crm.funnels_of(type_id), start=1)
    ]
    return Result({"categories": funnels}, len(funnels))


def list_moves(crm: Crm, params: Params) -> Result:
    """Return the stage history of a type."""
    type_id = type_of(crm, params)
    moves = [move for move in crm.history if move.type_id == type_id]
    columns = LEAD_MOVES if type_id == LEAD else MOVES
    page = listed(moves, columns, params, write_move, is_strict=True)
    return page._replace(result={"items": page.result})


def write_move(move: Move) -> Json:
    """Return a record of the stage history; leads have other names for the stage."""
    told: dict[str, Json] = {
        "ID": move.id,
        "TYPE_ID": move.kind,
        "OWNER_ID": move.owner_id,
        "CREATED_TIME": iso(move.at),
    }
    if move.type_id == LEAD:
        return {**told, "STATUS_SEMANTIC_ID": move.semantics, "STATUS_ID": move.stage_id}
    told |= {"CATEGORY_ID": move.category_id, "STAGE_SEMANTIC_ID": move.semantics}
    return {**told, "STAGE_ID": move.stage_id}


def list_user_fields(crm: Crm, type_id: int, params: Params) -> Result:
    """Return the owner's fields of a type; labels only when the filter names a language."""
    conditions = as_map(param(params, "filter"))
    has_labels = "LANG" in conditions

    def write(field: UserField) -> Json:
        labels = ("EDIT_FORM_LABEL", "LIST_COLUMN_LABEL", "LIST_FILTER_LABEL") if has_labels else ()
        return {
            "ID": str(field.id),
            "ENTITY_ID": OWNERS[type_id],
            "FIELD_NAME": field.name,
            "USER_TYPE_ID": field.kind,
            "XML_ID": None,
            "SORT": "100",
            "MULTIPLE": "N",
            "MANDATORY": "N",
            **dict.fromkeys(labels, field.label),
        }

    return listed(crm.user_fields[type_id], USER_FIELDS, params, write, is_strict=False)


def list_contacts_of_deal(crm: Crm, params: Params) -> Result:
    """Return the contacts of a deal, the first one as the main one."""
    item = crm.items[DEAL].get(as_int(param(params, "id")) or 0)
    if item is None:
        raise RestError(400, "", "Not found")
    return Result(
        [
            {"CONTACT_ID": one, "SORT": 10 * place, "ROLE_ID": 0, "IS_PRIMARY": "N" if place > 1 else "Y"}
            for place, one in enumerate(item.contact_ids, start=1)
        ]
    )
