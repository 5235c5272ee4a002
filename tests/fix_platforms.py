"""The fake platforms: each a real HTTP server of its own on loopback, new for every test."""

from collections.abc import Iterator

import pytest

from fix_destinations import SECRET
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24
from platforms.metrica import Metrica
from platforms.receiver import Receiver, SignedReceiver


@pytest.fixture
def bitrix24() -> Iterator[Bitrix24]:
    """Give a Bitrix24 portal without deals."""
    with Bitrix24() as portal:
        yield portal


@pytest.fixture
def amocrm() -> Iterator[AmoCrm]:
    """Give an amoCRM account with one pipeline and without leads."""
    with AmoCrm() as account:
        yield account


@pytest.fixture
def metrica() -> Iterator[Metrica]:
    """Give a Yandex Metrica without counters."""
    with Metrica() as platform:
        yield platform


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a receiver of webhooks that answers 200."""
    with Receiver() as started:
        yield started


@pytest.fixture
def signed_receiver() -> Iterator[SignedReceiver]:
    """Give a receiver of signed webhooks and of postbacks that answers by the path."""
    with SignedReceiver(SECRET) as started:
        yield started
