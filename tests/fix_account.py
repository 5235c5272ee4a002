"""An amoCRM account in memory that answers lists and single calls as the protocol page says."""

import json
from collections.abc import Callable
from typing import Any

from closedloop.domain.exchange import Reply, Request

Row = dict[str, Any]


class Account:
    """Leads and contacts by id. Everything may be changed between calls; `before` is called before each."""

    def __init__(self) -> None:
        self.leads: dict[int, Row] = {}
        self.contacts: dict[int, Row] = {}
        self.pipelines: list[Row] = []
        self.fields: list[Row] = []
        self.account: Row = {"id": 30000001, "subdomain": "alfashop", "currency": "RUB"}
        self.asked: list[Request] = []
        self.before: Callable[[], None] = lambda: None

    def __call__(self, request: Request) -> Reply:
        """Return the answer to one request."""
        self.before()
        self.asked.append(request)
        told = self._told(request)
        return Reply(status=200 if told else 204, body=json.dumps(told).encode() if told else b"")

    def paths(self) -> list[str]:
        """Return what was asked for, without the queries."""
        return [request.path for request in self.asked]

    def _told(self, request: Request) -> Row | None:
        name = request.path.removeprefix("api/v4/")
        if request.method == "PATCH":
            return {"id": int(name.removeprefix("leads/"))}
        lists = {"leads": self.leads, "contacts": self.contacts}
        if name in lists:
            return _page(name, list(lists[name].values()), request)
        if name == "leads/custom_fields":
            return _page("custom_fields", self.fields, request)
        if name == "account":
            return self.account
        if name == "leads/pipelines":
            return {"_embedded": {"pipelines": self.pipelines}}
        return self.leads.get(int(name.removeprefix("leads/")))


def _page(kind: str, rows: list[Row], request: Request) -> Row | None:
    query = dict(request.query)
    ids = {int(value) for name, value in request.query if name == "filter[id][]"}
    first, last = (int(query.get(f"filter[updated_at][{end}]", "-1")) for end in ("from", "to"))
    found = [
        row
        for row in rows
        if (not ids or row["id"] in ids)
        and not row.get("is_deleted")
        and (first < 0 or row["updated_at"] >= first)
        and (last < 0 or row["updated_at"] <= last)
    ]
    key = "updated_at" if "order[updated_at]" in query else "id"
    found.sort(key=lambda row: (row[key], row["id"]))
    limit, page = int(query.get("limit", "50")), int(query.get("page", "1"))
    assert limit <= 250
    part = found[(page - 1) * limit : page * limit]
    if not part:
        return None
    links = {"next": {"href": "https://alfashop.amocrm.example/"}} if page * limit < len(found) else {}
    return {"_page": page, "_links": links, "_embedded": {kind: part}}
