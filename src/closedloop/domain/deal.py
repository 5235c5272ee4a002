"""What a CRM says of one deal at one moment, and what of it leads back to a visitor."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

Outcome = Literal["open", "won", "lost"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One identifier of the visitor and where in the CRM it stood: the journal shows both.

    `kind` is session_id, ym_uid, ta_code, phone, email, or the name of a click id.
    """

    kind: str
    value: str
    place: str  # "deal 662, UF_CRM_SESSION", "lead 365, comment", "contact 84, PHONE"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that the deal entered."""

    funnel: str
    stage: str
    at: datetime


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """One deal as its CRM shows it now.

    `deal_id` is what the hook calls it too: `662`, or `DYNAMIC_1032_21` for another object of Bitrix24.
    `changed_at` is the CRM's own word for the moment of the last change: of two tellings the later counts.
    """

    crm: str  # bitrix24, amocrm
    deal_id: str
    title: str = ""
    funnel: str = ""
    stage: str = ""
    outcome: Outcome = "open"
    passed: tuple[
        str, ...
    ] = ()  # the stages that it has reached: its own, those before it, and all of `steps`
    is_qualified: bool = False  # one of them is beyond the first of the funnel and is not the lost one
    value: Decimal | None = None  # None: not told, which is not zero
    currency: str | None = None  # ISO 4217
    fields: Mapping[str, str] = {}  # what a goal's value may come from, by id, code and name
    created_at: datetime | None = None
    changed_at: datetime
    closed_at: datetime | None = None  # when it was won or lost, None while it is open
    steps: tuple[Step, ...] = ()  # as far as the CRM tells, oldest first
    findings: tuple[Finding, ...] = ()  # by certainty of the place, best first
    is_deleted: bool = False
