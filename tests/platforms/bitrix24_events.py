"""What Bitrix24 sends: events of outgoing webhooks and the calls of robots, each once and never again.

Source: docs/protocols/bitrix24.md, 2 and 3; tests/recorded/bitrix24 has the same bytes.
"""

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import repeat
from urllib.parse import quote, urlsplit

from platforms.bitrix24_data import CONTACT, DEAL, FIRST_SMART_PROCESS, LEAD, Event, Item
from platforms.bitrix24_fields import Field, written
from platforms.clocks import Clock, Stopwatch
from platforms.forms import as_text, write_form
from platforms.sender import Reply, post, target_of

USER_AGENT = "Bitrix24 Webhook Engine"
CLASSES = {
    LEAD: ("CCrmDocumentLead", "LEAD"),
    DEAL: ("CCrmDocumentDeal", "DEAL"),
    CONTACT: ("CCrmDocumentContact", "CONTACT"),
}
SMART_CLASS = r"Bitrix\Crm\Integration\BizProc\Document\Dynamic"
# PHP's `parse_url` puts something else in their place.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PLACEHOLDER = re.compile(r"\{\{=Document:(\w+)\}\}|\{=Document:(\w+)\}|\{\{(\w+)\}\}")


@dataclass
class Queue:
    """The vendor's queue that sends for a portal; it never repeats a call.

    A receiver that takes longer than `slow_after_s` is called less often: the same time passes, by `watch`,
    before the next call. Nobody has published how long a call may take; `wait_s` ends it here.
    `money` is how a placeholder prints the sum: the portal's format decides, as in `{amount:.0f}|{currency}`.
    """

    clock: Clock
    domain: str = "alfa.b24.example"
    member_id: str = "00112233445566778899aabbccddeeff"
    application_token: str = "demoapplicationtoken000000000001"  # noqa: S105 - invented
    has_handler_ids: bool = True
    slow_after_s: float = 1.0
    wait_s: float = 30.0
    money: str = "{amount:.2f}"
    watch: Stopwatch = field(default_factory=Stopwatch)
    handler_ids: dict[str, int] = field(default_factory=dict[str, int])
    pauses: list[float] = field(default_factory=list[float])

    def send(self, url: str, events: list[Event], senders: int) -> list[int]:
        """Post events, in their order if by one sender, and return the statuses in that of the events."""
        if senders == 1:
            return [self.send_one(url, event) for event in events]
        with ThreadPoolExecutor(senders) as pool:
            return list(pool.map(self.send_one, repeat(url), events))

    def send_one(self, url: str, event: Event) -> int:
        """Post one event."""
        return self.post(url, target_of(url), self.event_body(event))

    def event_body(self, event: Event) -> bytes:
        """Return an event as an outgoing webhook has it, of older days without the handler's id."""
        pairs = [("event", event.name)]
        if self.has_handler_ids:
            number = self.handler_ids.setdefault(event.name, 17 + len(self.handler_ids))
            pairs.append(("event_handler_id", str(number)))
        pairs.append(("data[FIELDS][ID]", str(event.id)))
        if event.type_id >= FIRST_SMART_PROCESS:
            pairs.append(("data[FIELDS][ENTITY_TYPE_ID]", str(event.type_id)))
        pairs.append(("ts", str(self.clock.unix)))
        return write_form([*pairs, *self.auth(), ("auth[application_token]", self.application_token)])

    def auth(self) -> list[tuple[str, str]]:
        """Return the four values that every call has, and that prove nothing."""
        return [
            ("auth[domain]", self.domain),
            ("auth[client_endpoint]", f"https://{self.domain}/rest/"),
            ("auth[server_endpoint]", "https://oauth.b24.example/rest/"),
            ("auth[member_id]", self.member_id),
        ]

    def run_robot(self, template: str, item: Item, fields: list[Field], *, escapes: bool) -> int:
        """Post as a robot whose address is `template`; `escapes` is whether its module is a present one."""
        url = self.filled(template, item, {one.upper: one for one in fields})
        place = urlsplit(url)
        target = f"{place.path or '/'}?{place.query}" if place.query else place.path or "/"
        target = urn_encoded(target) if escapes else target_of(url)
        document, start = CLASSES.get(item.type_id, (SMART_CLASS, f"DYNAMIC_{item.type_id}"))
        pairs = enumerate(["crm", document, f"{start}_{item.id}"])
        body = write_form([*((f"document_id[{index}]", part) for index, part in pairs), *self.auth()])
        return self.post(url, target, body)

    def post(self, url: str, target: str, body: bytes) -> int:
        """Post a form; the receiver that was slow gets a pause."""
        headers = [
            ("User-Agent", USER_AGENT),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(body))),
        ]
        reply: Reply = post(url, target, headers, body, self.wait_s)
        if reply.took_s >= self.slow_after_s:
            self.pauses.append(reply.took_s)
            time.sleep(reply.took_s / self.watch.speed)
        return reply.status

    def filled(self, template: str, item: Item, fields: Mapping[str, Field]) -> str:
        """Return an address with its placeholders filled in; one of an unknown field stays as text."""

        def value(found: re.Match[str]) -> str:
            known = fields.get(found[1] or found[2] or found[3])
            return found[0] if known is None else printed(known, item, self.money)

        return CONTROL.sub("_", PLACEHOLDER.sub(value, template))


def printed(known: Field, item: Item, money: str) -> str:
    """Return a field as a placeholder prints it: money and dates in the portal's own form."""
    value = known.read(item)
    if isinstance(value, Decimal):
        return money.format(amount=value, currency=item.currency)
    if known.kind == "datetime" and isinstance(value, int):
        year, month, day, clock = re.split(r"[-T]", as_text(written(known, item, is_classic=True))[:19])
        return f"{day}.{month}.{year} {clock}"
    return as_text(written(known, item, is_classic=True))


def urn_encoded(target: str) -> str:
    """Return path and query as `Uri::urnEncode` makes them: what stands between `/ ? = &` is escaped."""
    parts = re.split(r"(://|:\d+/|/|\?|=|&)", target)
    return "".join(part if index % 2 else quote(part, safe="-_.~") for index, part in enumerate(parts))
