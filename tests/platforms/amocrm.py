"""A fake amoCRM account: its REST v4 over real HTTP with tokens and limits, and its webhooks.

Source: docs/protocols/amocrm.md, 5 and what it refers to.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Unpack

from platforms.amocrm_bodies import Account, pipeline_body, webhook_body
from platforms.amocrm_data import Crm, CustomField, Event, Given, Lead, snapshot
from platforms.amocrm_rest import Api
from platforms.amocrm_tokens import ApiError, Tokens
from platforms.amocrm_webhooks import Courier, Delivery, Webhook
from platforms.clocks import Clock, Window
from platforms.faults import Answer
from platforms.forms import as_text
from platforms.http import Platform, Request

CALLS_PER_SECOND = 7
TIMED_OUT = 504
SETTINGS = ("add_lead", "update_lead", "status_lead", "delete_lead", "restore_lead", "responsible_lead")


class AmoCrm(Platform):
    """One account: tests change it through the methods below, and `pending` is what nobody was told of.

    `clock` stands until a test moves it; it dates all changes, and tokens expire by it. `window` is the limit
    of calls, whose watch may be made faster; after `patience` refusals in a row the account is blocked, until
    a test sets `is_blocked` back. `is_unpaid` answers 402, `api.max_page` lets larger pages end with 504.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.crm = Crm(self.clock)
        self.account = Account()
        self.tokens = Tokens(self.clock)
        self.api = Api(self.crm, self.account)
        self.courier = Courier(self.clock)
        self.window = Window(CALLS_PER_SECOND)
        self.patience = 50
        self.is_blocked = False
        self.is_unpaid = False
        super().__init__()

    # What a test does as people in the account would.

    def create_lead(self, **given: Unpack[Given]) -> int:
        """Make a lead, on the first status of its pipeline unless one is given, and return its id."""
        with self.lock:
            return self.crm.create_lead(**given)

    def create_contact(self, **given: Unpack[Given]) -> int:
        """Make a contact and return its id."""
        with self.lock:
            return self.crm.create_contact(**given)

    def change_lead(self, lead_id: int, **given: Unpack[Given]) -> None:
        """Save a lead with other values."""
        with self.lock:
            self.crm.change_lead(lead_id, **given)

    def change_contact(self, contact_id: int, **given: Unpack[Given]) -> None:
        """Save a contact with other values."""
        with self.lock:
            self.crm.change_contact(contact_id, **given)

    def move_lead(self, lead_id: int, status_id: int, pipeline_id: int | None = None) -> None:
        """Put a lead on a status, of another pipeline if one is given."""
        lead = self.crm.leads[lead_id]
        self.change_lead(lead_id, status_id=status_id, pipeline_id=pipeline_id or lead.pipeline_id)

    def assign_lead(self, lead_id: int, responsible_id: int) -> None:
        """Give a lead to another user."""
        with self.lock:
            self.crm.assign_lead(lead_id, responsible_id)

    def delete_lead(self, lead_id: int) -> None:
        """Put a lead into the bin."""
        with self.lock:
            self.crm.delete_lead(lead_id)

    def restore_lead(self, lead_id: int) -> None:
        """Take a lead out of the bin."""
        with self.lock:
            self.crm.restore_lead(lead_id)

    def add_field(self, added: CustomField) -> None:
        """Add a field to leads."""
        with self.lock:
            self.crm.add_field(added)

    # What it sends.

    @property
    def pending(self) -> list[Event]:
        """The events of which no webhook was sent."""
        return self.crm.pending

    def subscribe(self, destination: str, settings: Iterable[str] = SETTINGS) -> Webhook:
        """Add a webhook for some kinds of events, all of leads but notes unless others are named."""
        with self.lock:
            return self.api.subscribe(destination, list(settings))

    def send(self, events: Sequence[Event] | None = None, *, together: bool = False) -> list[Delivery]:
        """Begin to deliver events, all pending ones or those given, to the webhooks that subscribed to them.

        Each goes as often as it is given, in that order, in a body of its own or `together` in one. Returns
        the deliveries after their first attempts; `pass_time` makes the others. To lose an event, remove it
        from `pending`.
        """
        with self.lock:
            chosen = list(self.pending if events is None else events)
            self.pending[:] = [one for one in self.pending if all(one is not sent for sent in chosen)]
        groups = [chosen] if together else [[event] for event in chosen]
        begun = [self.begin(webhook, group) for group in groups for webhook in list(self.api.webhooks)]
        return [one for one in begun if one is not None]

    def begin(self, webhook: Webhook, events: Sequence[Event]) -> Delivery | None:
        """Deliver to one webhook what it subscribed to; None when that is nothing, or it is switched off."""
        wanted = [event for event in events if event.setting in webhook.settings]
        if not wanted:
            return None
        fields = {**self.crm.lead_fields, **self.crm.contact_fields}
        body = webhook_body(self.account, wanted, fields)
        return self.courier.begin(webhook, body, self.account.generation)

    def pass_time(self, span_s: float) -> None:
        """Move the clock on and make, at their moments, the attempts that are due by then."""
        self.courier.pass_time(span_s, self.account.generation)

    def run_pipeline_hook(self, url: str, lead_id: int, old: Lead | None = None) -> int:
        """Let the Digital Pipeline call an address for a lead, once; return the status.

        `old` is the lead before it was moved, as `lead` gave it; None is a lead that was made on this status.
        """
        body = pipeline_body(self.account, self.crm.leads[lead_id], old)
        return self.courier.post(url, body, self.account.generation)

    def lead(self, lead_id: int) -> Lead:
        """Return a lead as it is now, untouched by later changes."""
        with self.lock:
            copied = snapshot(self.crm.leads[lead_id])
        assert isinstance(copied, Lead)
        return copied

    # What it answers.

    def answer(self, request: Request) -> Answer:
        """Answer one call."""
        self.api.writer.base = self.url
        self.api.writer.has_minor_units = self.account.has_minor_units
        try:
            if request.path == "/oauth2/access_token":
                given = {name: as_text(value) for name, value in request.params.items()}
                return Answer(200, json.dumps(self.tokens.exchange(given)).encode(), "application/json")
            if request.path == "/oauth2/account/subdomain":
                self.check_token(request)
                told = self.api.get_subdomain()
                return Answer(told.status, json.dumps(told.body).encode(), "application/json")
            self.let_in(request)
            told = self.api.answer(request)
        except ApiError as refusal:
            self.refused[str(refusal.status)] += 1
            if refusal.status == TIMED_OUT:
                return Answer(TIMED_OUT, b"<html><title>504 Gateway Time-out</title></html>", "text/html")
            return Answer(refusal.status, json.dumps(refusal.body).encode(), "application/problem+json")
        body = b"" if told.body is None else json.dumps(told.body).encode()
        return Answer(told.status, body, "application/hal+json")

    def let_in(self, request: Request) -> None:
        """Raise ApiError for a caller that is blocked, too fast, not paid for, or unknown."""
        if self.is_blocked:
            raise ApiError(403, "Forbidden", "API is blocked for the account")
        if not self.window.let_in():
            self.is_blocked = self.window.refused_in_a_row >= self.patience
            raise ApiError(429, "Too Many Requests")
        if self.is_unpaid:
            raise ApiError(402, "Payment Required", "Account is not paid")
        self.check_token(request)

    def check_token(self, request: Request) -> None:
        """Raise ApiError for a caller whose token is not good."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self.tokens.is_good(token):
            raise ApiError(401, "Unauthorized", "The token has expired or was revoked")
