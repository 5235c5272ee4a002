"""The signatures of Standard Webhooks, ours and others': a secret's text to its key, bytes to `v1,…`."""

import base64
import binascii
import hmac
from hashlib import sha256

# A key that begins so is the secret of signatures, base64 of at least so many bytes.
SIGNING_PREFIX = "whsec_"
MIN_SIGNING_BYTES = 24
# What is said of a secret that is none; never shows it.
NO_SIGNING_KEY = f"must be {SIGNING_PREFIX} and base64 of at least {MIN_SIGNING_BYTES} bytes"


def signing_key(secret: str) -> bytes | None:
    """Return the key in `whsec_` and base64; None for another text, and for a key that protects nothing.

    Source: docs/protocols/standard-webhooks.md, 1.
    """
    if not secret.startswith(SIGNING_PREFIX):
        return None
    told = secret.removeprefix(SIGNING_PREFIX)
    try:
        key = base64.b64decode(told + "=" * (-len(told) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) >= MIN_SIGNING_BYTES else None


def signature(key: bytes, message_id: bytes, stamp: bytes, body: bytes) -> bytes:
    """Return `v1,` and the base64 of the HMAC over these exact bytes.

    Source: docs/protocols/standard-webhooks.md, 1.
    """
    digest = hmac.new(key, b".".join((message_id, stamp, body)), sha256).digest()
    return b"v1," + base64.b64encode(digest)
