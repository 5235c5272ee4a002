"""The only HTTP client: timeouts, no redirects, private addresses refused, nothing secret in an error."""

import ipaddress
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from closedloop.domain.exchange import HttpReply, HttpRequest, Reply, Request
from closedloop.errors import CrmAwayError, OperatorError

CONNECT_S = 5
TOTAL_S = 65  # a call of Bitrix24 may take 60 (docs/protocols/bitrix24.md, 5.5)
MAX_REPLY_BYTES = 32 * 1024 * 1024
CONNECTIONS = 8
# What a call ends with that gets no answer; UnicodeError: a host that no name can be.
FAILURES = (aiohttp.ClientError, OSError, UnicodeError)


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
        body = None if request.body is None else json.dumps(request.body, ensure_ascii=False).encode()
        labels = {**headers, **({} if body is None else {"Content-Type": "application/json"})}
        try:
            reply = await self.call(request.method, url, labels, body, request.query)
        except TimeoutError:
            raise CrmAwayError(f"{url.host} did not answer within {self.total_s:g} s") from None
        except FAILURES as error:
            raise CrmAwayError(f"{url.host} cannot be reached: {type(error).__name__}") from None
        return Reply(status=reply.status, body=reply.body)

    async def exchange(self, request: HttpRequest) -> HttpReply:
        """Return the answer to a request, with status 0 when none came; a redirect is an answer, too.

        Raises OperatorError for an address in a private network.
        """
        url = URL(request.url, encoded=True)
        try:
            return await self.call(request.method, url, dict(request.headers), request.body or None)
        except (aiohttp.ClientConnectorError, UnicodeError):
            return HttpReply(status=0, sent=False)
        except (*FAILURES, TimeoutError, CrmAwayError):
            return HttpReply(status=0, sent=True)

    async def call(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        query: Sequence[tuple[str, str]] = (),
    ) -> HttpReply:
        """Return the answer to one call. Raises TimeoutError and `FAILURES` when none came.

        CrmAwayError for one that is too large, OperatorError for an address in a private network.
        """
        # As it is asked for: a host in full-width digits is an address, too.
        host = url.host or ""
        if not self.private and is_literal(host) and not is_public(host):
            raise private(host)
        async with self.opened().request(
            method, url, params=list(query), data=body, headers=headers, allow_redirects=False
        ) as answer:
            told = {name.lower(): value for name, value in answer.headers.items()}
            return HttpReply(status=answer.status, headers=told, body=await read_whole(answer))

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
