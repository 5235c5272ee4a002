"""A fake Bitrix24 portal: its REST API over real HTTP with limits and errors, and the webhooks that it sends.

Source: docs/protocols/bitrix24.md, 6 and what it refers to.
"""

import contextlib
import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Unpack

from platforms.bitrix24_batch import run_batch
from platforms.bitrix24_data import CONTACT, DEAL, LEAD, Crm, Event, Given, Item
from platforms.bitrix24_directories import Params, Result
from platforms.bitrix24_events import Queue
from platforms.bitrix24_fields import iso
from platforms.bitrix24_lists import RestError
from platforms.bitrix24_rest import Methods
from platforms.clocks import Clock, LeakyBuckets
from platforms.faults import Answer
from platforms.forms import Json
from platforms.http import Platform, Request

CODE = "demowebhookcode0"
PATH = re.compile(r"/rest/(\d+)/([^/]+)/([\w.]+?)(?:\.json)?/?")
OPERATING_LIMIT_S = 480
OPERATING_PERIOD_S = 600
BASIC = ("batch", "profile", "scope")


class Bitrix24(Platform):
    """One portal: tests change it through the methods below, and `pending` is what nobody was told of.

    `clock` stands until a test moves it and dates all changes. `buckets` is the limit of calls, whose watch
    may be made faster. `scope` are the webhook's rights. `methods.mode` is 2 for a portal without leads.
    `operating` is how long each method has worked in the last ten minutes, in seconds: from 480 on it is
    refused. `renamed_to` is the address that a renamed portal sends on to.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.crm = Crm(self.clock)
        self.queue = Queue(self.clock)
        self.user_id = 1
        self.code = CODE
        self.scope = {"crm"}
        self.methods = Methods(self.crm, self.scope)
        self.buckets = LeakyBuckets()
        self.operating: dict[str, float] = {}
        self.refusals: dict[str, RestError] = {}
        self.renamed_to: str | None = None
        super().__init__()

    @property
    def webhook_url(self) -> str:
        """The address that the owner copies from the portal, with the secret in it."""
        return f"{self.url}/rest/{self.user_id}/{self.code}/"

    # What a test does as people in the portal would.

    def create(self, type_id: int, **given: Unpack[Given]) -> int:
        """Make an item of any type and return its id."""
        with self.lock:
            return self.crm.create(type_id, **given)

    def change(self, type_id: int, item_id: int, **given: Unpack[Given]) -> None:
        """Change an item of any type."""
        with self.lock:
            self.crm.change(type_id, item_id, **given)

    def delete(self, type_id: int, item_id: int) -> None:
        """Delete an item of any type."""
        with self.lock:
            self.crm.delete(type_id, item_id)

    def create_deal(self, **given: Unpack[Given]) -> int:
        """Make a deal, on the first stage of its funnel unless one is given, and return its id."""
        return self.create(DEAL, **given)

    def create_lead(self, **given: Unpack[Given]) -> int:
        """Make a lead and return its id."""
        return self.create(LEAD, **given)

    def create_contact(self, **given: Unpack[Given]) -> int:
        """Make a contact and return its id."""
        return self.create(CONTACT, **given)

    def change_deal(self, deal_id: int, **given: Unpack[Given]) -> None:
        """Save a deal with other values."""
        self.change(DEAL, deal_id, **given)

    def move_deal(self, deal_id: int, stage_id: str) -> None:
        """Put a deal on a stage; one of another funnel takes it there, of which no webhook tells."""
        self.change(DEAL, deal_id, stage_id=stage_id)

    def delete_deal(self, deal_id: int) -> None:
        """Delete a deal."""
        self.delete(DEAL, deal_id)

    def convert_lead(self, converted_id: int, **given: Unpack[Given]) -> int:
        """Close a lead as good and return the deal made of it; the owner's fields must be given to it."""
        with self.lock:
            lead = self.crm.items[LEAD][converted_id]
            copied: Given = {
                "title": lead.title,
                "opportunity": lead.opportunity,
                "contact_ids": list(lead.contact_ids),
                "utm": dict(lead.utm),
                "lead_id": converted_id,
            }
            self.crm.change(LEAD, converted_id, stage_id="CONVERTED")
            copied.update(given)
            return self.crm.create(DEAL, **copied)

    def merge_deals(self, kept_id: int, absorbed_id: int) -> None:
        """Merge one deal into another: what the kept one lacks comes from the other, which is deleted."""
        with self.lock:
            kept, absorbed = self.deal(kept_id), self.crm.items[DEAL][absorbed_id]
            lacking = {name: value for name, value in absorbed.fields.items() if not kept.fields.get(name)}
            both = [*kept.contact_ids, *absorbed.contact_ids]
            self.crm.delete(DEAL, absorbed_id)
            self.crm.change(DEAL, kept_id, fields=lacking, contact_ids=list(dict.fromkeys(both)))

    def deal(self, deal_id: int) -> Item:
        """Return a deal as it is."""
        return self.crm.items[DEAL][deal_id]

    def one_hit(self) -> AbstractContextManager[None]:
        """Make several changes at once: equal events are merged."""
        return self.crm.one_hit()

    # What it sends.

    @property
    def pending(self) -> list[Event]:
        """The events that nobody was told of."""
        return self.crm.pending

    def send(self, url: str, events: Sequence[Event] | None = None, *, senders: int = 1) -> list[int]:
        """Post events to an address, all pending ones or those given, and return the receiver's statuses.

        Each is sent as often as it is given, in that order, with several `senders` in any; 0 is no answer.
        What was sent is no longer pending, however it was answered: nothing is ever repeated. To lose one,
        remove it from `pending`.
        """
        with self.lock:
            chosen = list(self.pending if events is None else events)
            for event in chosen:
                with contextlib.suppress(ValueError):
                    self.pending.remove(event)
        return self.queue.send(url, chosen, senders)

    def run_robot(self, template: str, item_id: int, type_id: int = DEAL, *, escapes: bool = True) -> int:
        """Let a robot call an address with placeholders, as `…?deal_id={{ID}}&value={=Document:OPPORTUNITY}`.

        Returns the receiver's status. `escapes` is False for older modules, which send the address as it is.
        """
        item = self.crm.items[type_id][item_id]
        return self.queue.run_robot(template, item, self.methods.fields(type_id), escapes=escapes)

    # What it answers.

    def refuse(self, method: str, status: int, error: str, description: str = "") -> None:
        """Refuse a method from now on, also in batches, until `allow`; `*` refuses every call.

        With the status 200 the error stands in the body of a success, as some portals answer.
        """
        self.refusals[method] = RestError(status, error, description)

    def allow(self, method: str) -> None:
        """Take a refusal back."""
        del self.refusals[method]

    def answer(self, request: Request) -> Answer:
        """Answer one call."""
        found = PATH.fullmatch(request.path)
        if self.renamed_to is not None:
            return Answer(302, b"", "text/html", (("Location", self.renamed_to + request.target),))
        if found is None:
            return Answer(404, b"<html>Not found</html>", "text/html")
        try:
            self.let_in(request.sender, int(found[1]), found[2])
            told = self.run(found[3], request.params)
        except RestError as refusal:
            return self.refusal(refusal)
        body: dict[str, Json] = {"result": told.result}
        if told.next is not None:
            body["next"] = told.next
        if told.total is not None:
            body["total"] = told.total
        return written(200, {**body, "time": self.time_of(found[3])})

    def let_in(self, sender: str, user_id: int, code: str) -> None:
        """Raise RestError for a caller that is too fast, unknown, or refused whatever it asks."""
        if not self.buckets.let_in(sender):
            raise RestError(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
        if (user_id, code) != (self.user_id, self.code):
            raise RestError(401, "NO_AUTH_FOUND", "Wrong authorization data")
        if "*" in self.refusals:
            raise self.refusals["*"]

    def refusal(self, refusal: RestError) -> Answer:
        """Return a refusal as an answer, and count it."""
        self.refused[refusal.error or refusal.description] += 1
        return written(refusal.status, {"error": refusal.error, "error_description": refusal.description})

    def run(self, name: str, params: Params) -> Result:
        """Do what a method does; raises RestError."""
        if name in self.refusals:
            raise self.refusals[name]
        if self.operating.get(name, 0) >= OPERATING_LIMIT_S:
            raise RestError(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit")
        if name == "batch":
            return run_batch(params, self.run, self.time_of)
        method = self.methods.table.get(name)
        if method is None:
            raise RestError(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
        if name not in BASIC and name.partition(".")[0] not in self.scope:
            raise RestError(
                403,
                "insufficient_scope",
                "The request requires higher privileges than provided by the webhook token",
            )
        return method(params)

    def time_of(self, method: str) -> Json:
        """Return what an answer says of its time."""
        moment = iso(self.clock.unix)
        return {
            "start": self.clock.unix + 0.1,
            "finish": self.clock.unix + 0.4,
            "duration": 0.3,
            "processing": 0.1,
            "date_start": moment,
            "date_finish": moment,
            "operating_reset_at": self.clock.unix + OPERATING_PERIOD_S,
            "operating": self.operating.get(method, 0),
        }


def written(status: int, body: Json) -> Answer:
    """Return an answer in JSON."""
    return Answer(status, json.dumps(body).encode())
