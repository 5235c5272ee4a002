"""A signed webhook to the owner's own address: Standard Webhooks, every state of every conversion.

The body is documented in docs/reference/webhook.md. Source: docs/protocols/destinations/standard-webhooks.md.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from closedloop.deliver.addresses import address_mistake
from closedloop.deliver.answers import verdict_of, wait_of
from closedloop.deliver.base import Batch
from closedloop.deliver.events import event_of, goal_refused
from closedloop.deliver.fields import OnlyGoals, PrivateAddress, about
from closedloop.deliver.hashing import sha256_of
from closedloop.deliver.one_way import OneWay
from closedloop.domain.conversion import digest_of
from closedloop.domain.delivery import Outcome, Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply, HttpRequest
from closedloop.domain.money import decimal_text
from closedloop.domain.signing import NO_SIGNING_KEY, signature, signing_key

SCHEMA = 1
# The specification's own schedule lasts three days; with the engine's pauses this does, too.
ATTEMPTS = 20
AT_ONCE = 4
TEST_TYPE = "closedloop.test"


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a signed webhook goes, and what it may say."""

    url: Annotated[
        str,
        about(
            "Address",
            "Every event is posted here. Redirects are not followed.",
            example="https://shop.example/hooks/closedloop",
        ),
    ]
    secrets: Annotated[
        tuple[str, ...],
        Meta(min_length=1),
        about(
            "Signing secrets",
            "`whsec_` and base64 of 24 to 64 random bytes, the newest first. While a receiver changes over, "
            "all of them sign.",
            example=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
            secret=True,
        ),
    ]
    only_goals: OnlyGoals = ()
    contacts: Annotated[
        bool,
        about(
            "Hashed contacts",
            "Adds the SHA-256 of phones (`+79001234567`) and e-mails (lower case).",
            example=True,
        ),
    ] = False
    private_address: PrivateAddress = False

    def mistakes(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong with the address and the secrets; shows neither."""
        if problem := address_mistake(self.url, private=self.private_address):
            yield "url", problem
        for at, secret in enumerate(self.secrets):
            if signing_key(secret) is None:
                yield f"secrets[{at}]", NO_SIGNING_KEY


class WebhookData(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of the body: within a version fields are added, never taken away or given another meaning."""

    version: int = SCHEMA
    site: str
    conversion_id: str
    deal_id: str | None
    goal: str
    revision: int
    value: str
    currency: str
    is_cancelled: bool
    occurred_at: datetime
    deal_created_at: datetime | None
    visited_at: datetime | None
    match: str | None
    ids: dict[str, str]
    phones_sha256: list[str] | UnsetType = UNSET
    emails_sha256: list[str] | UnsetType = UNSET


class WebhookBody(msgspec.Struct, frozen=True, kw_only=True):
    """The whole body."""

    type: str
    timestamp: datetime
    data: WebhookData


class Webhook(OneWay):
    """A signed webhook (Standard Webhooks) to an address of your own, for every change of a conversion."""

    name = "webhook"
    settings: type[msgspec.Struct] = WebhookSettings

    def terms(self, settings: WebhookSettings) -> Terms:  # noqa: ARG002
        """Return that the receiver knows a repeated message by its id, and that there is no window."""
        return Terms(repeat_lost_answer=True, attempts=ATTEMPTS, at_once=AT_ONCE)

    def compile(self, sale: Sale, settings: WebhookSettings) -> Sale | Skipped:
        """Return the sale, or that nothing has happened that this receiver does not know."""
        if refused := goal_refused(sale, settings.only_goals):
            return refused
        event = event_of(sale)
        return event if isinstance(event, Skipped) else sale

    def encode(self, batch: Batch, settings: WebhookSettings, now: datetime) -> HttpRequest:
        """Return the signed request for the one sale of the batch; `now` moves the stamp, not the body."""
        sale = batch.sales[0]
        event = event_of(sale)
        kind = "changed" if isinstance(event, Skipped) else event
        body = msgspec.json.encode(
            WebhookBody(
                type=f"conversion.{kind}",
                timestamp=sale.occurred_at.astimezone(UTC),
                data=data_of(sale, with_contacts=settings.contacts),
            )
        )
        return signed(settings, message_id(sale), body, now)

    def decode(self, batch: Batch, reply: HttpReply, settings: WebhookSettings) -> Sequence[Verdict]:  # noqa: ARG002
        """Return confirmed for any 2xx; whatever else came is tried again, except after 410.

        Source: docs/protocols/destinations/standard-webhooks.md, 2.
        """
        return [verdict_of(reply, outcome_of(reply))] * len(batch.sales)

    def check(self, settings: WebhookSettings, now: datetime) -> HttpRequest | None:
        """Return a signed event of the type `closedloop.test`, which tells nothing of anybody."""
        body = msgspec.json.encode(
            {"type": TEST_TYPE, "timestamp": now.astimezone(UTC), "data": {"version": SCHEMA}}
        )
        digest = digest_of("test", settings.url, now.isoformat()).hex()
        return signed(settings, f"msg_{digest}", body, now)

    def judge(self, reply: HttpReply, settings: WebhookSettings) -> Verdict:  # noqa: ARG002
        """Return confirmed for a 2xx; a refusal is shown to the owner as what has to be mended."""
        outcome = outcome_of(reply)
        is_refusal = outcome == Outcome.RETRY_LATER and 300 <= reply.status < 500  # noqa: PLR2004
        return verdict_of(reply, Outcome.CONFIG_BLOCKED if is_refusal else outcome)


def message_id(sale: Sale) -> str:
    """Return `webhook-id`: one for a state of a conversion at a destination, the same on every try.

    A delivery is one conversion at one destination for its whole life.
    """
    parts = ("webhook", str(sale.delivery_id), str(sale.conversion_id), str(sale.revision))
    return f"msg_{digest_of(*parts).hex()}"


def signed(settings: WebhookSettings, message: str, body: bytes, now: datetime) -> HttpRequest:
    """Return the request with one signature for each secret over the bytes that go on the wire."""
    stamp = str(int(now.timestamp()))
    keys = [key for secret in settings.secrets if (key := signing_key(secret)) is not None]
    signatures = [signature(key, message.encode(), stamp.encode(), body).decode() for key in keys]
    return HttpRequest(
        method="POST",
        url=settings.url,
        headers=(
            ("Content-Type", "application/json"),
            ("webhook-id", message),
            ("webhook-timestamp", stamp),
            ("webhook-signature", " ".join(signatures)),
        ),
        body=body,
    )


def data_of(sale: Sale, *, with_contacts: bool) -> WebhookData:
    """Return what is told of a sale; ids are in order, so that the same sale gives the same bytes."""
    return WebhookData(
        site=sale.site,
        conversion_id=str(sale.conversion_id),
        deal_id=sale.deal_id,
        goal=sale.goal,
        revision=sale.revision,
        value=decimal_text(sale.value),
        currency=sale.currency,
        is_cancelled=sale.is_cancelled,
        occurred_at=sale.occurred_at.astimezone(UTC),
        deal_created_at=sale.deal_created_at and sale.deal_created_at.astimezone(UTC),
        visited_at=sale.visited_at and sale.visited_at.astimezone(UTC),
        match=sale.match,
        ids=dict(sorted(sale.ids.items())),
        phones_sha256=[sha256_of(one) for one in sale.phones] if with_contacts else UNSET,
        emails_sha256=[sha256_of(one) for one in sale.emails] if with_contacts else UNSET,
    )


def outcome_of(reply: HttpReply) -> Outcome:
    """Return what an answer means by the specification; 3xx is a failure and is not followed."""
    if 200 <= reply.status < 300:  # noqa: PLR2004
        return Outcome.CONFIRMED
    if reply.status == 410:  # noqa: PLR2004
        return Outcome.CONFIG_BLOCKED
    if reply.status == 429 or (reply.status == 503 and wait_of(reply) is not None):  # noqa: PLR2004
        return Outcome.THROTTLED
    return Outcome.RETRY_LATER
