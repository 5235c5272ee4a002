"""Only who has a site's key may write to it, wherever a sender can put the key, and nobody else."""

import base64
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from closedloop.edge.http.keys import Keyring, basic_password, is_supabase_key, presented_keys, without_key
from closedloop.settings import Site
from fix_flow import Tables
from fix_postgres import Cluster
from fix_server import KEY, Reply, Server

OLD_KEY = "old key+with/signs=&ю"
OTHER_KEY = "other-site-key"
SIGNING = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SIGNING = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
ANON_KEY = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"
PUBLISHABLE_KEY = "sb_publishable_abcdefghijklmnop"

CONFIG = """
[sites.default]
webhook_keys = ["env:OLD_KEY", "env:SIGNING", "env:OLD_SIGNING"]
[sites.other]
webhook_keys = ["env:OTHER_KEY"]
"""
ENVIRONMENT = {"OLD_KEY": OLD_KEY, "SIGNING": SIGNING, "OLD_SIGNING": OLD_SIGNING, "OTHER_KEY": OTHER_KEY}
PLACES = "X-Webhook-Key, Authorization: Bearer, apikey or ?key="
BODY = b'{"session_id": "s-1", "deal_id": "1"}'
UPDATED = b'{"success":true,"updated_session":1}'


@pytest.fixture(scope="module")
def url(postgres: Cluster) -> Iterator[str]:
    """Give the database of this file's server."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def hook(url: str, scratch: Path) -> Iterator[Server]:
    """Give one server for the file: two sites, keys in rotation, the session `s-1` of `default` in row 1."""
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
    (folder / "closedloop.toml").write_text(CONFIG)
    made = Server(folder, url, ENVIRONMENT, ("--config", str(folder / "closedloop.toml")))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def tables(hook: Server, url: str) -> Iterator[Tables]:
    """Give the tables of this file's server, with the session in them."""
    assert hook.database_url == url
    opened = Tables(url)
    opened.add_session("s-1")
    yield opened
    opened.conn.close()


def basic(password: str) -> dict[str, str]:
    """Return the header of HTTP Basic, as integrators make it from a user name and a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"closedloop:{password}".encode()).decode()}


def signed(body: bytes = BODY, *, secret: str = SIGNING, ago: timedelta = timedelta()) -> dict[str, str]:
    """Return the headers with which the library of Standard Webhooks signs a body."""
    at = datetime.now(UTC) - ago  # noqa: TID251 - the server's own clock judges it
    signature = Webhook(secret).sign("msg_1", at, body.decode())
    stamp = str(int(at.timestamp()))
    return {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Webhook-Key": KEY},
        {"apikey": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        basic(KEY),
        basic(OLD_KEY),
    ],
)
def test_key_is_taken_in_every_header(hook: Server, headers: Mapping[str, str]) -> None:
    """Each of these is the only field that some tool offers."""
    reply = hook.post(BODY, headers=headers, key=None)

    assert (reply.status, reply.body) == (200, UPDATED)


@pytest.mark.parametrize(
    "query", [f"key={KEY}", f"a=1&key={KEY}&b=2", "key=old%20key%2Bwith/signs%3D%26%D1%8E"]
)
def test_key_is_taken_in_the_address(hook: Server, query: str) -> None:
    """Bitrix24 and amoCRM can set nothing but the address."""
    reply = hook.post(BODY, query=query, key=None)

    assert (reply.status, reply.body) == (200, UPDATED)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Authorization": f"Bearer {ANON_KEY}", "apikey": ANON_KEY, "X-Webhook-Key": KEY}, ""),
        ({"Authorization": f"Bearer {ANON_KEY}", "apikey": KEY}, ""),
        ({"Authorization": f"Bearer {KEY}", "apikey": ANON_KEY}, ""),
        ({"Authorization": f"Bearer {ANON_KEY}"}, f"key={KEY}"),
        ({"X-Webhook-Key": "wrong"}, f"key=wrong&key={KEY}"),
    ],
)
def test_one_right_credential_of_several_is_enough(
    hook: Server, headers: Mapping[str, str], query: str
) -> None:
    """supabase-js always sends the project's own key beside whatever its user adds."""
    reply = hook.post(BODY, headers=headers, query=query, key=None)

    assert (reply.status, reply.body) == (200, UPDATED)


@pytest.mark.parametrize("key", [ANON_KEY, PUBLISHABLE_KEY])
def test_lone_public_key_of_supabase_is_refused_by_name(hook: Server, key: str) -> None:
    """It opened the old Edge Function, and everybody can read it in the page: its owner wonders why."""
    reply = hook.post(BODY, headers={"Authorization": f"Bearer {key}", "apikey": key}, key=None)

    assert reply.status == 401
    assert reply.json() == {
        "error": "key is Supabase's public anon key, which anybody can read: send the site's own key"
    }
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic %%%"},
        {"Authorization": f"Digest {KEY}"},
        {"X-Webhook-Key": ""},
    ],
)
def test_request_without_a_key_is_told_where_to_put_it(hook: Server, headers: Mapping[str, str]) -> None:
    """Whoever connects a CRM sees this sentence first."""
    reply = hook.post(BODY, headers=headers, key=None)

    assert reply.status == 401
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {"error": f"key is missing: send the site's key as {PLACES}"}


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "0", KEY.upper(), SIGNING])
def test_wrong_key_is_refused_and_never_shown(hook: Server, key: str) -> None:
    """A key that is nearly right is nearly a secret. A signing secret is not sent, it signs."""
    reply = hook.post(BODY, headers={"X-Webhook-Key": key}, key=None)

    assert reply.status == 401
    assert reply.json() == {"error": "key is not a key of any site here"}


def test_refusal_comes_before_the_body_is_read(hook: Server) -> None:
    """A stranger learns nothing from sending this or that."""
    replies = [hook.post(body, key=None) for body in (b"{", b"", b"\xff", b'{"session_id": 1.5}')]

    assert [reply.status for reply in replies] == [401] * 4


@pytest.mark.parametrize("secret", [SIGNING, OLD_SIGNING])
def test_signature_of_the_library_is_taken(hook: Server, secret: str) -> None:
    """Senders sign with that library; during a rotation with the old secret or the new one."""
    reply = hook.post(BODY, headers=signed(secret=secret), key=None)

    assert (reply.status, reply.body) == (200, UPDATED)


def test_one_right_signature_of_several_is_enough(hook: Server) -> None:
    """During a rotation the sender signs with both secrets in one header; other versions are passed over."""
    headers = signed() | {"Authorization": f"Bearer {ANON_KEY}"}
    headers["webhook-signature"] = f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"

    assert hook.post(BODY, headers=headers, key=None).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        signed(b"{}"),
        signed(ago=timedelta(hours=2)),
        signed(ago=-timedelta(hours=2)),
        {**signed(), "webhook-id": "msg_2"},
        {**signed(), "webhook-id": ""},
        {**signed(), "webhook-timestamp": "1"},
        {**signed(), "webhook-timestamp": "soon"},
        {**signed(), "webhook-signature": "v1,"},
        {**signed(), "webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")},
        signed(secret="whsec_" + base64.b64encode(b"x" * 32).decode()),
    ],
)
def test_signature_that_does_not_fit_is_refused(hook: Server, headers: Mapping[str, str]) -> None:
    """A recorded request must not be sent again with another body or on another day."""
    assert hook.post(BODY, headers=headers, key=None).status == 401


def test_key_of_another_site_writes_there_only(hook: Server, tables: Tables) -> None:
    """An agency's clients must not credit each other's visits: `s-1` is not theirs, and stays as it is."""
    before = tables.goals("s-1")

    reply = hook.post({"session_id": "s-1", "deal_id": "foreign"}, key=OTHER_KEY)

    assert (reply.status, reply.body) == (404, b"Session not found")
    assert tables.goals("s-1") == before
    assert tables.one("select site from closedloop.conversion where deal_id = 'foreign'") == "other"


@pytest.mark.parametrize(
    ("site", "key", "status"),
    [
        ("default", KEY, 200),
        ("other", KEY, 400),
        ("default", OTHER_KEY, 400),
        ("nowhere", KEY, 400),
        (None, KEY, 200),
    ],
)
def test_named_site_must_be_the_one_of_the_key(hook: Server, site: str | None, key: str, status: int) -> None:
    """A mistaken address is told at once instead of being counted for somebody else."""
    reply = hook.post({"session_id": "s-1", "deal_id": "1", "site": site}, key=key)

    assert reply.status == status
    if status == 400:
        owner = "default" if key == KEY else "other"
        assert reply.json() == {"error": f"site is not {owner}, the site of the key: {site!r}"}


def test_key_is_neither_stored_nor_logged(hook: Server, tables: Tables) -> None:
    """Whoever reads the inbox or the log must not be able to write from then on."""
    label = {"X-Webhook-Key": KEY, "User-Agent": "marked"}
    for query in (f"key={KEY}", f"a=1&k%65y={KEY}", f"apikey={KEY}", f"KEY={KEY}"):
        hook.post(BODY, query=query, headers=label, key=None)
        hook.post(b"{", query=query, headers=label, key=None)

    stored = tables.one(
        "select string_agg(w::text, ' ') from closedloop.webhook w where user_agent = 'marked'"
    )
    assert stored.count("marked") == 8
    assert KEY not in stored + hook.log() + hook.printed()
    assert KEY.encode().hex() not in stored


def test_stranger_leaves_nothing_behind(hook: Server, tables: Tables) -> None:
    """Else anybody could fill the disk."""
    count = "select count(*) from closedloop.webhook"
    before = tables.one(count)

    hook.post(BODY, key=None)
    hook.post(BODY, key="wrong")

    assert tables.one(count) == before


def test_reply_is_the_same_for_every_wrong_key(hook: Server) -> None:
    """A guess must not learn from the answer how near it was."""
    replies: list[Reply] = [hook.post(BODY, key=key) for key in ("a", KEY[:-1], OTHER_KEY[:-1])]

    assert len({reply.body for reply in replies}) == 1


@given(
    st.lists(
        st.sampled_from(["key=secret", "apikey=secret", "k%65y=secret", "KEY=secret", "a=1", "monkey=1", ""])
    )
)
def test_query_loses_the_key_and_nothing_else(parts: list[str]) -> None:
    """What is kept of a request is what its replay reads."""
    kept = without_key("&".join(parts).encode())

    assert kept.decode() == "&".join(part for part in parts if "secret" not in part)


@given(st.binary(), st.binary())
def test_any_header_and_query_can_be_looked_into(raw: bytes, query: bytes) -> None:
    """Bytes of a stranger must not end in a 500."""
    names = (b"authorization", b"apikey", b"x-webhook-key", b"webhook-id", b"webhook-signature")
    headers = dict.fromkeys(names, raw) | {b"webhook-timestamp": b"1"}

    keyring = Keyring([Site(webhook_keys=("key", SIGNING))])

    for prefix in (b"Basic ", b"Bearer ", b""):
        found = presented_keys({**headers, b"authorization": prefix + raw}, b"key=" + query)
        assert keyring.site_of([one for one in found if one != b"key"]) is None
    assert keyring.site_of_signature(headers, raw, datetime(1970, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("token", [b"", b"a", b"====", b"\xff", base64.b64encode(b"user-only")])
def test_broken_basic_holds_no_password(token: bytes) -> None:
    """Integrators let people type anything into that field."""
    assert basic_password(token) == b""


@pytest.mark.parametrize(
    ("key", "is_public"),
    [(ANON_KEY, True), (PUBLISHABLE_KEY, True), ("sb_secret_x", True), (KEY, False), ("eyJhb", False)],
)
def test_keys_of_supabase_are_recognised(key: str, is_public: bool) -> None:  # noqa: FBT001 - a column
    """Only for these the sentence about the anon key is true."""
    assert is_supabase_key(key.encode()) is is_public
