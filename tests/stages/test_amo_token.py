"""A refresh token of amoCRM works once: whoever renews, and whatever fails then, no pair is lost."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from closedloop.errors import CrmAwayError, CrmRefusedError, DatabaseRefusedError, OperatorError
from closedloop.outbound import Outbound
from closedloop.settings import AmoCrm as Account
from closedloop.stages import clock
from closedloop.stages.amo_token import AmoToken
from closedloop.store.database import make_pool, plain_conninfo
from closedloop.store.sealed import Sealer
from fix_deals import InWorld, World
from fix_flow import Tables
from fix_tools import wait_until
from platforms.amocrm import AmoCrm
from platforms.amocrm_tokens import Pair
from platforms.faults import Answer, Work

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

T = TypeVar("T")

SEALER = Sealer(b"k" * 32)
PATH = "oauth2/access_token"
SOON = timedelta(minutes=4)


@pytest.fixture
def installed(amocrm: AmoCrm) -> Account:
    """Give the settings of an integration that was just installed."""
    amocrm.tokens.long_lived = ""
    return settings_of(amocrm, amocrm.tokens.issue())


def settings_of(amocrm: AmoCrm, pair: Pair) -> Account:
    """Return what an owner configures."""
    return Account(
        base_url=amocrm.url,
        client_id=amocrm.tokens.client_id,
        client_secret=amocrm.tokens.client_secret,
        redirect_uri=amocrm.tokens.redirect_uri,
        refresh_token=pair.refresh_token,
        private_address=True,
    )


@contextlib.asynccontextmanager
async def process(url: str, settings: Account, sealer: Sealer = SEALER) -> AsyncGenerator[AmoToken]:
    """Give the token of a process of its own."""
    outbound, pool = Outbound(private=True), make_pool(plain_conninfo(url))
    await pool.open()
    token = AmoToken("default", settings, outbound, pool, sealer)
    try:
        yield token
    finally:
        await token.close()
        await outbound.close()
        await pool.close()


def with_token(url: str, settings: Account, use: Callable[[AmoToken], Awaitable[T]]) -> T:
    """Return what `use` returns, in a process that starts and ends."""

    async def run() -> T:
        async with process(url, settings) as token:
            return await use(token)

    return asyncio.run(run())


def get(url: str, settings: Account) -> str:
    """Return the token that a new process takes."""
    return with_token(url, settings, lambda token: token.token(renew=False))


def renewals(amocrm: AmoCrm) -> int:
    """Return how often a pair was asked for."""
    return len(amocrm.calls_of(PATH))


def expire_soon(tables: Tables) -> None:
    """Let the kept token expire in four minutes."""
    tables.conn.execute("update closedloop.crm_token set expires_at = %s", [clock.now() + SOON])


def is_good(amocrm: AmoCrm, token: str) -> bool:
    """Return whether amoCRM would take a token."""
    return amocrm.tokens.is_good(token)


def test_configured_refresh_token_gives_the_first_pair(
    database: str, amocrm: AmoCrm, installed: Account
) -> None:
    """Later calls and later processes use it up to its end."""

    async def twice(token: AmoToken) -> list[str]:
        header = await token(False)  # noqa: FBT003 - the shape of Authorize
        return [header["Authorization"], await token.token(renew=False)]

    header, again = with_token(database, installed, twice)
    after_restart = get(database, installed)

    assert header == f"Bearer {again}"
    assert after_restart == again
    assert is_good(amocrm, again)
    assert renewals(amocrm) == 1


def test_long_lived_token_needs_no_renewal(database: str, amocrm: AmoCrm) -> None:
    """It is made for five years; when it is refused nobody but the owner can make another."""
    settings = Account(base_url=amocrm.url, access_token="demo-long", private_address=True)  # noqa: S106

    assert get(database, settings) == "demo-long"
    with pytest.raises(CrmRefusedError, match="make a new one in the integration's settings"):
        with_token(database, settings, lambda token: token.token(renew=True))

    assert amocrm.calls == []


def test_pair_is_kept_sealed_before_it_is_used(
    database: str, tables: Tables, amocrm: AmoCrm, installed: Account
) -> None:
    """Whoever has only the database cannot read it; whoever has the key can go on with it."""
    token = get(database, installed)

    kept = bytes(tables.one("select sealed from closedloop.crm_token where site = 'default'"))
    assert b"demo-" not in kept
    assert json.loads(SEALER.open(kept))["access_token"] == token
    assert json.loads(SEALER.open(kept))["refresh_token"] in amocrm.tokens.refresh
    left = timedelta(days=1) - (tables.one("select expires_at from closedloop.crm_token") - clock.now())
    assert abs(left) < timedelta(seconds=30)


def test_first_call_goes_out_when_the_pair_is_committed(
    in_world: InWorld, tables: Tables, amocrm: AmoCrm, installed: Account
) -> None:
    """A process that dies between the two would have used up the only token."""
    kept: list[int] = []

    def look(work: Work) -> Answer:
        kept.append(tables.one("select count(*) from closedloop.crm_token where sealed <> ''"))
        return work()

    amocrm.faults.order(look, "api/v4")

    in_world(read, crm="amocrm", amocrm=installed)

    assert kept == [1]


async def read(world: World) -> None:
    """Ask for a lead that is not there."""
    assert world.crm.client is not None
    await world.crm.client.converse(world.crm.client.api.read_deals(["30100001"]))


def test_token_is_renewed_before_it_expires(
    database: str, tables: Tables, amocrm: AmoCrm, installed: Account
) -> None:
    """A night of many pages must not stop in the middle."""
    first = get(database, installed)
    expire_soon(tables)

    second = get(database, installed)

    assert second != first
    assert is_good(amocrm, second)
    assert renewals(amocrm) == 2


def test_running_process_renews_before_the_end(database: str, amocrm: AmoCrm, installed: Account) -> None:
    """It does not ask the database for each call, and still knows when the token's time is over."""

    def short(work: Work) -> Answer:
        answer = work()
        told = {**json.loads(answer.body), "expires_in": int(SOON.total_seconds())}
        return answer._replace(body=json.dumps(told).encode())

    amocrm.faults.order(short, PATH)

    async def twice(token: AmoToken) -> list[str]:
        return [await token.token(renew=False) for _ in range(3)]

    tokens = with_token(database, installed, twice)

    assert tokens[0] != tokens[1] == tokens[2]
    assert renewals(amocrm) == 2


def test_token_that_amocrm_refuses_is_renewed_once(
    in_world: InWorld, amocrm: AmoCrm, installed: Account
) -> None:
    """Clocks differ, and tokens are taken back; the call goes through all the same."""

    async def live(world: World) -> None:
        await read(world)
        amocrm.tokens.expire()
        await read(world)
        await read(world)

    in_world(live, crm="amocrm", amocrm=installed)

    assert [call.status for call in amocrm.calls_of("api/v4/leads")].count(401) == 1
    assert renewals(amocrm) == 2


@pytest.mark.parametrize("renew", [False, True])
def test_processes_that_renew_at_once_use_one_refresh_token(
    database: str, tables: Tables, amocrm: AmoCrm, installed: Account, *, renew: bool
) -> None:
    """The second takes the first one's pair: its own call would burn a token that is used up."""
    get(database, installed)
    waiting = "select count(*) from pg_locks where not granted"

    async def both() -> list[str]:
        async with process(database, installed) as one, process(database, installed) as other:
            if renew:
                assert await one.token(renew=False) == await other.token(renew=False)
            else:
                expire_soon(tables)
            gate = amocrm.faults.hold(PATH)
            tasks = [asyncio.create_task(token.token(renew=renew)) for token in (one, other)]
            await asyncio.to_thread(wait_until, lambda: tables.one(waiting) == 1, what="the second waits")
            gate.open()
            return await asyncio.gather(*tasks)

    first, second = asyncio.run(both())

    assert first == second
    assert is_good(amocrm, first)
    assert renewals(amocrm) == 2


def test_pair_that_the_database_does_not_take_is_not_lost(
    database: str, tables: Tables, amocrm: AmoCrm, installed: Account
) -> None:
    """Its refresh token is the only one that is left: without it somebody has to install anew."""
    tables.conn.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no' using errcode = 'check_violation'; end $$"
    )
    tables.conn.execute(
        "create trigger refuse before update on closedloop.crm_token"
        " for each row when (new.expires_at > now()) execute function refuse()"
    )

    async def twice(token: AmoToken) -> str:
        with pytest.raises(DatabaseRefusedError):
            await token.token(renew=False)
        tables.conn.execute("drop trigger refuse on closedloop.crm_token")
        return await token.token(renew=False)

    assert is_good(amocrm, with_token(database, installed, twice))
    assert renewals(amocrm) == 1
    assert get(database, installed) in amocrm.tokens.access


def test_process_that_ends_waits_for_the_pair_it_asked_for(
    database: str, amocrm: AmoCrm, installed: Account
) -> None:
    """A restart in the wrong second would cost a new installation."""

    async def stopped() -> None:
        async with process(database, installed) as token:
            gate = amocrm.faults.hold(PATH)
            asking = asyncio.create_task(token.token(renew=False))
            await asyncio.to_thread(gate.wait_reached)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            gate.open()

    asyncio.run(stopped())

    assert is_good(amocrm, get(database, installed))
    assert renewals(amocrm) == 1


@pytest.mark.parametrize("change", ["revoked", "client_id", "client_secret", "redirect_uri"])
def test_refused_refresh_token_says_what_to_do(
    database: str, amocrm: AmoCrm, installed: Account, change: str
) -> None:
    """It is the marketer who reads it, months after the installation."""
    if change == "revoked":
        amocrm.tokens.revoke()
    else:
        setattr(amocrm.tokens, change, "another")

    with pytest.raises(CrmRefusedError) as caught:
        get(database, installed)

    assert "install the integration anew and put its token into amocrm.refresh_token" in str(caught.value)
    assert "demo-" not in str(caught.value)


def test_integration_that_was_installed_anew_begins_anew(
    database: str, tables: Tables, amocrm: AmoCrm, installed: Account
) -> None:
    """Else the old pair in the database would be refused for ever, whatever is configured."""
    get(database, installed)
    amocrm.tokens.revoke()
    expire_soon(tables)
    with pytest.raises(CrmRefusedError):
        get(database, installed)

    anew = settings_of(amocrm, amocrm.tokens.issue())

    assert is_good(amocrm, get(database, anew))


def test_token_of_the_former_installation_is_not_used(
    database: str, amocrm: AmoCrm, installed: Account
) -> None:
    """It may be another account's."""
    former = get(database, installed)

    anew = get(database, settings_of(amocrm, amocrm.tokens.issue()))

    assert anew != former
    assert is_good(amocrm, anew)


@pytest.mark.parametrize("status", [200, 302, 429, 504])
def test_answer_without_a_pair_uses_nothing_up(
    database: str, amocrm: AmoCrm, installed: Account, status: int
) -> None:
    """It was away; the same refresh token is good later."""
    amocrm.faults.answer(status, PATH)

    with pytest.raises(CrmAwayError):
        get(database, installed)

    assert is_good(amocrm, get(database, installed))


def test_pair_of_another_deployment_key_is_an_owners_affair(database: str, installed: Account) -> None:
    """A data folder that was not moved with the database is said, not overwritten."""
    get(database, installed)

    async def foreign() -> None:
        async with process(database, installed, Sealer(b"x" * 32)) as token:
            await token.token(renew=False)

    with pytest.raises(OperatorError, match="deployment key"):
        asyncio.run(foreign())
