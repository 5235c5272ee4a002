"""What is kept unreadable at rest, and the keyed hash by which a phone or an e-mail is found again."""

import hmac
import os
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from closedloop.errors import OperatorError

NONCE_BYTES = 12


class Sealer:
    """Seals and opens with the deployment's key; whoever has only the database reads nothing.

    `secret` is 32 random bytes from the data folder. A change of it makes what was sealed unreadable and
    the hashes new ones.
    """

    def __init__(self, secret: bytes) -> None:
        self.cipher = AESGCM(derived(secret, "seal"))
        self.hash_key = derived(secret, "identity")

    def seal(self, plain: bytes) -> bytes:
        """Return `plain` encrypted and authenticated (AES-256-GCM), a fresh nonce in front."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self.cipher.encrypt(nonce, plain, None)

    def open(self, sealed: bytes) -> bytes:
        """Return what `seal` was given. Raises OperatorError when the key is another one."""
        try:
            return self.cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
        except (InvalidTag, ValueError) as error:
            raise OperatorError(
                "this was sealed with another deployment key; restore deployment.key in the data folder"
            ) from error

    def hash(self, site: str, kind: str, value: str) -> str:
        """Return the hash by which this site finds a phone or an e-mail again; no other site shares it."""
        return hmac.new(self.hash_key, f"{site}\0{kind}\0{value}".encode(), sha256).hexdigest()


def derived(secret: bytes, purpose: str) -> bytes:
    """Return a key for one purpose, so that no two purposes share one."""
    return hmac.new(secret, purpose.encode(), sha256).digest()
