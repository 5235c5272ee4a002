"""The access token of amoCRM: the long-lived one, or one by OAuth that is renewed by one process at a time.

A refresh token works once: the new pair is kept durably before anybody uses it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from closedloop.domain.exchange import Request
from closedloop.errors import CrmAwayError, CrmRefusedError
from closedloop.settings import AmoCrm
from closedloop.stages import clock
from closedloop.stages.dealbook import Pool
from closedloop.store.crm_tokens import SealedToken, lock_token, put_token, read_token
from closedloop.store.database import borrowed
from closedloop.store.sealed import Sealer

if TYPE_CHECKING:
    from closedloop.outbound import Outbound  # it takes some megabytes that a server without a CRM can spare

CRM = "amocrm"
# Renewed so much earlier than it expires.
MARGIN = timedelta(minutes=5)
FAILED = 400
REFUSED = {400, 401, 403}


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What amoCRM answers (docs/protocols/amocrm.md, 3); `expires_in` in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int = 86400


class AmoToken:
    """Gives the header of authorization for one account."""

    def __init__(self, site: str, settings: AmoCrm, outbound: "Outbound", pool: Pool, sealer: Sealer) -> None:
        self.site = site
        self.settings = settings
        self.outbound = outbound
        self.pool = pool
        self.sealer = sealer
        self.present: tuple[str, datetime] | None = None

    async def __call__(self, renew: bool) -> Mapping[str, str]:  # noqa: FBT001 - the shape of Authorize
        """Return the header; with `renew` the token that was used before is known to be refused."""
        return {"Authorization": f"Bearer {await self.token(renew=renew)}"}

    async def token(self, *, renew: bool) -> str:
        """Return a token that is valid as far as can be known. Raises CrmRefusedError, CrmAwayError."""
        if self.settings.refresh_token is None:
            if renew or not self.settings.access_token:
                raise CrmRefusedError(
                    "amoCRM does not take the access token: make a new one in the integration's settings"
                )
            return self.settings.access_token
        refused = self.present[0] if renew and self.present is not None else None
        if refused is None and self.present is not None and self.present[1] - MARGIN > clock.now():
            return self.present[0]
        self.present = await self.renewed(refused)
        return self.present[0]

    async def renewed(self, refused: str | None) -> tuple[str, datetime]:
        """Return the token that another process has got meanwhile, or a new one."""
        async with borrowed(self.pool) as conn:
            kept = await read_token(conn, self.site, CRM)
            if kept is not None and self.is_good(kept, refused):
                return self.opened(kept).access_token, kept.expires_at
            async with conn.transaction():
                kept = await lock_token(conn, self.site, CRM)
                if kept.sealed and self.is_good(kept, refused):
                    return self.opened(kept).access_token, kept.expires_at
                pair = await self.ask(self.opened(kept).refresh_token if kept.sealed else None)
                expires_at = clock.now() + timedelta(seconds=pair.expires_in)
                sealed = self.sealer.seal(msgspec.json.encode(pair))
                await put_token(conn, self.site, CRM, SealedToken(sealed=sealed, expires_at=expires_at))
        return pair.access_token, expires_at

    def is_good(self, kept: SealedToken, refused: str | None) -> bool:
        """Return whether a kept token is still valid and is not the one that was refused."""
        return kept.expires_at - MARGIN > clock.now() and self.opened(kept).access_token != refused

    def opened(self, kept: SealedToken) -> Pair:
        """Return the pair as amoCRM gave it."""
        return msgspec.json.decode(self.sealer.open(kept.sealed), type=Pair)

    async def ask(self, refresh_token: str | None) -> Pair:
        """Return a new pair for the refresh token, at first for the configured one."""
        settings = self.settings
        request = Request(
            method="POST",
            path="oauth2/access_token",
            body={
                "client_id": settings.client_id,
                "client_secret": settings.client_secret,
                "grant_type": "refresh_token",
                "refresh_token": refresh_token or settings.refresh_token,
                "redirect_uri": settings.redirect_uri,
            },
        )
        reply = await self.outbound.send(settings.base_url or "", request, {})
        if reply.status in REFUSED:
            raise CrmRefusedError(
                "amoCRM does not take the refresh token: install the integration anew and configure its token"
            )
        if reply.status >= FAILED:
            raise CrmAwayError(f"amoCRM answered {reply.status} when a token was asked for")
        try:
            return msgspec.json.decode(reply.body, type=Pair)
        except msgspec.MsgspecError as error:
            raise CrmAwayError("amoCRM's answer has no pair of tokens in it") from error
