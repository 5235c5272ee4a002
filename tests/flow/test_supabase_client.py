"""Supabase's own Python client, which calls the hook as it called the Edge Function before."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest
from supabase import (
    AsyncClientOptions,
    ClientOptions,
    FunctionsHttpError,
    acreate_client,
    create_client,
)

from fix_server import KEY, MakeServer, Server

FUNCTION = "crm-conversion-hook"
ANON_KEY = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"


@pytest.fixture
def closedloop(server: MakeServer) -> Server:
    """Give a server that knows the session `s-1`, row 1."""
    made = server()
    assert made.database_url is not None
    with psycopg.connect(made.database_url) as conn:
        conn.execute("insert into public.user_analytics (session_id) values ('s-1')")
    return made


def invoke(server: Server, options: dict[str, object], *, key: str = ANON_KEY) -> object:
    """Return what `functions.invoke` gives to a client made with `key`, the public one by default."""
    with httpx.Client(trust_env=False) as http:
        functions: Any = create_client(server.url, key, ClientOptions(httpx_client=http)).functions
        return functions.invoke(FUNCTION, invoke_options=options)


def options_of(body: object, **more: object) -> dict[str, object]:
    """Return the options of a call that sends the site's key beside the client's own."""
    return {"headers": {"X-Webhook-Key": KEY}, "body": body, **more}


def test_invoke_gets_the_body_of_the_contract(closedloop: Server) -> None:
    """A script that called the Edge Function goes on, with the site's key as one more header."""
    answer = invoke(closedloop, options_of({"session_id": "s-1", "goal_value": 5000}))

    assert answer == b'{"success":true,"updated_session":1}'


def test_invoke_gets_json_parsed_when_it_asks(closedloop: Server) -> None:
    """The client parses by the caller's wish, so the body has to be JSON and nothing around it."""
    answer = invoke(closedloop, options_of({"session_id": "s-1"}, responseType="json"))

    assert answer == {"success": True, "updated_session": 1}


@pytest.mark.parametrize("body", ['{"session_id": "s-1"}', b'{"session_id": "s-1"}', "session_id=s-1"])
def test_invoke_takes_text_and_bytes(closedloop: Server, body: str | bytes) -> None:
    """The client labels text as text/plain and bytes as octet-stream, whatever is in them."""
    answer = invoke(closedloop, options_of(body, responseType="json"))

    assert answer == {"success": True, "updated_session": 1}


def test_invoke_takes_the_sites_key_as_the_clients(closedloop: Server) -> None:
    """Whoever puts our key where the project's key was has nothing else to change."""
    answer = invoke(closedloop, {"body": {"session_id": "s-1"}, "responseType": "json"}, key=KEY)

    assert answer == {"success": True, "updated_session": 1}


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"goal_name": "paid"}, 400, "Missing session_id or ym_uid"),
        ({"session_id": "nobody"}, 404, "Session not found"),
        ({"session_id": 1.5}, 400, "session_id"),
        ({"session_id": "s-1", "goal_value": "five"}, 400, "goal_value"),
        ({"session_id": "x" * 70_000}, 413, "64 KiB"),
    ],
)
def test_invoke_raises_with_our_sentence(
    closedloop: Server, body: dict[str, object], status: int, sentence: str
) -> None:
    """What the client raises is all that its user sees, so text answers have to survive it too."""
    with pytest.raises(FunctionsHttpError) as raised:
        invoke(closedloop, options_of(body))

    assert sentence in raised.value.message
    assert raised.value.status == status


def test_invoke_with_the_anon_key_alone_is_told_so(closedloop: Server) -> None:
    """Everybody can read that key in the page's source; it opened the old function, and no longer does."""
    with pytest.raises(FunctionsHttpError) as raised:
        invoke(closedloop, {"body": {"session_id": "s-1"}})

    assert raised.value.status == 401
    assert "anon key" in raised.value.message


def test_invoke_works_the_same_from_async_code(closedloop: Server) -> None:
    """The client comes in two kinds, and people use both."""

    async def call(body: object) -> object:
        async with httpx.AsyncClient(trust_env=False) as http:
            options = AsyncClientOptions(httpx_client=http)
            functions: Any = (await acreate_client(closedloop.url, ANON_KEY, options)).functions
            return await functions.invoke(FUNCTION, options_of(body, responseType="json"))

    assert asyncio.run(call({"session_id": "s-1"})) == {"success": True, "updated_session": 1}
    with pytest.raises(FunctionsHttpError, match="Session not found"):
        asyncio.run(call({"session_id": "nobody"}))
