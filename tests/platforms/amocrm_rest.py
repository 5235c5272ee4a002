"""amoCRM's REST v4: leads and contacts with filters and pages, dictionaries, webhooks, writing of fields.

Source: docs/protocols/amocrm.md, 1.2 (managing webhooks) and 4.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlencode

from platforms.amocrm_bodies import Account
from platforms.amocrm_cards import Writer
from platforms.amocrm_data import Card, Crm, CustomField, Given, Lead, Value
from platforms.amocrm_tokens import ApiError
from platforms.amocrm_webhooks import Webhook
from platforms.forms import Json, as_int, as_list, as_map, as_text
from platforms.http import Request

LARGEST_PAGE = 250
USUAL_PAGE = 50
MAX_WEBHOOKS = 100
MOMENTS = {"created_at": "created", "updated_at": "updated", "closed_at": "closed"}
AnyCard = TypeVar("AnyCard", bound=Card)


class Told(NamedTuple):
    """What is answered: 204 has no body."""

    status: int
    body: Json = None


NOTHING = Told(204)
Route: TypeAlias = Callable[[Request, int], Told]


class Api:
    """All addresses of one account below `/api/v4/`.

    `max_page` is the largest page for which the account has time; a larger one ends with 504.
    """

    def __init__(self, crm: Crm, account: Account) -> None:
        self.crm = crm
        self.account = account
        self.writer = Writer(account.id)
        self.webhooks: list[Webhook] = []
        self.max_page: int | None = None
        self.routes: list[tuple[str, str, Route]] = [
            ("GET", r"leads", lambda request, _: self.list_leads(request)),
            ("GET", r"leads/(\d+)", self.get_lead),
            ("PATCH", r"leads", lambda request, _: self.change_leads(request)),
            ("PATCH", r"leads/(\d+)", self.change_lead),
            ("GET", r"contacts", lambda request, _: self.list_contacts(request)),
            ("GET", r"contacts/(\d+)", self.get_contact),
            ("GET", r"leads/pipelines", lambda _, __: self.list_pipelines()),
            ("GET", r"leads/pipelines/(\d+)", lambda _, number: self.get_pipeline(number)),
            ("GET", r"leads/custom_fields", lambda request, _: self.list_fields("leads", request)),
            ("GET", r"contacts/custom_fields", lambda request, _: self.list_fields("contacts", request)),
            ("GET", r"account", lambda _, __: self.get_account()),
            ("GET", r"webhooks", lambda _, __: self.list_webhooks()),
            ("POST", r"webhooks", lambda request, _: self.add_webhook(request)),
            ("DELETE", r"webhooks", lambda request, _: self.remove_webhook(request)),
        ]

    def answer(self, request: Request) -> Told:
        """Return what one call gives; raises ApiError."""
        path = request.path.removeprefix("/api/v4/").removesuffix("/")
        for method, pattern, route in self.routes:
            found = re.fullmatch(pattern, path)
            if found is not None and method == request.method:
                return route(request, int(found[1]) if found.groups() else 0)
        raise ApiError(404, "Not Found", f"Cannot {request.method} {request.path}!")

    def get_lead(self, request: Request, lead_id: int) -> Told:
        """Return a lead; nothing when there is none or it is in the bin."""
        lead = self.crm.leads.get(lead_id)
        if lead is None or lead.is_deleted:
            return NOTHING
        return Told(200, self.writer.lead(lead, self.crm.lead_fields, asked(request)))

    def get_contact(self, request: Request, contact_id: int) -> Told:
        """Return a contact; nothing when there is none."""
        contact = self.crm.contacts.get(contact_id)
        if contact is None or contact.is_deleted:
            return NOTHING
        return Told(200, self.writer.contact(contact, self.crm.contact_fields, asked(request)))

    def list_leads(self, request: Request) -> Told:
        """Return a page of leads."""
        fields, extras = self.crm.lead_fields, asked(request)
        in_bin = "only_deleted" in extras
        leads = [lead for lead in self.crm.leads.values() if lead.is_deleted == in_bin]
        chosen = in_order(filtered(leads, request.query.get("filter")), request.query.get("order"))
        return self.page("leads", chosen, request, lambda lead: self.writer.lead(lead, fields, extras))

    def list_contacts(self, request: Request) -> Told:
        """Return a page of contacts."""
        fields, extras = self.crm.contact_fields, asked(request)
        contacts = list(self.crm.contacts.values())
        chosen = in_order(filtered(contacts, request.query.get("filter")), request.query.get("order"))
        return self.page("contacts", chosen, request, lambda one: self.writer.contact(one, fields, extras))

    def page(
        self,
        name: str,
        chosen: Sequence[AnyCard],
        request: Request,
        write: Callable[[AnyCard], Json],
    ) -> Told:
        """Return one page with the address of the next; nothing when it is empty."""
        limit, number = self.window(request)
        first = (number - 1) * limit
        cards = chosen[first : first + limit]
        if not cards:
            return NOTHING
        links: dict[str, Json] = {"self": self.page_link(request, number)}
        if first + limit < len(chosen):
            links["next"] = self.page_link(request, number + 1)
        if number > 1:
            links |= {"first": self.page_link(request, 1), "prev": self.page_link(request, number - 1)}
        return Told(
            200,
            {"_page": number, "_links": links, "_embedded": {name: [write(card) for card in cards]}},
        )

    def window(self, request: Request) -> tuple[int, int]:
        """Return the size and number of the page that is asked for."""
        limit = min(as_int(request.query.get("limit")) or USUAL_PAGE, LARGEST_PAGE)
        if self.max_page is not None and limit > self.max_page:
            raise ApiError(504, "Gateway Timeout")
        return limit, max(as_int(request.query.get("page")) or 1, 1)

    def page_link(self, request: Request, number: int) -> Json:
        """Return the link to another page of the same list."""
        others = [pair for pair in flat(request.query) if pair[0] != "page"]
        return {"href": f"{self.writer.base}{request.path}?{urlencode([*others, ('page', str(number))])}"}

    def change_leads(self, request: Request) -> Told:
        """Change several leads: all of them, or none when one of them cannot be."""
        told = json_of(request)
        changes = [as_map(one) for one in as_list(told)]
        leads = [self.crm.leads.get(as_int(change.get("id")) or 0) for change in changes]
        given = [
            self.given(at, lead, change) for at, (lead, change) in enumerate(zip(leads, changes, strict=True))
        ]
        done: list[Json] = []
        for lead, one in zip(leads, given, strict=True):
            if lead is not None:
                self.crm.change_lead(lead.id, **one)
                link = self.writer.link(f"leads/{lead.id}")
                done.append({"id": lead.id, "updated_at": lead.updated, "_links": link})
        return Told(200, {"_links": self.writer.link("leads"), "_embedded": {"leads": done}})

    def change_lead(self, request: Request, lead_id: int) -> Told:
        """Change one lead."""
        lead = self.crm.leads.get(lead_id)
        self.crm.change_lead(lead_id, **self.given(0, lead, as_map(json_of(request))))
        link = self.writer.link(f"leads/{lead_id}")
        return Told(200, {"id": lead_id, "updated_at": self.crm.clock.unix, "_links": link})

    def given(self, at: int, lead: Lead | None, change: Mapping[str, Json]) -> Given:
        """Return what one element of a body says of a lead; raises ApiError for what cannot be."""
        if lead is None or lead.is_deleted:
            raise invalid(at, "id", "Element not found")
        given: Given = {}
        if "name" in change:
            given["name"] = as_text(change["name"])
        if "price" in change:
            try:
                given["price"] = Decimal(as_text(change["price"]))
            except InvalidOperation:
                raise invalid(at, "price", "This value should be of type int.") from None
        pipeline_id = as_int(change.get("pipeline_id")) or lead.pipeline_id
        status_id = as_int(change.get("status_id")) or lead.status_id
        pipeline = self.crm.pipelines.get(pipeline_id)
        if pipeline is None or status_id not in {status.id for status in pipeline.statuses}:
            raise invalid(at, "status_id", "The value you selected is not a valid choice.")
        given["pipeline_id"], given["status_id"] = pipeline_id, status_id
        given["fields"] = self.given_fields(at, change)
        return given

    def given_fields(self, at: int, change: Mapping[str, Json]) -> dict[int, Value]:
        """Return the values of fields by their numbers; no values empty a field."""
        found: dict[int, Value] = {}
        codes = {known.code: known for known in self.crm.lead_fields.values() if known.code}
        for place, one in enumerate(as_list(change.get("custom_fields_values"))):
            told = as_map(one)
            known = self.crm.lead_fields.get(as_int(told.get("field_id")) or 0)
            known = known or codes.get(as_text(told.get("field_code")))
            if known is None:
                path = f"custom_fields_values.{place}.field_id"
                raise invalid(at, path, "The value you selected is not a valid choice.")
            values = [as_map(value).get("value") for value in as_list(told.get("values"))]
            found[known.id] = value_of(known, values)
        return found

    def list_pipelines(self) -> Told:
        """Return all pipelines."""
        told: Json = [
            self.writer.pipeline(one, place) for place, one in enumerate(self.crm.pipelines.values(), 1)
        ]
        return Told(200, {"_total_items": len(self.crm.pipelines), "_embedded": {"pipelines": told}})

    def get_pipeline(self, pipeline_id: int) -> Told:
        """Return one pipeline."""
        pipeline = self.crm.pipelines.get(pipeline_id)
        return NOTHING if pipeline is None else Told(200, self.writer.pipeline(pipeline, 1))

    def list_fields(self, entity: str, request: Request) -> Told:
        """Return a page of the dictionary of fields."""
        fields = list((self.crm.lead_fields if entity == "leads" else self.crm.contact_fields).values())
        limit, number = self.window(request)
        page = fields[(number - 1) * limit : number * limit]
        if not page:
            return NOTHING
        links: dict[str, Json] = {"self": self.page_link(request, number)}
        if number * limit < len(fields):
            links["next"] = self.page_link(request, number + 1)
        told: Json = [self.writer.custom_field(entity, known) for known in page]
        body: dict[str, Json] = {"_total_items": len(fields), "_page": number, "_links": links}
        return Told(200, {**body, "_embedded": {"custom_fields": told}})

    def get_account(self) -> Told:
        """Return who the account is."""
        return Told(
            200,
            {
                "id": self.account.id,
                "name": self.account.subdomain,
                "subdomain": self.account.subdomain,
                "created_at": self.crm.clock.unix,
                "current_user_id": 9000001,
                "country": "RU",
                "currency": "RUB",
                "currency_symbol": "₽",
                "_links": self.writer.link("account"),
            },
        )

    def get_subdomain(self) -> Told:
        """Return where a renamed account is now, as `www.amocrm.ru` tells whoever has a token."""
        place: Json = {"subdomain": self.account.subdomain, "domain": self.account.domain}
        return Told(200, {"id": self.account.id, **as_map(place)})

    def list_webhooks(self) -> Told:
        """Return the webhooks."""
        told: Json = [self.webhook(one) for one in self.webhooks]
        return Told(200, {"_total_items": len(self.webhooks), "_embedded": {"webhooks": told}})

    def webhook(self, webhook: Webhook) -> Json:
        """Return a webhook."""
        return {
            "id": webhook.id,
            "destination": webhook.destination,
            "created_at": webhook.created,
            "updated_at": webhook.updated,
            "account_id": self.account.id,
            "created_by": 9000001,
            "sort": webhook.id,
            "disabled": webhook.disabled,
            "settings": webhook.settings,
        }

    def add_webhook(self, request: Request) -> Told:
        """Add a webhook; the same address again gets other settings."""
        told = as_map(json_of(request))
        destination = as_text(told.get("destination"))
        settings = [as_text(one) for one in as_list(told.get("settings"))]
        if not destination or not settings:
            raise invalid(0, "destination", "This value should not be blank.")
        return Told(201, self.webhook(self.subscribe(destination, settings)))

    def subscribe(self, destination: str, settings: list[str]) -> Webhook:
        """Add a webhook, or replace the settings of the one with this address."""
        now = self.crm.clock.unix
        for known in self.webhooks:
            if known.destination == destination:
                known.settings, known.updated = settings, now
                return known
        if len(self.webhooks) >= MAX_WEBHOOKS:
            raise ApiError(400, "Bad Request", "Too many webhooks")
        webhook = Webhook(839001 + len(self.webhooks), destination, settings, now, now)
        self.webhooks.append(webhook)
        return webhook

    def remove_webhook(self, request: Request) -> Told:
        """Remove the webhook with an address."""
        destination = as_text(as_map(json_of(request)).get("destination"))
        self.webhooks = [one for one in self.webhooks if one.destination != destination]
        return NOTHING


def asked(request: Request) -> set[str]:
    """Return what `with` asks for."""
    return set(as_text(request.query.get("with")).split(","))


def json_of(request: Request) -> Json:
    """Return the body; raises ApiError when it is no JSON."""
    try:
        return request.json
    except ValueError:
        raise ApiError(400, "Bad Request", "Syntax error") from None


def invalid(at: int, path: str, detail: str) -> ApiError:
    """Return the refusal of one element of a body."""
    errors: Json = [
        {"request_id": str(at), "errors": [{"code": "InvalidValue", "path": path, "detail": detail}]}
    ]
    return ApiError(400, "Bad Request", "Request validation failed", **{"validation-errors": errors})


def flat(query: Mapping[str, Json], start: str = "") -> list[tuple[str, str]]:
    """Return a query's parameters under their whole names."""
    pairs: list[tuple[str, str]] = []
    for key, value in query.items():
        name = f"{start}[{key}]" if start else key
        if isinstance(value, str):
            pairs.append((name, value))
        else:
            pairs += flat(as_map(value), name)
    return pairs


def value_of(known: CustomField, values: list[Json]) -> Value:
    """Return a field's value from those of a call."""
    if not values:
        return None
    if known.kind in ("multitext", "multiselect"):
        return [as_text(one) for one in values]
    first = values[0]
    return first if isinstance(first, str | bool | int) else as_text(first)


def filtered(cards: Sequence[AnyCard], conditions: Json) -> list[AnyCard]:
    """Return the cards that a filter lets through; what it names and is not known is passed over."""
    given = as_map(conditions)
    chosen = list(cards)
    if "id" in given:
        numbers = {as_int(one) for one in as_list(given["id"])}
        chosen = [card for card in chosen if card.id in numbers]
    for name, attribute in MOMENTS.items():
        if name in given:
            chosen = within(chosen, attribute, given[name])
    if "statuses" in given:
        pairs = [as_map(one) for one in as_list(given["statuses"])]
        wanted = {(as_int(pair.get("pipeline_id")), as_int(pair.get("status_id"))) for pair in pairs}
        chosen = [
            card for card in chosen if isinstance(card, Lead) and (card.pipeline_id, card.status_id) in wanted
        ]
    if "pipeline_id" in given:
        numbers = {as_int(one) for one in as_list(given["pipeline_id"])}
        chosen = [card for card in chosen if isinstance(card, Lead) and card.pipeline_id in numbers]
    return chosen


def within(cards: Sequence[AnyCard], attribute: str, span: Json) -> list[AnyCard]:
    """Return the cards with a moment from `from` to `to`, both included; a number alone is `from`."""
    bounds = as_map(span) if isinstance(span, Mapping) else {"from": span}
    first, last = as_int(bounds.get("from")), as_int(bounds.get("to"))
    return [
        card
        for card in cards
        if (moment := vars(card)[attribute]) is not None
        and (first is None or moment >= first)
        and (last is None or moment <= last)
    ]


def in_order(cards: list[AnyCard], order: Json) -> list[AnyCard]:
    """Return cards by `created_at`, `updated_at` or `id`; by the id when nothing is asked for."""
    cards = sorted(cards, key=lambda card: card.id)
    for name, direction in reversed(list(as_map(order).items())):
        attribute = {**MOMENTS, "id": "id"}.get(name, "id")
        descends = as_text(direction).lower() == "desc"
        cards = by_attribute(cards, attribute, descends=descends)
    return cards


def by_attribute(cards: list[AnyCard], attribute: str, *, descends: bool) -> list[AnyCard]:
    """Return cards in the order of one number; equals stay as they came."""
    return sorted(cards, key=lambda card: int(vars(card)[attribute] or 0), reverse=descends)
