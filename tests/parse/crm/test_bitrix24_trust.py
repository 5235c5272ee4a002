"""A webhook of Bitrix24 is believed by its token or the site's key, of the right portal and of now."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from closedloop.errors import UntrustedError
from closedloop.parse.base import Trust
from closedloop.parse.crm.bitrix24 import Bitrix24Webhooks
from fix_bitrix24 import DEAL, MEMBER, NOW, TOKEN, event, request

KEYED = Trust(has_key=True)
webhooks = Bitrix24Webhooks(ZoneInfo("Europe/Moscow"))


def refusal(body: dict[str, str] | bytes, trust: Trust, *, later_s: float = 0) -> str | None:
    """Return as what a webhook is refused, None when it is believed."""
    try:
        webhooks.check(request(body, received_at=NOW + timedelta(seconds=later_s)), trust)
    except UntrustedError as error:
        return error.kind
    return None


@pytest.mark.parametrize(
    ("token", "tokens", "has_key", "kind"),
    [
        (TOKEN, [TOKEN], False, None),
        (TOKEN, ["other", TOKEN], False, None),
        (TOKEN, ["other"], False, "forged"),
        (TOKEN, ["other"], True, "forged"),
        (TOKEN, [], True, None),
        (TOKEN, [], False, "forged"),
        (TOKEN, [""], False, "forged"),
        ("токен", [TOKEN], True, "forged"),
        ("undefined", [TOKEN], True, None),
        ("undefined", [TOKEN], False, "forged"),
        ("undefined", ["undefined"], False, "forged"),
        ("", [""], False, "forged"),
    ],
)
def test_event_is_believed_by_its_token_or_the_key(
    token: str, tokens: list[str], *, has_key: bool, kind: str | None
) -> None:
    """A wrong token is forged even beside the right key, which may have leaked with a log of addresses."""
    trust = Trust(has_key=has_key, tokens=tokens)

    assert refusal(event(auth__application_token=token), trust) == kind


@pytest.mark.parametrize(("has_key", "kind"), [(True, None), (False, "forged")])
def test_robot_is_believed_by_the_key_alone(*, has_key: bool, kind: str | None) -> None:
    """It carries no token, and what it does carry is known to anybody."""
    trust = Trust(has_key=has_key, tokens=[TOKEN], accounts=[MEMBER])

    assert refusal(DEAL | {"auth[member_id]": MEMBER}, trust) == kind


@pytest.mark.parametrize(
    ("member", "accounts", "kind"),
    [
        (MEMBER, [MEMBER], None),
        (MEMBER.upper(), ["x", MEMBER], None),
        ("ff", [MEMBER], "foreign"),
        ("ff", [], None),
        ("undefined", [MEMBER], None),
    ],
)
def test_portal_must_be_the_configured_one(member: str, accounts: list[str], kind: str | None) -> None:
    """Deal 662 of another portal is another deal."""
    assert refusal(event(auth__member_id=member), Trust(has_key=True, accounts=accounts)) == kind


@pytest.mark.parametrize(
    ("later_s", "kind"), [(0, None), (3600, None), (3601, "stale"), (-3600, None), (-3601, "stale")]
)
def test_event_sent_over_an_hour_ago_is_stale(later_s: float, kind: str | None) -> None:
    """Nothing is ever sent again, so it was recorded by somebody, or a clock is wrong."""
    assert refusal(event(), KEYED, later_s=later_s) == kind


@pytest.mark.parametrize("ts", ["undefined", "", "yesterday", "9" * 20])
def test_unreadable_moment_is_no_reason_to_lose_a_deal(ts: str) -> None:
    """Whoever knows the token could write any moment anyway."""
    assert refusal(event(ts=ts), KEYED) is None


@pytest.mark.parametrize("body", [b"", b"{", b"hello=1", b"event=%FF"])
def test_unreadable_body_is_believed_with_the_key(body: bytes) -> None:
    """It is kept for the owner to see, if it came by the owner's address."""
    assert refusal(body, Trust(has_key=True, tokens=[TOKEN])) is None
    assert refusal(body, Trust(has_key=False, tokens=[TOKEN])) == "forged"


def test_every_event_of_a_body_is_judged() -> None:
    """One right token must not open for what stands beside it."""
    both = {"0[event]": "ONCRMDEALADD", "1[event]": "ONCRMDEALADD"}
    trust = Trust(has_key=False, tokens=[TOKEN])

    assert refusal(both | {"auth[application_token]": TOKEN}, trust) is None
    assert refusal(both | {"0[auth][application_token]": TOKEN}, trust) == "forged"


def test_refusal_never_shows_a_secret() -> None:
    """Its sentence goes to logs and answers."""
    with pytest.raises(UntrustedError) as caught:
        webhooks.check(request(event()), Trust(has_key=False, tokens=["demosecret"]))

    assert TOKEN not in str(caught.value)
    assert "demosecret" not in str(caught.value)
