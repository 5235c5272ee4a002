"""Signatures are those of everybody else who speaks Standard Webhooks."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from closedloop.domain.signing import signature, signing_key

VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_vector_of_the_specification_is_met() -> None:
    """The one example that every implementation is held to."""
    key = signing_key(VECTOR)

    assert key is not None
    signed = signature(key, b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", b'{"test": 2432232314}')
    assert signed == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(codec="utf-8")), st.integers(0, 2**32))
def test_signature_is_that_of_the_library(key: bytes, body: str, stamp: int) -> None:
    """Receivers check with it, whatever is in the body."""
    secret = "whsec_" + base64.b64encode(key).decode()
    told = Webhook(secret).sign("msg_1", datetime.fromtimestamp(stamp, UTC), body)

    assert signing_key(secret) == key
    assert signature(key, b"msg_1", str(stamp).encode(), body.encode()).decode() == told


def test_padding_of_a_secret_may_be_left_out() -> None:
    """Generators of secrets differ in this."""
    assert signing_key("whsec_" + base64.b64encode(bytes(25)).decode().rstrip("=")) == bytes(25)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "whsec_ключ", "whsec_!!!"]
)
def test_text_that_is_no_secret_is_no_key(secret: str) -> None:
    """A signature by an empty key is one that anybody can make."""
    assert signing_key(secret) is None


def test_short_secret_is_no_key() -> None:
    """The specification asks for 24 bytes."""
    assert signing_key("whsec_" + base64.b64encode(bytes(23)).decode()) is None
