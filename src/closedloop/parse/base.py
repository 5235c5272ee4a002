"""What an adapter of a CRM is: webhooks to read, requests to ask, replies to read; plain values, no I/O."""

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, TypeVar

import msgspec

from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.deal import Deal, Finding
from closedloop.domain.exchange import Reply, Request

Result = TypeVar("Result")


class CrmRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook as the inbox keeps it: the raw query without the site's key, the body as it came."""

    query: bytes = b""
    content_type: str = ""
    body: bytes = b""
    received_at: datetime


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook is believed by: whether the site's key came with it, and what its owner configured."""

    has_key: bool
    tokens: Sequence[str] = ()  # Bitrix24: application tokens
    accounts: Sequence[str] = ()  # Bitrix24: member_id; amoCRM: account id and subdomain


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What one webhook says of one deal.

    `deal` is the deal as far as the webhook itself shows it, for an owner whose CRM cannot be asked; None
    when it shows nothing. `findings` are what the webhook adds to what the CRM will say when asked.
    """

    deal_id: str
    kind: Literal["changed", "deleted"]
    deal: Deal | None = None
    findings: tuple[Finding, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one webhook says: notices of deals, and conversions that it reports in the hook's own keys."""

    notices: Sequence[Notice] = ()
    conversions: Sequence[ReportedConversion] = ()


class Webhooks(Protocol):
    """How to read the webhooks of one CRM."""

    name: str
    max_bytes: int

    def check(self, request: CrmRequest, trust: Trust) -> None:
        """Raise UntrustedError for a webhook that is forged, of a foreign account, or stale.

        A body that cannot be read is nobody's forgery: it passes when the key came with the request.
        """
        ...

    def read(self, request: CrmRequest) -> Reading:
        """Return what a webhook says; nothing when it is about nothing of ours. Raises CallerError."""
        ...


# A conversation: yields requests, is sent the reply to each, returns what it was about.
Conversation: TypeAlias = Generator[Request, Reply, Result]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a reply is not a success, and what follows: `again`, `slower`, `token`, `owner` or `gone`.

    `again`: the same later; `slower`: too many calls; `token`: the access token has expired; `owner`: nothing
    helps but a person, whom `sentence` tells what to do; `gone`: this one object is not there.
    """

    kind: str
    sentence: str
    wait_s: float = 0


class DealPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some changed deals, and the cursor from which the sweep goes on; `is_last` when all have been read."""

    deals: Sequence[Deal]
    cursor: str
    is_last: bool
    total: int | None = None  # how many the whole sweep has, if the CRM says so


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that `doctor` looked at in a CRM: right or not, in a sentence that says what to do."""

    name: str  # connection, rights, stages, session field…
    is_ok: bool
    sentence: str


class CrmApi(Protocol):
    """How to ask one CRM; one object for each site, which may remember funnels and names of fields.

    Every method is a conversation: whoever holds the connection sends the requests, keeps the rate and
    the token, repeats what `refusal` says may be repeated, and sends back only successes.
    """

    name: str
    calls_per_second: float
    burst: int

    def refusal(self, request: Request, reply: Reply) -> Refusal | None:
        """Return why a reply is no success, None when it is one; looks at status and body."""
        ...

    def read_deals(self, deal_ids: Sequence[str]) -> Conversation[Mapping[str, Deal | None]]:
        """Return each deal as it is now, with what leads back to its visitor; None for one that is gone."""
        ...

    def first_cursor(self, since: datetime) -> str:
        """Return the cursor of a sweep over the deals that changed at `since` or later."""
        ...

    def changed_deals(self, cursor: str) -> Conversation[DealPage]:
        """Return the next changed deals. No deal is passed over, whatever changes or vanishes meanwhile."""
        ...

    def check(self) -> Conversation[Sequence[Check]]:
        """Return what `doctor` shows: connection, rights, stages, the field of the session."""
        ...

    def write_fields(self, deal_id: str, fields: Mapping[str, str]) -> Conversation[None]:
        """Put texts into fields of a deal, named as the owner configured them."""
        ...
