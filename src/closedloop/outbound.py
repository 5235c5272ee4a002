"""The only HTTP client: timeouts, no redirects, private addresses refused, nothing secret in an error."""

import ipaddress
import json
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CrmAwayError, OperatorError

CONNECT_S = 5
TOTAL_S = 65  # a call of Bitrix24 may take 60 (docs/protocols/bitrix24.md, 5.5)
MAX_REPLY_BYTES = 32 * 1024 * 1024
CONNECTIONS = 8


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead into a private network."""

    def __init__(self) -> None:
        self.inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name that are public. Raises OSError, and OperatorError when none is."""
        found = await self.inner.resolve(host, port, family)
        public = [one for one in found if is_public(one["host"])]
        if not public:
            raise private(host)
        return public

    async def close(self) -> None:
        """Nothing is held."""


class Outbound:
    """One session of connections for one CRM or platform."""

    def __init__(self, *, private: bool = False, total_s: float = TOTAL_S) -> None:
        self.private = private
        self.total_s = total_s
        self.session: aiohttp.ClientSession | None = None

    def opened(self) -> aiohttp.ClientSession:
        """Return the session; made at the first call, inside the loop."""
        if self.session is None:
            resolver = None if self.private else PublicResolver()
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, resolver=resolver),
                timeout=aiohttp.ClientTimeout(total=self.total_s, connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self.session

    async def send(self, base: str, request: Request, headers: Mapping[str, str]) -> Reply:
        """Return the reply to one call below `base`; a redirect is a reply like any other.

        Raises CrmAwayError when there is none, OperatorError for a private address. Errors name the host
        only: the path of a webhook of Bitrix24 is a secret.
        """
        url = address_of(base, request.path)
        # As it is asked for: a host in full-width digits is an address, too.
        host = url.host or ""
        if not self.private and is_literal(host) and not is_public(host):
            raise private(host)
        body = None if request.body is None else json.dumps(request.body, ensure_ascii=False).encode()
        labels = {**headers, **({} if body is None else {"Content-Type": "application/json"})}
        try:
            async with self.opened().request(
                request.method,
                url,
                params=list(request.query),
                data=body,
                headers=labels,
                allow_redirects=False,
            ) as answer:
                return Reply(status=answer.status, body=await read_whole(answer))
        except TimeoutError:
            raise CrmAwayError(f"{host} did not answer within {self.total_s:g} s") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise CrmAwayError(f"{host} cannot be reached: {type(error).__name__}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self.session is not None:
            await self.session.close()
            self.session = None


async def read_whole(answer: Any) -> bytes:  # noqa: ANN401 - aiohttp's response, also a stand-in's
    """Return a body up to the limit. Raises CrmAwayError above it."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise CrmAwayError(f"a reply is larger than {MAX_REPLY_BYTES // 1024 // 1024} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def address_of(base: str, path: str) -> URL:
    """Return the address of one call. Raises OperatorError when `base` is none, without showing it."""
    try:
        return URL(f"{base.rstrip('/')}/{path}")
    except ValueError:
        raise OperatorError("the address of the CRM cannot be read; it begins with https://") from None


def private(host: str) -> OperatorError:
    """Return the refusal of a host in a private network."""
    return OperatorError(f"{host} is in a private network: set private_address = true if it is meant")


def is_literal(host: str) -> bool:
    """Return whether a host is an address and no name: the resolver is not asked about these.

    `127.1` is one, too: whoever connects reads it as an address.
    """
    return ":" in host or host.replace(".", "").isdigit()


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False
