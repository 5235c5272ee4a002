"""The access token of amoCRM: the long-lived one, or one by OAuth that is renewed by one process at a time.

A refresh token works once: the new pair is kept durably before anybody uses it, and one that was asked for is
waited for even when the process ends.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import AsyncConnection

from closedloop.domain.exchange import Request
from closedloop.errors import ClosedloopError, CrmAwayError, CrmRefusedError
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
STOP_S = 10.0
FAILED = 400
REFUSED = {400, 401, 403}


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What amoCRM answers (docs/protocols/amocrm.md, 3); `expires_in` in seconds.

    `first` is ours: the configured refresh token that it comes from. With another one in the configuration it
    counts no longer, since the integration was installed anew.
    """

    access_token: str
    refresh_token: str
    expires_in: int = 86400
    first: str = ""


class AmoToken:
    """Gives the header of authorization for one account."""

    def __init__(self, site: str, settings: AmoCrm, outbound: "Outbound", pool: Pool, sealer: Sealer) -> None:
        self.site = site
        self.settings = settings
        self.outbound = outbound
        self.pool = pool
        self.sealer = sealer
        self.present: tuple[str, datetime] | None = None
        # A pair that the database did not take: the refresh token before it is used up.
        self.unkept: tuple[Pair, datetime] | None = None
        self.renewing: asyncio.Task[tuple[str, datetime]] | None = None

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
        self.renewing = asyncio.create_task(self.renewed(refused))
        self.present = present = await asyncio.shield(self.renewing)
        return present[0]

    async def close(self) -> None:
        """Wait for a pair that was asked for: amoCRM gives it once."""
        if self.renewing is not None:
            with contextlib.suppress(ClosedloopError, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self.renewing

    async def renewed(self, refused: str | None) -> tuple[str, datetime]:
        """Return the token that another process has got meanwhile, or a new one."""
        async with borrowed(self.pool) as conn:
            kept = await read_token(conn, self.site, CRM)
            if kept is None or not self.is_good(kept, refused):
                async with conn.transaction():
                    kept = await lock_token(conn, self.site, CRM)
                    if not self.is_good(kept, refused):
                        kept = await self.replaced(conn, kept)
        self.unkept = None
        return self.opened(kept).access_token, kept.expires_at

    async def replaced(self, conn: AsyncConnection[Any], kept: SealedToken) -> SealedToken:
        """Put a new pair in the place of the one that is kept; the caller holds its lock."""
        if self.unkept is None:
            pair = await self.ask(self.refresh_token(kept))
            self.unkept = pair, clock.now() + timedelta(seconds=pair.expires_in)
        pair, expires_at = self.unkept
        token = SealedToken(sealed=self.sealer.seal(msgspec.json.encode(pair)), expires_at=expires_at)
        await put_token(conn, self.site, CRM, token)
        return token

    def is_good(self, kept: SealedToken, refused: str | None) -> bool:
        """Return whether a kept token is valid, of this installation, and not the one that was refused."""
        if not kept.sealed or kept.expires_at - MARGIN <= clock.now():
            return False
        pair = self.opened(kept)
        return pair.first == self.settings.refresh_token and pair.access_token != refused

    def refresh_token(self, kept: SealedToken) -> str:
        """Return the refresh token that was not used yet: at first the configured one."""
        first = self.settings.refresh_token or ""
        pair = self.opened(kept) if kept.sealed else None
        return pair.refresh_token if pair is not None and pair.first == first else first

    def opened(self, kept: SealedToken) -> Pair:
        """Return the pair as it was kept."""
        return msgspec.json.decode(self.sealer.open(kept.sealed), type=Pair)

    async def ask(self, refresh_token: str) -> Pair:
        """Return a new pair for a refresh token, which is then used up."""
        settings = self.settings
        request = Request(
            method="POST",
            path="oauth2/access_token",
            body={
                "client_id": settings.client_id,
                "client_secret": settings.client_secret,
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "redirect_uri": settings.redirect_uri,
            },
        )
        reply = await self.outbound.send(settings.base_url or "", request, {})
        if reply.status in REFUSED:
            raise CrmRefusedError(
                "amoCRM does not take the refresh token: install the integration anew and put its token into "
                "amocrm.refresh_token; client_id, client_secret and redirect_uri have to be its own, too"
            )
        if reply.status >= FAILED:
            raise CrmAwayError(f"amoCRM answered {reply.status} when a token was asked for")
        try:
            pair = msgspec.json.decode(reply.body, type=Pair)
        except msgspec.MsgspecError as error:
            raise CrmAwayError("amoCRM's answer has no pair of tokens in it") from error
        return msgspec.structs.replace(pair, first=settings.refresh_token or "")
