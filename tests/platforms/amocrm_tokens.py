"""amoCRM's tokens: one that lives for years, and pairs of which each refreshing gives a new one, once.

Source: docs/protocols/amocrm.md, 3; the errors are those that public threads on the official library show.
"""

from typing import NamedTuple

from platforms.clocks import Clock
from platforms.forms import Json

ACCESS_S = 86_400
REFRESH_S = 90 * 86_400
CODE_S = 20 * 60


class ApiError(Exception):
    """A refusal, answered as `application/problem+json`."""

    def __init__(self, status: int, title: str, detail: str = "", **more: Json) -> None:
        super().__init__(status, title)
        self.status = status
        self.body: dict[str, Json] = {
            **more,
            "title": title,
            "type": f"https://httpstatus.es/{status}",
            "status": status,
            "detail": detail,
        }


class Pair(NamedTuple):
    """What an integration holds."""

    access_token: str
    refresh_token: str


class Tokens:
    """Who may call: `long_lived`, and the pairs that were given out, by the account's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.client_id = "demo-client"
        self.client_secret = "demo-client-secret"  # noqa: S105 - invented
        self.redirect_uri = "https://collector.example/amocrm"
        self.long_lived = "demo-long-lived-token"
        self.number = 0
        self.access: dict[str, int] = {}
        self.refresh: dict[str, tuple[int, str]] = {}
        self.codes: dict[str, int] = {}

    def issue(self) -> Pair:
        """Give out a pair."""
        self.number += 1
        pair = Pair(f"demo-access-{self.number}", f"demo-refresh-{self.number}")
        self.access[pair.access_token] = self.clock.unix + ACCESS_S
        self.refresh[pair.refresh_token] = (self.clock.unix + REFRESH_S, pair.access_token)
        return pair

    def make_code(self) -> str:
        """Give out a code of authorization, good for twenty minutes and once."""
        self.number += 1
        code = f"demo-code-{self.number}"
        self.codes[code] = self.clock.unix + CODE_S
        return code

    def expire(self) -> None:
        """Let all access tokens expire now; their refresh tokens stay good."""
        self.access = dict.fromkeys(self.access, self.clock.unix)

    def revoke(self) -> None:
        """Take all tokens back, as when the owner removes the integration."""
        self.access.clear()
        self.refresh.clear()
        self.long_lived = ""

    def is_good(self, token: str) -> bool:
        """Return whether a call may be made with a token."""
        if token and token == self.long_lived:
            return True
        return self.access.get(token, 0) > self.clock.unix

    def exchange(self, given: dict[str, str]) -> dict[str, Json]:
        """Return a new pair for a code or a refresh token, which is then used up; raises ApiError."""
        if (given.get("client_id"), given.get("client_secret")) != (self.client_id, self.client_secret):
            raise refused("Client authentication failed")
        if given.get("redirect_uri") != self.redirect_uri:
            raise refused("Redirect URI is wrong", 400)
        if given.get("grant_type") == "authorization_code":
            if self.codes.pop(given.get("code", ""), 0) <= self.clock.unix:
                raise refused("Authorization code has expired", 400)
        elif given.get("grant_type") == "refresh_token":
            until, access = self.refresh.pop(given.get("refresh_token", ""), (0, ""))
            if until <= self.clock.unix:
                raise refused("Token has been revoked")
            self.access.pop(access, None)
        else:
            raise refused("Check the `grant_type` parameter", 400)
        pair = self.issue()
        return {
            "token_type": "Bearer",
            "expires_in": ACCESS_S,
            "server_time": self.clock.unix,
            **pair._asdict(),
        }


def refused(hint: str, status: int = 401) -> ApiError:
    """Return a refusal of the token's address."""
    return ApiError(status, "Bad request", "The request lacks parameters, or they are invalid", hint=hint)
