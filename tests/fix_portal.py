"""A Bitrix24 portal in memory that answers batches, lists and single calls as the protocol page says."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from closedloop.domain.exchange import Reply, Request

PAGE = 50
Row = dict[str, Any]
_REFERENCE = re.compile(r"\$result((?:\[[^\[\]]+\])+)")
_COMPARED = re.compile(r"(>=|>|@)?(.+)")


class Refused(Exception):  # noqa: N818 - what the portal says, no mistake of the test
    """An error of one call, with its code and description."""


class Portal:
    """Objects by type and id; `lists` are answers without filters. Everything may be changed between calls.

    `times` stands in every answer. `asked` are the names of the methods, one entry for each command.
    """

    def __init__(self) -> None:
        self.items: dict[int, dict[int, Row]] = {2: {}}
        self.rows: dict[str, list[Row]] = {"crm.lead.list": [], "crm.contact.list": []}
        self.history: list[Row] = []
        self.stages: dict[str, list[Row]] = {}
        self.fields: dict[int, Row] = {}
        self.refused: dict[str, tuple[str, str]] = {}  # by method, or method and entity type
        self.time: Row = {"date_start": "2025-03-08T15:20:03+03:00"}
        self.asked: list[str] = []
        self.requests = 0
        self.before: Callable[[], None] = lambda: None

    def __call__(self, request: Request) -> Reply:
        """Return the answer to one request."""
        self.requests += 1
        if request.path != "batch":
            return self._reply({"result": self._single(request.path, dict(request.body or {}))})
        commands: dict[str, str] = request.body["cmd"] if request.body else {}  # type: ignore[assignment]
        assert len(commands) <= PAGE
        told: Row = {"result": {}, "result_error": {}, "result_total": {}}
        for name, command in commands.items():
            self.before()
            self._one(told, name, command)
        return self._reply({"result": {key: value or [] for key, value in told.items()}})

    def _reply(self, told: Row) -> Reply:
        return Reply(status=200, body=json.dumps({**told, "time": self.time}).encode())

    def _one(self, told: Row, name: str, command: str) -> None:
        method, _, query = command.partition("?")
        params = _tree(_REFERENCE.sub(lambda found: _looked_up(told["result"], found[1]), query))
        try:
            result, total = self._listed(method, params)
        except Refused as refused:
            code, description = refused.args
            told["result_error"][name] = {"error": code, "error_description": description}
            return
        told["result"][name] = result
        if total is not None:
            told["result_total"][name] = total

    def _listed(self, method: str, params: Row) -> tuple[object, int | None]:
        entity_type = int(params.get("entityTypeId", 0))
        for key in (method, f"{method} {entity_type}"):
            if key in self.refused:
                raise Refused(*self.refused[key])
        if method == "crm.item.list":
            if entity_type not in self.items and entity_type > 3:
                raise Refused("NOT_FOUND", "Smart process not found")
            found, total = _page(list(self.items.get(entity_type, {}).values()), params)
            return {"items": found}, total
        if method == "crm.stagehistory.list":
            found, total = _page(self.history, params)
            return {"items": found}, total
        if method in self.rows:
            return _page(self.rows[method], params)
        return self._single(method, params), None

    def _single(self, method: str, params: Row) -> object:
        self.asked.append(method)
        entity_type = int(params.get("entityTypeId", 0))
        if method == "crm.item.get":
            item = self.items.get(entity_type, {}).get(int(params["id"]))
            if item is None:
                raise Refused("NOT_FOUND", "Element not found")
            return {"item": item}
        if method == "crm.item.update":
            self.items[entity_type][params["id"]].update(params["fields"])
            return {"item": self.items[entity_type][params["id"]]}
        if method == "crm.item.fields":
            return {"fields": self.fields.get(entity_type, {"id": {"title": "ID"}})}
        return self.stages.get(params["filter"]["ENTITY_ID"], []) if method == "crm.status.list" else ["crm"]


def _page(rows: list[Row], params: Row) -> tuple[list[Row], int | None]:
    found = [row for row in rows if all(_fits(row, *one) for one in params.get("filter", {}).items())]
    key = next(iter(params.get("order", {"id": ""})))
    found.sort(key=lambda row: int(row[key]))
    start = int(params.get("start", 0))
    return found[max(start, 0) :][:PAGE], None if start < 0 else len(found)


def _fits(row: Row, condition: str, wanted: Any) -> bool:  # noqa: ANN401 - texts and lists of a filter
    match = _COMPARED.fullmatch(condition)
    assert match is not None
    told = str(row[match[2]])
    if match[1] == "@":
        return told in wanted.values()
    if match[1] == ">":
        return int(told) > int(wanted or 0)
    return datetime.fromisoformat(told) >= datetime.fromisoformat(wanted)


def _tree(query: str) -> Row:
    tree: Row = {}
    for path, value in parse_qsl(query, keep_blank_values=True):
        *parents, last = re.findall(r"[^\[\]]+", path)
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = value
    return tree


def _looked_up(results: Row, path: str) -> str:
    """Return what a reference points to; nothing when there is nothing, as PHP does."""
    found: Any = results
    for name in re.findall(r"[^\[\]]+", path):
        try:
            found = found[int(name) if isinstance(found, list) else name]
        except (KeyError, IndexError, TypeError):
            return ""
    return str(found)
