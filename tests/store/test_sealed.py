"""Whoever has only the database reads no phone and no e-mail; what was sealed opens with its key alone."""

import base64
import json
import secrets
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.rows import scalar_row
from psycopg.sql import SQL, Identifier

from closedloop.errors import OperatorError
from closedloop.store.sealed import NONCE_BYTES, Sealer
from fix_flow import Tables
from fix_server import Server

SECRET = bytes(range(32))
SEALER = Sealer(SECRET)


class Person(NamedTuple):
    """A buyer as the CRM tells of them; nobody else in these tests has the same digits."""

    phone: str
    email: str

    @property
    def traces(self) -> list[str]:
        """What would give them away, in every spelling that a column may show."""
        plain = [self.phone[-10:], self.email, self.email.partition("@")[0]]
        return plain + [text.encode().hex() for text in plain]


@pytest.fixture(scope="module")
def tables(hook: Server) -> Iterator[Tables]:
    """Give the tables of this file's server, with the session `s-1`."""
    assert hook.database_url is not None
    opened = Tables(hook.database_url)
    opened.add_session("s-1")
    yield opened
    opened.conn.close()


@pytest.fixture
def person() -> Person:
    """Give a new buyer."""
    digits = str(secrets.randbelow(9 * 10**6) + 10**6)
    return Person(phone=f"+7900{digits}", email=f"buyer{digits}@shop.example")


def everything(tables: Tables) -> str:
    """Return every row of every table as text, columns of bytes in hexadecimal digits."""
    query = """select format('%I.%I', schemaname, tablename)::text from pg_tables
                where schemaname in ('public', 'closedloop')"""
    with tables.conn.cursor(row_factory=scalar_row) as cursor:
        names = [str(name).split(".") for name in cursor.execute(query).fetchall()]
        selects = [SQL("select r::text from {} r").format(Identifier(*name)) for name in names]
        rows = [str(row) for select in selects for row in cursor.execute(select).fetchall()]
    assert len(names) > 5
    return "\n".join(rows)


def seen(tables: Tables, hook: Server, person: Person) -> list[str]:
    """Return what of a person stands in plain text in the database or in the log."""
    found = everything(tables) + hook.log()
    return [trace for trace in person.traces if trace in found]


@pytest.mark.parametrize("session_id", ["s-1", "nobody"])
def test_buyer_in_a_body_stands_nowhere_in_plain_text(
    hook: Server, tables: Tables, person: Person, session_id: str
) -> None:
    """A leaked dump of the database must not be a list of customers; matched or still waiting."""
    told = {"phone": person.phone, "email": person.email, "deal_id": session_id}
    bodies = [
        json.dumps(told | {"session_id": session_id}),
        f"session_id=s-1&email={person.email}&phone={person.phone}",
    ]
    replies = [hook.post(body) for body in bodies]
    hook.post(json.dumps([told | {"goal_value": "five"}]))

    assert {reply.status for reply in replies} <= {200, 404}
    assert seen(tables, hook, person) == []


def test_buyer_in_a_query_stands_nowhere_in_plain_text(hook: Server, tables: Tables, person: Person) -> None:
    """Robots of Bitrix24 and callers of a mere address send everything in the query string."""
    query = f"session_id=s-1&phone={person.phone.replace('+', '%2B')}&email={person.email}"
    replies = [
        hook.get(query=query),
        hook.post(b"", query=f"{query}&deal_id=9"),
        hook.get(query=f"{query}&goal_value=x"),
    ]

    assert [reply.status for reply in replies] == [200, 200, 400]
    assert seen(tables, hook, person) == []


def test_kept_webhook_opens_with_the_key_of_the_data_folder(hook: Server, tables: Tables) -> None:
    """What came is kept for a replay, byte for byte, for whoever has the folder and the database."""
    body = b'\xef\xbb\xbf{"session_id": "s-1", "deal_id": "kept",   "note": "\xd1\x8e"}'
    hook.post(body, query=f"a=%D1%8E&key={hook.key}&b", headers={"User-Agent": "Make/production"})

    sealer = Sealer(bytes.fromhex((hook.data_dir / "deployment.key").read_text()))
    kept = "select array[query, body] from closedloop.webhook where user_agent = 'Make/production'"
    assert [sealer.open(sealed) for sealed in tables.one(kept)] == [b"a=%D1%8E&b", body]


@pytest.mark.parametrize(
    "sent", [b'{"session_id": "s-1", "goal_value": "five"}', b"{", b"{}", b'[{"session_id": 1.5}]']
)
def test_refused_webhook_is_kept_with_its_reason(hook: Server, tables: Tables, sent: bytes) -> None:
    """The owner of the site sees what a CRM tries in vain, and why, without asking anybody."""
    agent = secrets.token_hex(4)
    reply = hook.post(sent, headers={"User-Agent": agent})

    query = """select outcome || ': ' || reason || ', ' || method || ' ' || source
                 from closedloop.webhook where user_agent = %s"""
    told = reply.body.decode() if reply.body.startswith(b"Missing") else reply.json()["error"]
    assert reply.status == 400
    assert tables.one(query, agent) == f"refused: {told}, POST hook"


@given(st.binary())
def test_sealed_bytes_open_again(plain: bytes) -> None:
    """A body may be anything that fits through HTTP."""
    assert SEALER.open(SEALER.seal(plain)) == plain


@given(st.binary(min_size=8))
def test_sealing_shows_nothing_and_never_repeats_itself(plain: bytes) -> None:
    """Two equal requests must not be seen to be equal."""
    sealed, again = SEALER.seal(plain), SEALER.seal(plain)

    assert plain not in sealed
    assert sealed != again
    assert sealed[:NONCE_BYTES] != again[:NONCE_BYTES]


def test_another_key_opens_nothing_and_says_what_to_restore() -> None:
    """A database that was restored without its data folder ends here."""
    sealed = SEALER.seal(b"body")

    with pytest.raises(OperatorError, match=r"restore deployment\.key in the data folder"):
        Sealer(b"x" * 32).open(sealed)


@given(st.data())
def test_changed_or_cut_bytes_do_not_open(data: st.DataObject) -> None:
    """What somebody has tampered with must not be replayed as a sale."""
    sealed = bytearray(SEALER.seal(b"body"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))

    for broken in (bytes(sealed), bytes(sealed[:place])):
        with pytest.raises(OperatorError):
            SEALER.open(broken)


def test_hash_is_the_same_on_every_start_and_differs_by_site_and_kind() -> None:
    """By it a buyer is found again; one site's buyers are nobody else's."""
    phone = SEALER.hash("default", "phone", "+79001234567")

    assert Sealer(SECRET).hash("default", "phone", "+79001234567") == phone
    others = [("other", "phone"), ("default", "email")]
    assert phone not in {SEALER.hash(site, kind, "+79001234567") for site, kind in others}
    assert Sealer(b"x" * 32).hash("default", "phone", "+79001234567") != phone


def test_hash_keeps_its_parts_apart() -> None:
    """Else two different buyers of two sites could be one."""
    assert SEALER.hash("a", "phone", "x") != SEALER.hash("a\0phone", "", "x")
    assert SEALER.hash("a", "b", "c") != SEALER.hash("ab", "", "c")


def test_sealing_and_hashing_use_keys_of_their_own() -> None:
    """Whoever learns one of them must not have the other."""
    assert SEALER.hash_key not in SECRET
    assert base64.b64encode(SEALER.hash_key) != base64.b64encode(SECRET)
