"""Who may write: the keys of sites, in every place where a sender can put one, and signatures."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from urllib.parse import unquote_plus

from closedloop.domain.signing import signature, signing_key
from closedloop.errors import UnknownKeyError
from closedloop.settings import Site

# Standard Webhooks: a signature older or newer than this is refused (docs/protocols/standard-webhooks.md, 1).
TOLERANCE_S = 300
STAMP = re.compile(rb"[0-9]{1,12}")
KEY_NAMES = {"key", "apikey", "x-webhook-key"}
SUPABASE_KEY = re.compile(rb"sb_.*|eyJ[^.]*\.[^.]*\.[^.]*", re.DOTALL)


class Keyring:
    """Knows which site a credential belongs to.

    A key of the configuration that begins with `whsec_` is the secret of Standard Webhooks signatures;
    every other one is presented as it is. Keys are looked up by their digest, so that no comparison runs
    over the key itself, and confirmed in constant time.
    """

    def __init__(self, sites: Iterable[Site]) -> None:
        self.plain: dict[bytes, tuple[bytes, Site]] = {}
        self.signing: list[tuple[bytes, Site]] = []
        for site in sites:
            for key in site.webhook_keys:
                if (secret := signing_key(key)) is not None:
                    self.signing.append((secret, site))
                else:
                    self.plain[sha256(key.encode()).digest()] = (key.encode(), site)

    def site_of(self, credentials: Iterable[bytes]) -> Site | None:
        """Return the site of the first credential that is a key, or None."""
        for presented in credentials:
            known = self.plain.get(sha256(presented).digest())
            if known is not None and hmac.compare_digest(known[0], presented):
                return known[1]
        return None

    def site_of_signature(self, headers: Mapping[bytes, bytes], body: bytes, now: datetime) -> Site | None:
        """Return the site whose secret signed this body (Standard Webhooks, `v1`), or None."""
        message, stamp = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        presented = headers.get(b"webhook-signature", b"").split()
        if not (message and presented and STAMP.fullmatch(stamp)):
            return None
        if abs(now.timestamp() - int(stamp)) > TOLERANCE_S:
            return None
        for secret, site in self.signing:
            wanted = signature(secret, message, stamp, body)
            if any(hmac.compare_digest(wanted, one) for one in presented):
                return site
        return None


def presented_keys(headers: Mapping[bytes, bytes], query: bytes) -> list[bytes]:
    """Return every credential of a request: any of them may be the site's key."""
    found = [headers.get(b"x-webhook-key", b""), headers.get(b"apikey", b"")]
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        found.append(token.strip())
    elif scheme.lower() == b"basic":
        found.append(basic_password(token))
    if b"key=" in query:
        found += [
            unquote_plus(part[4:].decode("latin-1")).encode()
            for part in query.split(b"&")
            if part.startswith(b"key=")
        ]
    return [key for key in found if key]


def basic_password(token: bytes) -> bytes:
    """Return the password of HTTP Basic, which some integrators offer as their only field for a key."""
    try:
        return base64.b64decode(token.strip()).partition(b":")[2]
    except binascii.Error:
        return b""


def without_key(query: bytes) -> bytes:
    """Return a query string without the site's key, as it may be kept and shown."""
    if not query:
        return query
    return b"&".join(part for part in query.split(b"&") if name_of(part) not in KEY_NAMES)


def name_of(part: bytes) -> str:
    """Return the name of one parameter, unescaped and in lower case: a key that was misnamed is one, too."""
    return unquote_plus(part.partition(b"=")[0].decode("latin-1")).strip().lower()


def refusal(credentials: Iterable[bytes]) -> UnknownKeyError:
    """Return why no site was found, naming the usual mistake: Supabase's public key in place of ours."""
    presented = list(credentials)
    if not presented:
        return UnknownKeyError(
            "key", "is missing: send the site's key as X-Webhook-Key, Authorization: Bearer, apikey or ?key="
        )
    if any(is_supabase_key(key) for key in presented):
        return UnknownKeyError(
            "key", "is Supabase's public anon key, which anybody can read: send the site's own key"
        )
    return UnknownKeyError("key", "is not a key of any site here")


def is_supabase_key(key: bytes) -> bool:
    """Return whether this is one of Supabase's own keys: a project's JWT, or `sb_…`."""
    return SUPABASE_KEY.fullmatch(key) is not None
