"""Whom the fake account lets in: good tokens, seven calls a second, and accounts that are paid for."""

from collections.abc import Iterator

import httpx
import pytest

from platforms.amocrm import AmoCrm
from platforms.amocrm_tokens import Tokens

ACCOUNT = "/api/v4/account"


@pytest.fixture
def client(amocrm: AmoCrm) -> Iterator[httpx.Client]:
    """Give a client without a token."""
    with httpx.Client(base_url=amocrm.url, trust_env=False, timeout=10) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    """Return the header that a token goes in."""
    return {"Authorization": f"Bearer {token}"}


def grant(tokens: Tokens, **more: str) -> dict[str, str]:
    """Return what is asked of the token's address."""
    return {
        "client_id": tokens.client_id,
        "client_secret": tokens.client_secret,
        "redirect_uri": tokens.redirect_uri,
        **more,
    }


def refresh(client: httpx.Client, tokens: Tokens, refresh_token: str) -> httpx.Response:
    """Ask for a new pair."""
    told = grant(tokens, grant_type="refresh_token", refresh_token=refresh_token)
    return client.post("/oauth2/access_token", json=told)


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"Authorization": "demo-long-lived-token"}])
def test_call_without_a_good_token_is_unauthorized(
    amocrm: AmoCrm, client: httpx.Client, headers: dict[str, str]
) -> None:
    """The scheme belongs to it."""
    answer = client.get(ACCOUNT, headers=headers)

    assert (answer.status_code, answer.json()["title"]) == (401, "Unauthorized")
    assert answer.headers["content-type"] == "application/problem+json"
    assert amocrm.refused == {"401": 1}


def test_access_token_lives_for_a_day(amocrm: AmoCrm, client: httpx.Client) -> None:
    """By the account's clock, so that a test need not wait."""
    pair = amocrm.tokens.issue()
    amocrm.clock.forward(86_399)
    good = client.get(ACCOUNT, headers=bearer(pair.access_token)).status_code
    amocrm.clock.forward(1)

    expired = client.get(ACCOUNT, headers=bearer(pair.access_token)).status_code

    assert (good, expired) == (200, 401)


def test_refresh_token_is_good_once(amocrm: AmoCrm, client: httpx.Client) -> None:
    """A client that loses the answer has lost the account, until the owner connects it again."""
    pair = amocrm.tokens.issue()
    amocrm.tokens.expire()

    first = refresh(client, amocrm.tokens, pair.refresh_token)
    second = refresh(client, amocrm.tokens, pair.refresh_token)

    assert (first.status_code, first.json()["token_type"], first.json()["expires_in"]) == (
        200,
        "Bearer",
        86_400,
    )
    assert client.get(ACCOUNT, headers=bearer(first.json()["access_token"])).status_code == 200
    assert (second.status_code, second.json()["hint"]) == (401, "Token has been revoked")


def test_lost_answer_has_used_the_token_up(amocrm: AmoCrm, client: httpx.Client) -> None:
    """The worst moment for a connection to break."""
    pair = amocrm.tokens.issue()
    amocrm.faults.drop("/oauth2/", done=True)

    with pytest.raises(httpx.RemoteProtocolError):
        refresh(client, amocrm.tokens, pair.refresh_token)

    assert refresh(client, amocrm.tokens, pair.refresh_token).status_code == 401


def test_refreshing_ends_the_old_access_token(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Two processes with one pair push each other out."""
    pair = amocrm.tokens.issue()
    refresh(client, amocrm.tokens, pair.refresh_token)

    assert client.get(ACCOUNT, headers=bearer(pair.access_token)).status_code == 401


def test_refresh_token_dies_after_three_months(amocrm: AmoCrm, client: httpx.Client) -> None:
    """An installation that slept that long must be connected again."""
    pair = amocrm.tokens.issue()
    amocrm.clock.forward(90 * 86_400)

    assert refresh(client, amocrm.tokens, pair.refresh_token).status_code == 401


@pytest.mark.parametrize(("age_s", "status"), [(20 * 60 - 1, 200), (20 * 60, 400)])
def test_code_lives_for_twenty_minutes(amocrm: AmoCrm, client: httpx.Client, age_s: int, status: int) -> None:
    """The owner who was interrupted begins anew; forms are taken as well as JSON."""
    code = amocrm.tokens.make_code()
    amocrm.clock.forward(age_s)

    told = grant(amocrm.tokens, grant_type="authorization_code", code=code)

    assert client.post("/oauth2/access_token", data=told).status_code == status
    assert client.post("/oauth2/access_token", data=told).status_code == 400


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"client_secret": "x"}, 401), ({"redirect_uri": "https://x.example"}, 400), ({"grant_type": "x"}, 400)],
)
def test_foreign_integration_gets_no_token(
    amocrm: AmoCrm, client: httpx.Client, wrong: dict[str, str], status: int
) -> None:
    """A mistake in the set-up does not use the token up."""
    pair = amocrm.tokens.issue()
    told = grant(amocrm.tokens, grant_type="refresh_token", refresh_token=pair.refresh_token)

    answer = client.post("/oauth2/access_token", json={**told, **wrong})

    assert answer.status_code == status
    assert refresh(client, amocrm.tokens, pair.refresh_token).status_code == 200


def test_removed_integration_has_no_good_token(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Nothing helps but the owner."""
    pair = amocrm.tokens.issue()
    long_lived = amocrm.tokens.long_lived
    amocrm.tokens.revoke()

    statuses = [client.get(ACCOUNT, headers=bearer(token)).status_code for token in (*pair, long_lived)]

    assert statuses == [401] * 3
    assert refresh(client, amocrm.tokens, pair.refresh_token).status_code == 401


def test_eighth_call_in_a_second_is_too_many(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Nothing says how long to wait."""
    headers = bearer(amocrm.tokens.long_lived)
    amocrm.window.watch.speed = 0
    answers = [client.get(ACCOUNT, headers=headers) for _ in range(9)]
    amocrm.window.watch.speed = 1e6

    later = client.get(ACCOUNT, headers=headers)

    assert [answer.status_code for answer in answers] == [200] * 7 + [429] * 2
    assert "retry-after" not in answers[-1].headers
    assert (later.status_code, amocrm.refused) == (200, {"429": 2})


def test_account_is_blocked_when_it_goes_on(amocrm: AmoCrm, client: httpx.Client) -> None:
    """Then nothing helps but the vendor's support."""
    headers = bearer(amocrm.tokens.long_lived)
    amocrm.window.watch.speed, amocrm.patience = 0, 5
    for _ in range(7 + 5):
        client.get(ACCOUNT, headers=headers)
    amocrm.window.watch.speed = 1e6

    blocked = client.get(ACCOUNT, headers=headers).status_code
    amocrm.is_blocked = False

    assert (blocked, amocrm.refused) == (403, {"429": 5, "403": 1})
    assert client.get(ACCOUNT, headers=headers).status_code == 200


def test_unpaid_account_says_so(amocrm: AmoCrm, client: httpx.Client) -> None:
    """The owner is told to pay, not to look for a mistake."""
    amocrm.is_unpaid = True

    answer = client.get(ACCOUNT, headers=bearer(amocrm.tokens.long_lived))

    assert (answer.status_code, answer.json()["title"]) == (402, "Payment Required")
