"""The methods of Bitrix24's REST API that read and write a portal, each as a function of its parameters.

Source: docs/protocols/bitrix24.md, 5.1 to 5.3 and 5.5; what it leaves open is as on the vendor's pages.
"""

import bisect
import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial

from platforms.bitrix24_data import CONTACT, DEAL, LEAD, Crm, Given, Item
from platforms.bitrix24_directories import (
    Method,
    Params,
    Result,
    list_categories,
    list_contacts_of_deal,
    list_moves,
    list_statuses,
    list_user_fields,
    param,
    type_of,
)
from platforms.bitrix24_fields import Field, classic, described, fields_of, universal, wanted_names
from platforms.bitrix24_lists import (
    Page,
    RestError,
    compiled,
    in_order,
    order_of,
    paged,
)
from platforms.forms import Json, as_int, as_list, as_map, as_text

WITH_LEADS, WITHOUT_LEADS = 1, 2


def id_of(params: Params) -> int:
    """Return the parameter `id` of a classic method; raises RestError."""
    number = as_int(param(params, "id"))
    if number is None or number <= 0:
        raise RestError(400, "", "ID is not defined or invalid")
    return number


class Methods:
    """All methods over one portal's data, by their names; `mode` is 2 when the portal works without leads."""

    def __init__(self, crm: Crm, scope: set[str]) -> None:
        self.crm = crm
        self.scope = scope
        self.mode = WITH_LEADS
        self.chosen_at = (0, WITH_LEADS)
        self.chosen: dict[str, list[Item]] = {}
        self.table: dict[str, Method] = {
            "scope": lambda _: Result(sorted(self.scope)),
            "profile": lambda _: Result({"ID": "1", "ADMIN": True, "NAME": "Ann", "LAST_NAME": "Admin"}),
            "crm.settings.mode.get": lambda _: Result(self.mode),
            "crm.item.get": self.get_item,
            "crm.item.list": self.list_items,
            "crm.item.fields": self.describe_items,
            "crm.item.update": self.update_item,
            "crm.status.list": partial(list_statuses, crm),
            "crm.category.list": partial(list_categories, crm),
            "crm.stagehistory.list": partial(list_moves, crm),
            "crm.deal.contact.items.get": partial(list_contacts_of_deal, crm),
        }
        for type_id, name in ((LEAD, "lead"), (DEAL, "deal"), (CONTACT, "contact")):
            self.table |= {
                f"crm.{name}.get": partial(self.get_classic, type_id),
                f"crm.{name}.list": partial(self.list_classic, type_id),
                f"crm.{name}.update": partial(self.update_classic, type_id),
                f"crm.{name}.fields": partial(self.describe, type_id),
                f"crm.{name}.userfield.list": partial(list_user_fields, crm, type_id),
            }

    def items(self, type_id: int) -> dict[int, Item]:
        """Return what can be read of a type: no leads where the portal works without them."""
        return {} if type_id == LEAD and self.mode == WITHOUT_LEADS else self.crm.items[type_id]

    def fields(self, type_id: int, *, is_original: bool = True) -> list[Field]:
        """Return the fields of a type."""
        return fields_of(type_id, self.crm.user_fields[type_id], is_original=is_original)

    def get_classic(self, type_id: int, params: Params) -> Result:
        """Return one item of a classic method."""
        item = self.items(type_id).get(id_of(params))
        if item is None:
            raise RestError(400, "", "Not found")
        return Result(classic(item, self.fields(type_id)))

    def list_classic(self, type_id: int, params: Params) -> Result:
        """Return a page of a classic method: of the owner's fields, those that are asked for."""
        fields = {field.upper: field for field in self.fields(type_id)}
        asked = {as_text(one) for one in as_list(param(params, "select"))} or {"*"}

        def write(item: Item) -> Json:
            told = classic(item, list(fields.values()))
            return {name: value for name, value in told.items() if is_told(name, asked)}

        page = self.page(type_id, params, fields, write, is_strict=False)
        return Result(page.records, page.total, page.next)

    def update_classic(self, type_id: int, params: Params) -> Result:
        """Change one item of a classic method."""
        item = self.items(type_id).get(id_of(params))
        if item is None:
            raise RestError(400, "", "Not found")
        fields = param(params, "fields")
        if not isinstance(fields, Mapping):
            raise RestError(400, "", "Parameter 'fields' must be array.")
        self.crm.change(type_id, item.id, **self.given(type_id, fields))
        return Result(result=True)

    def describe(self, type_id: int, _: Params) -> Result:
        """Return the fields of a classic type."""
        return Result(described(self.fields(type_id), is_classic=True))

    def item_of(self, type_id: int, params: Params) -> Item:
        """Return the item of a universal method; raises RestError."""
        item = self.items(type_id).get(as_int(param(params, "id")) or 0)
        if item is None:
            raise RestError(400, "NOT_FOUND", "Element not found")
        return item

    def get_item(self, params: Params) -> Result:
        """Return one item of a universal method."""
        type_id = type_of(self.crm, params)
        fields = self.fields(type_id, is_original=has_original_names(params))
        return Result({"item": universal(self.item_of(type_id, params), fields)})

    def list_items(self, params: Params) -> Result:
        """Return a page of a universal method; raises RestError for a filter that it does not know."""
        type_id = type_of(self.crm, params)
        fields = self.fields(type_id, is_original=has_original_names(params))
        wanted = wanted_names(param(params, "select"))
        page = self.page(
            type_id,
            params,
            {field.name: field for field in fields},
            lambda item: universal(item, fields, wanted),
            is_strict=True,
        )
        return Result({"items": page.records}, page.total, page.next)

    def describe_items(self, params: Params) -> Result:
        """Return the fields of any type."""
        fields = self.fields(type_of(self.crm, params), is_original=has_original_names(params))
        return Result({"fields": described(fields, is_classic=False)})

    def update_item(self, params: Params) -> Result:
        """Change one item of a universal method."""
        type_id = type_of(self.crm, params)
        item = self.item_of(type_id, params)
        both = self.fields(type_id), self.fields(type_id, is_original=False)
        uppers = {field.name: field.upper for fields in both for field in fields}
        told = {uppers.get(name, name): value for name, value in as_map(param(params, "fields")).items()}
        self.crm.change(type_id, item.id, **self.given(type_id, told))
        return self.get_item(params)

    def given(self, type_id: int, told: Mapping[str, Json]) -> Given:
        """Return what a call says of a card; what the card has no field for is passed over."""
        given: Given = {}
        names = {one.name for one in self.crm.user_fields[type_id]}
        given["fields"] = {name: value for name, value in told.items() if name in names}
        if "TITLE" in told:
            given["title"] = as_text(told["TITLE"])
        if "COMMENTS" in told:
            given["comments"] = as_text(told["COMMENTS"])
        if "ORIGIN_ID" in told:
            given["origin_id"] = as_text(told["ORIGIN_ID"])
        if "OPPORTUNITY" in told:
            try:
                given["opportunity"] = Decimal(as_text(told["OPPORTUNITY"]) or 0)
            except InvalidOperation:
                raise RestError(400, "", "Invalid value for the field OPPORTUNITY") from None
        stage_id = as_text(told.get("STAGE_ID", told.get("STATUS_ID")))
        if stage_id:
            if not any(stage_id in funnel.stages for funnel in self.crm.funnels_of(type_id)):
                raise RestError(400, "", f"Stage {stage_id} is not there")
            given["stage_id"] = stage_id
        return given

    def page(
        self,
        type_id: int,
        params: Params,
        fields: Mapping[str, Field],
        write: Callable[[Item], Json],
        *,
        is_strict: bool,
    ) -> Page:
        """Return the page that a list method is asked for."""
        conditions, order = as_map(param(params, "filter")), param(params, "order")
        ways = order_of(order, fields, is_strict=is_strict)
        id_name = "ID" if "ID" in fields else "id"
        above, others = above_id(conditions, id_name)
        base: Json = ["by id", type_id, others, is_strict]
        test = compiled(others, fields, is_strict=is_strict)
        found = self.kept(base, lambda: self.matching(type_id, test))
        found = found[bisect.bisect_right(found, above, key=lambda item: item.id) :]
        if ways and ways != [(fields[id_name], False)]:
            key: Json = ["in order", type_id, conditions, order]
            found = self.kept(key, lambda: in_order(found, ways))
        return paged(found, param(params, "start"), write)

    def kept(self, key: Json, choose: Callable[[], list[Item]]) -> list[Item]:
        """Return what `choose` chooses, which is done once until something changes."""
        state = (self.crm.version, self.mode)
        if self.chosen_at != state:
            self.chosen_at, self.chosen = state, {}
        name = json.dumps(key)
        if name not in self.chosen:
            self.chosen[name] = choose()
        return self.chosen[name]

    def matching(self, type_id: int, test: Callable[[Item], bool]) -> list[Item]:
        """Return the items that a filter lets through, by their ids."""
        items = self.items(type_id)
        return [items[one] for one in self.crm.ids[type_id] if one in items and test(items[one])]


def above_id(conditions: Mapping[str, Json], id_name: str) -> tuple[int, Mapping[str, Json]]:
    """Return the id above which a filter looks, and its other conditions."""
    above = as_int(conditions.get(f">{id_name}"))
    if above is None:
        return -1, conditions
    return above, {key: value for key, value in conditions.items() if key != f">{id_name}"}


def has_original_names(params: Params) -> bool:
    """Return whether the owner's fields are to be called as the owner knows them."""
    value = param(params, "useOriginalUfNames")
    return value is True or as_text(value).upper() in ("Y", "1", "TRUE")


def is_told(name: str, asked: set[str]) -> bool:
    """Return whether a classic list tells a field: phones and the owner's fields only when they are named."""
    if name in asked:
        return True
    if name.startswith("UF_"):
        return "UF_*" in asked
    return "*" in asked and name not in ("PHONE", "EMAIL")
