"""One webhook on its way into the ledger: what the writer queues, and what the spool keeps of it."""

from collections.abc import Sequence

import msgspec

from closedloop.domain.conversion import Conversion
from closedloop.domain.lead import Lead
from closedloop.store.inbox import KeptWebhook


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook and what was read from it, conversions or a lead: all is recorded before it is answered."""

    site: str
    webhook: KeptWebhook
    conversions: Sequence[Conversion] = ()
    lead: Lead | None = None

    def to_bytes(self) -> bytes:
        """Return the unit as the spool keeps it."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, kept: bytes) -> "Unit":
        """Return the unit that `to_bytes` was given."""
        return msgspec.msgpack.decode(kept, type=cls)
