"""An authorization of amoCRM outlives its tokens, whoever renews them, or says what to do."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from closedloop.errors import CrmRefusedError
from closedloop.outbound import Outbound
from closedloop.settings import AmoCrm as Settings
from closedloop.stages.amo_token import AmoToken
from fix_deals import InWorld, World
from fix_flow import Tables
from platforms.amocrm import AmoCrm

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

T = TypeVar("T")


@pytest.fixture
def settings(amocrm: AmoCrm) -> Settings:
    """Give the settings of an integration that was just installed."""
    amocrm.clock.set(time.time())
    tokens = amocrm.tokens
    return Settings(
        base_url=amocrm.url,
        client_id=tokens.client_id,
        client_secret=tokens.client_secret,
        redirect_uri=tokens.redirect_uri,
        refresh_token=tokens.issue().refresh_token,
        private_address=True,
    )


def with_tokens(
    in_world: InWorld, settings: Settings, use: Callable[[Callable[[], AmoToken]], Awaitable[T]]
) -> T:
    """Return what `use` returns; it makes as many processes' tokens as it wants."""

    async def live(world: World) -> T:
        outbound = Outbound(private=True)

        def made() -> AmoToken:
            return AmoToken("default", settings, outbound, world.process.pool, world.book.sealer)

        try:
            return await use(made)
        finally:
            await outbound.close()

    return in_world(live)


def test_first_pair_comes_from_the_configured_token_and_is_used_again(
    in_world: InWorld, settings: Settings, amocrm: AmoCrm, tables: Tables
) -> None:
    """One request for a day of calls; the pair is in the database, and unreadable there."""

    async def use(made: Callable[[], AmoToken]) -> list[str]:
        one = made()
        return [await one.token(renew=False), await one.token(renew=False), await made().token(renew=False)]

    told = with_tokens(in_world, settings, use)

    assert len(set(told)) == 1
    assert amocrm.tokens.is_good(told[0])
    assert len(amocrm.calls_of("oauth2")) == 1
    assert told[0].encode() not in bytes(tables.one("select sealed from closedloop.crm_token"))


def test_two_processes_that_renew_at_once_use_one_refresh_token(
    in_world: InWorld, settings: Settings, amocrm: AmoCrm
) -> None:
    """The second takes the pair of the first."""

    async def use(made: Callable[[], AmoToken]) -> list[str]:
        return await asyncio.gather(*(made().token(renew=False) for _ in range(3)))

    told = with_tokens(in_world, settings, use)

    assert len(set(told)) == 1
    assert len(amocrm.calls_of("oauth2")) == 1


def test_token_that_was_refused_is_renewed(in_world: InWorld, settings: Settings, amocrm: AmoCrm) -> None:
    """The owner may have changed something before it expired."""

    async def use(made: Callable[[], AmoToken]) -> tuple[str, str]:
        one = made()
        before = await one.token(renew=False)
        amocrm.tokens.expire()
        return before, await one.token(renew=True)

    before, after = with_tokens(in_world, settings, use)

    assert before != after
    assert amocrm.tokens.is_good(after)


def test_refused_refresh_token_says_what_to_do(in_world: InWorld, settings: Settings, amocrm: AmoCrm) -> None:
    """Only the owner can install the integration again."""
    amocrm.tokens.revoke()

    async def use(made: Callable[[], AmoToken]) -> None:
        with pytest.raises(CrmRefusedError, match="install the integration anew"):
            await made().token(renew=False)

    with_tokens(in_world, settings, use)


def test_long_lived_token_is_used_as_it_is(in_world: InWorld, amocrm: AmoCrm) -> None:
    """It cannot be renewed: refused, it is told."""
    settings = Settings(base_url=amocrm.url, access_token=amocrm.tokens.long_lived, private_address=True)

    async def use(made: Callable[[], AmoToken]) -> dict[str, str]:
        renew = False
        with pytest.raises(CrmRefusedError, match="make a new one"):
            await made().token(renew=not renew)
        return dict(await made()(renew))

    assert with_tokens(in_world, settings, use) == {"Authorization": f"Bearer {amocrm.tokens.long_lived}"}
