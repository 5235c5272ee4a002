"""Whatever shape an adopted table has, its statements are SQL that PostgreSQL takes and that fits it."""

import itertools
import json
import re
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from closedloop.errors import MigrationError, NotAdoptedError
from closedloop.store.sessions import (
    SessionTable,
    fill,
    identifier,
    load_statement,
    read_session_table,
    read_session_table_now,
    readable_json,
    shape_fragments,
)
from closedloop.store.statements import Statements
from fix_ledger import OWN_TABLE, Books, tell

ID_TYPES = {
    "bigint": "bigint generated always as identity",
    "integer": "integer generated always as identity",
    "uuid": "uuid default gen_random_uuid()",
    "text": "text default gen_random_uuid()::text",
}
SHAPES = [
    SessionTable(id_type=id_type, session_id_type=own, data_type=data, has_site=site, has_generated=generated)
    for id_type, own, data, site, generated in itertools.product(
        ID_TYPES, ("text", "character varying", "uuid"), ("jsonb", "json"), (True, False), (True, False)
    )
]
# One of each pair of neighbours; the texts of all shapes are looked at, these are built.
BUILT = [*SHAPES[::7], *SHAPES[3::11]]
SESSION = "0e6b1f7e-5d0c-4b52-8a3f-6c1d2e3f4a5b"


def short(table: SessionTable) -> str:
    """Return a shape as the name of a test."""
    return "-".join(str(value) for value in msgspec.structs.astuple(table))


def rebuild(books: Books, table: SessionTable) -> str:
    """Put a table of this shape in the place of ours, with one session, and return that one's id."""
    site = "site text not null default 'default'," if table.has_site else ""
    generated = "".join(
        f", {name} text generated always as (analytics_data -> 'ids' ->> '{name}') stored"
        for name in ("ym_uid", "yclid")
        if table.has_generated
    )
    statement = f"""
        drop table public.user_analytics;
        create table public.user_analytics (id {ID_TYPES[table.id_type]}, {site}
            session_id {table.session_id_type}, "timestamp" timestamptz default now(),
            analytics_data {table.data_type} {generated})"""
    books.sql.execute(statement.encode())
    document = json.dumps({"ids": {"ym_uid": "1741000000123456789", "yclid": "9"}})
    insert = (
        "insert into public.user_analytics (session_id, analytics_data) values (%s, %s) returning id::text"
    )
    row: str = books.rows(insert, SESSION, document)[0]
    books.table, books.statements = table, Statements(table, {})
    return row


@pytest.mark.parametrize("table", SHAPES, ids=short)
def test_nothing_is_left_to_fill_in(table: SessionTable) -> None:
    """A forgotten fragment is a syntax error in the database of whoever has that shape."""
    statements = Statements(table, {})

    written = [
        load_statement("append", table),
        statements.ledger.record_statement,
        statements.ledger.find_statement,
        *vars(statements.images).values(),
        *statements.waiting.probes,
        statements.waiting.found,
        statements.waiting.wait_statement,
    ]

    assert [re.findall(rb"\$\w+", one) for one in written] == [[]] * len(written)
    assert any(b"u.site" in one for one in written) is table.has_site


@pytest.mark.parametrize("table", BUILT, ids=short)
def test_every_shape_takes_a_goal(books: Books, table: SessionTable) -> None:
    """People's tables differ; the goal has to arrive in each, now, after a revision and after a wipe."""
    row = rebuild(books, table)
    told = tell(deal_id="1", session_id=SESSION)

    recorded = books.append(told)[told.conversion_id]
    again = books.follow(told.conversion_id)
    books.sql.execute("update public.user_analytics set analytics_data = '{}'")

    assert (recorded.session_row, recorded.imaged, again, books.restore()) == (row, True, True, 1)
    assert [goal["deal_id"] for goal in books.goals(row)] == ["1"]


@pytest.mark.parametrize("table", BUILT, ids=short)
def test_every_shape_answers_what_waited(books: Books, table: SessionTable) -> None:
    """The search for late sessions has other statements than the batch, and must find the same."""
    told = [
        tell(deal_id="1", session_id=SESSION),
        tell(deal_id="2", session_id="no uuid", ym_uid="1741000000123456789"),
        tell(deal_id="3", ym_uid_interval=("1741000000123456000", "1741000000123457000")),
        tell(deal_id="4", click_ids={"yclid": "9"}),
    ]
    books.append(*told)

    row = rebuild(books, table)

    assert [rule for _, rule in books.match()] == ["session_id", "ym_uid", "ym_uid_rounded", "yclid"]
    assert [goal["deal_id"] for goal in books.goals(row)] == ["1", "2", "3", "4"]


def test_json_document_keeps_its_own_text(books: Books) -> None:
    """In a column of type json even spaces and repeated keys are the owner's."""
    row = rebuild(books, msgspec.structs.replace(OWN_TABLE, data_type="json"))
    theirs = '{"a":  1.50, "a": 2,\n "target_actions": {"x" :[ 1,2 ]}, "b": "\\ud83d\\ude00"}'
    books.sql.execute("update public.user_analytics set analytics_data = %s", [theirs])

    books.append(tell(deal_id="1", session_id=SESSION))

    kept = books.document(row)
    assert all(part in kept for part in ("1.50", '"x":[ 1,2 ]', '"\\ud83d\\ude00"'))
    assert [goal["deal_id"] for goal in books.goals(row)] == ["1"]


@pytest.mark.parametrize("broken", ["\\u0000", "\\ud83d", "\\ude00"])
def test_unreadable_json_is_left_alone(books: Books, broken: str) -> None:
    """One text cut in the middle of an emoji must not stop everybody's conversions."""
    row = rebuild(books, msgspec.structs.replace(OWN_TABLE, data_type="json", has_generated=False))
    document = f'{{"title": "{broken}"}}'
    books.sql.execute("update public.user_analytics set analytics_data = %s", [document])
    told = tell(deal_id="1", session_id=SESSION)

    books.append(told, tell(deal_id="2", ym_uid="1"))

    assert (books.document(row), books.follow(told.conversion_id), books.restore()) == (document, False, 0)


PIECES = st.sampled_from(
    ["\\u0000", "\\ud83d", "\\ude00", "\\uD83D\\uDE00", "\\u0041", "\\\\", "a", '\\"', "u0000"]
)


def test_readable_is_what_postgresql_can_read(books: Books) -> None:
    """Called readable and not read is an error for all rows; the other way round costs one goal."""
    condition = f"select {readable_json('d.')} from (select %s::json as analytics_data) d"  # noqa: S608 - ours

    @example(pieces=["\\ud83d", "\\ud83d", "\\ude00"])
    @given(pieces=st.lists(PIECES, max_size=6))
    def look(pieces: list[str]) -> None:
        document = f'{{"a": "{"".join(pieces)}"}}'
        if books.rows(condition, document)[0]:
            assert books.rows("select %s::json ->> 'a' is not null", document) == [True]

    look()


@pytest.mark.parametrize(("id_type", "shown"), [("bigint", 7), ("integer", 7), ("text", "7"), ("uuid", "7")])
def test_id_is_answered_as_the_column_has_it(id_type: str, shown: int | str) -> None:
    """The contract returns the id as it is: a number where it is one, text for all else."""
    assert msgspec.structs.replace(OWN_TABLE, id_type=id_type).row_id("7") == shown


def test_own_fragments_come_before_those_of_the_shape() -> None:
    """A statement's own fragment may hold `$…` of the shape, and a literal percent stays one."""
    filled = fill("$own and u.id = %(row)s::$id_type", OWN_TABLE, own="$site_is")

    assert filled == b"u.site = %(site)s and u.id = %(row)s::bigint"


def test_unknown_fragment_is_an_error() -> None:
    """A misspelled name must fail when the process starts, not when the statement runs."""
    with pytest.raises(KeyError):
        fill("select $nothing", OWN_TABLE)


def test_fragments_are_the_same_names_for_every_shape() -> None:
    """A name that one shape lacks is an error for its owners only, and nobody else sees it."""
    names = {frozenset(shape_fragments(table)) for table in SHAPES}

    assert len(names) == 1


@pytest.mark.parametrize("name", ["ym_uid", "yclid"])
def test_identifier_is_read_as_its_index_reads_it(name: str) -> None:
    """An expression that differs from the index's by a space is a scan of the whole table."""
    plain = msgspec.structs.replace(OWN_TABLE, has_generated=False)

    assert identifier(name, OWN_TABLE, row="u.") == f'u.{name} collate "C"'
    assert identifier(name, plain) == f"(analytics_data -> 'ids' ->> '{name}') collate \"C\""


def test_recorded_shape_is_read(books: Books) -> None:
    """The process writes its statements for what `migrate` or `adopt` has recorded."""
    assert books.run(read_session_table) == read_session_table_now(books.sql) == OWN_TABLE


def test_table_that_is_not_adopted_is_named(books: Books) -> None:
    """Whoever starts before `closedloop adopt` reads the command to run."""
    books.sql.execute("delete from closedloop.session_table")

    with pytest.raises(NotAdoptedError, match="closedloop adopt"):
        books.run(read_session_table)
    with pytest.raises(NotAdoptedError, match="closedloop adopt"):
        read_session_table_now(books.sql)


def test_database_without_our_schema_is_named(database: str) -> None:
    """Whoever starts on an empty database reads the command to run."""
    with psycopg.connect(database) as conn, pytest.raises(MigrationError, match="closedloop migrate"):
        read_session_table_now(conn)


def test_session_id_of_a_uuid_column_is_any_spelling(books: Books) -> None:
    """A CRM may write it in capitals; a text that is no uuid is simply not found."""
    row = rebuild(books, msgspec.structs.replace(OWN_TABLE, session_id_type="uuid"))

    answer = books.append(
        tell(deal_id="1", session_id=str(UUID(SESSION)).upper()), tell(deal_id="2", session_id="x")
    )

    assert [one.session_row for one in answer.values()] == [row, None]


def test_session_of_a_uuid_column_that_comes_late_is_any_spelling(books: Books) -> None:
    """What waits is compared as text, and a text in capitals would wait for ever."""
    rebuild(books, msgspec.structs.replace(OWN_TABLE, session_id_type="uuid"))
    late = UUID(SESSION[::-1].replace("-", ""))
    books.append(tell(deal_id="1", session_id=str(late).upper()))

    row = books.add_session(str(late))

    assert [rule for _, rule in books.match()] == ["session_id"]
    assert len(books.goals(row)) == 1
