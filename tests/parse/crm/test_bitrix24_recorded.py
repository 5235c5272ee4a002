"""Every recorded webhook of Bitrix24 gives what its sender meant, and a broken one ends nothing."""

import contextlib
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.money import decimal_text
from closedloop.errors import CallerError, UntrustedError
from closedloop.parse.base import CrmRequest, Trust
from closedloop.parse.crm.bitrix24 import Bitrix24Webhooks, read_messages
from closedloop.parse.crm.hook import HookRequest, read_conversions
from fix_bitrix24 import APPLICATION, MEMBER, NOW, RECORDED, SESSION, TOKEN, YM_UID, recorded

MOSCOW = ZoneInfo("Europe/Moscow")
OWNER = Trust(has_key=True, tokens=[TOKEN, APPLICATION], accounts=[MEMBER])
webhooks = Bitrix24Webhooks(MOSCOW)

# Which deals with which findings, and the goal, value and deal of a conversion.
EXPECTED: dict[str, tuple[dict[str, list[str]], list[tuple[str, str | None, str | None]]]] = {
    "event-deal-update": ({"662": []}, []),
    "event-deal-add-no-handler-id": ({"662": []}, []),
    "event-deal-delete": ({"640": []}, []),
    "event-lead-update": ({}, []),
    "event-dynamic-item-update": ({"DYNAMIC_1032_21": []}, []),
    "app-event-deal-update": ({"662": []}, []),
    "app-event-deal-move-to-category": ({"662": []}, []),
    "app-robot-handler": ({"662": [SESSION]}, []),
    "forged-event-wrong-token": ({"662": []}, []),
    "robot-no-query": ({"662": []}, []),
    "robot-literal-placeholder": ({"662": []}, []),
    "robot-deal-won": ({"662": [SESSION]}, [("payment_success", "5000", "662")]),
    "robot-deal-money-field": ({"662": [SESSION, YM_UID]}, [("payment_success", "5000", "662")]),
    "robot-lead-cyrillic-empty": ({}, [("Лид в работе", None, "LEAD_365")]),
    "robot-smart-process": ({"DYNAMIC_1032_21": [SESSION]}, [("contract_signed", None, "DYNAMIC_1032_21")]),
    "robot-ampersand-in-value": ({"662": [SESSION]}, [("Кофе", "5000", "662")]),
}
FORGED = {"forged-event-wrong-token"}
STRAY = [b"%", b"%F", b"%FF", b"%00", b"%u0430", b"[", b"]", b"[]", b"%5B", b"=", b"&", b"\xff"]
ROBOTS_WITH_A_GOAL = [name for name, (_, conversions) in EXPECTED.items() if conversions]


def shown(told: ReportedConversion) -> tuple[str, str | None, str | None]:
    """Return a conversion as the table of expectations writes it."""
    return told.goal, None if told.value is None else decimal_text(told.value), told.deal_id


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_webhook_is_read_as_its_sender_meant(name: str) -> None:
    """These bytes are what portals really send (tests/recorded/README.md)."""
    reading = webhooks.read(recorded(name))

    notices = {notice.deal_id: [found.value for found in notice.findings] for notice in reading.notices}
    assert (notices, list(map(shown, reading.conversions))) == EXPECTED[name]
    assert {notice.kind for notice in reading.notices} <= {
        "deleted" if name == "event-deal-delete" else "changed"
    }


def test_every_recorded_webhook_has_its_expectation() -> None:
    """A recording without one proves nothing."""
    assert {path.stem for path in RECORDED.glob("*.http")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_webhook_is_believed_unless_it_is_forged(name: str) -> None:
    """The owner has configured both tokens, and a key in the address of robots."""
    request = recorded(name)
    sent_at = read_messages(request)[0].ts or NOW.timestamp()
    request = msgspec.structs.replace(request, received_at=datetime.fromtimestamp(sent_at, UTC))

    with pytest.raises(UntrustedError) if name in FORGED else contextlib.nullcontext():
        webhooks.check(request, OWNER)


@pytest.mark.parametrize("name", ROBOTS_WITH_A_GOAL)
def test_robot_says_to_the_hook_what_it_says_here(name: str) -> None:
    """An owner who moves the address counts every deal once, not twice."""
    request = recorded(name)
    asked = HookRequest(query=request.query, content_type=request.content_type, body=request.body)

    of_the_hook = read_conversions(asked, zone=MOSCOW, now=NOW).conversions

    assert tuple(of_the_hook) == webhooks.read(request).conversions


@st.composite
def broken_requests(draw: st.DrawFn) -> CrmRequest:
    """Give recorded webhooks with what networks, proxies and people do to them."""
    request = recorded(draw(st.sampled_from(sorted(EXPECTED))))
    chance = draw(st.randoms(use_true_random=False))
    query, body = (broken(chance, part, draw(st.integers(0, 5))) for part in (request.query, request.body))
    return msgspec.structs.replace(request, query=query, body=body)


def broken(chance: random.Random, pairs: bytes, times: int) -> bytes:
    """Return a form that was cut, doubled, shuffled, escaped badly, or whose brackets were lost."""
    for _ in range(times):
        parts = pairs.split(b"&")
        place = chance.randrange(len(pairs) + 1)
        match chance.randrange(5):
            case 0:
                pairs = pairs[:place]
            case 1:
                pairs = b"&".join([*parts, *chance.choices(parts, k=3)])
            case 2:
                pairs = b"&".join(chance.sample(parts, len(parts)))
            case 3:
                pairs = pairs[:place] + chance.choice(STRAY) + pairs[place:]
            case _:
                pairs = pairs.replace(chance.choice([b"%5D", b"_", b"=", b"0"]), b"", 1)
    return pairs


@settings(deadline=None)
@given(broken_requests())
def test_broken_webhook_is_read_or_refused(request: CrmRequest) -> None:
    """A loop that reads webhooks must not stop at one."""
    try:
        reading = webhooks.read(request)
    except CallerError:
        return

    assert b"u0000" not in msgspec.json.encode(reading)  # PostgreSQL cannot hold it


@settings(deadline=None)
@given(request=broken_requests(), has_key=st.booleans())
def test_broken_webhook_is_never_believed_without_a_secret(request: CrmRequest, *, has_key: bool) -> None:
    """Whatever becomes of a body, it opens nothing by itself."""
    trust = Trust(has_key=has_key, tokens=["demo-another-token"], accounts=[MEMBER])

    try:
        webhooks.check(request, trust)
    except UntrustedError:
        return

    assert has_key
