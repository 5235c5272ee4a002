"""What adoption would do to the table that was found, and what forbids it: decided here, done in adopt.py."""

from collections.abc import Sequence

import msgspec

from closedloop.store.adopt_look import Found, Index, shape_of
from closedloop.store.sessions import SessionTable, identifier

PREFIX = "user_analytics_closedloop_"
ID_TYPES = ("bigint", "integer", "smallint", "uuid", "text", "character varying")
SESSION_ID_TYPES = ("text", "character varying", "uuid")
DATA_TYPES = ("jsonb", "json")
TIME_TYPES = ("timestamp with time zone", "timestamp without time zone")

SESSION_MODE = "use the database's direct address, or session mode (on Supabase: port 5432)"

# What an index build reads and an index row takes, on a small machine (measured on 2 cores).
BUILD_BYTES_PER_S = 80 * 1024 * 1024
INDEX_ROW_BYTES = {"session": 90, "ym_uid": 75, "yclid": 75, "id": 40}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why the table cannot be adopted as it is: what was found, and what its owner can do."""

    problem: str
    mend: str


class WantedIndex(msgspec.Struct, frozen=True, kw_only=True):
    """One index of ours; `sql` stands behind the table's name: `(id)`."""

    name: str
    sql: str
    keys: int
    bytes: int  # estimated
    seconds: int  # estimated
    rebuild: bool = False  # one of our name is there and is broken or another one


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done, in this order: migrations, column, indexes, record. With refusals nothing is."""

    refusals: Sequence[Refusal]
    warnings: Sequence[str]
    migrations: Sequence[str]
    add_site: bool
    indexes: Sequence[WantedIndex]
    reused: Sequence[str]
    record: SessionTable | None  # None: recorded already

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.migrations or self.add_site or self.indexes or self.record or self.refusals)


def make_plan(found: Found, migrations: Sequence[str], sites: Sequence[str]) -> Plan:
    """Return what has to be done; `migrations` are those that are missing, `sites` those configured."""
    shape = shape_of(found)
    refusals = refusals_of(found)
    if shape is None or refusals:
        return Plan(
            refusals=refusals, warnings=(), migrations=(), add_site=False, indexes=(), reused=(), record=None
        )
    wanted = wanted_indexes(found, shape)
    kept = {index.name: serving(found, shape, index) for index in wanted}
    return Plan(
        refusals=(),
        warnings=warnings_of(found, shape, sites),
        migrations=migrations,
        add_site=shape.has_site and found.column("site") is None,
        indexes=[index for index in wanted if kept[index.name] is None],
        reused=[other.name for other in kept.values() if other is not None],
        record=None if found.recorded == shape else shape,
    )


def refusals_of(found: Found) -> list[Refusal]:
    """Return everything that forbids adoption, each with the way out."""
    return unfit_table(found) or [*unfit_columns(found), *unfit_rights(found)]


KINDS = {
    "v": "a view",
    "m": "a materialised view",
    "p": "a partitioned table",
    "f": "a foreign table",
}


def unfit_table(found: Found) -> list[Refusal]:
    """Return why this is not a table that can be adopted."""
    kind = KINDS.get(found.table.kind)
    if kind is None and found.table.has_children:
        kind = "a table with heirs or parents"
    if kind is None:
        return []
    mend = "adopt the plain table that the script writes into; it has to have the name public.user_analytics"
    return [Refusal(problem=f"public.user_analytics is {kind}; only a plain table can be adopted", mend=mend)]


def unfit_columns(found: Found) -> list[Refusal]:
    """Return the columns that are not there, or of a type that we cannot work with."""
    wanted = {
        "id": (ID_TYPES, "bigint generated always as identity"),
        "session_id": (SESSION_ID_TYPES, "text"),
        "timestamp": (TIME_TYPES, "timestamptz default now()"),
        "analytics_data": (DATA_TYPES, "jsonb"),
    }
    refusals: list[Refusal] = []
    for name, (types, as_ours) in wanted.items():
        column = found.column(name)
        quoted = '"timestamp"' if name == "timestamp" else name
        if column is None:
            mend = f"alter table public.user_analytics add column {quoted} {as_ours}"
            refusals.append(Refusal(problem=f"the column {name} is not there", mend=mend))
        elif plain_type(column.type) not in types:
            problem = f"the column {name} is of type {column.type}, and has to be {' or '.join(types)}"
            mend = (
                "make a column of such a type in its place; or give this table another name, and closedloop "
                "migrate makes its own"
            )
            refusals.append(Refusal(problem=problem, mend=mend))
    return refusals


def plain_type(name: str) -> str:
    """Return a type without its length: `character varying(36)`, `timestamp(3) with time zone`."""
    head, bracket, tail = name.partition("(")
    return head + tail.partition(")")[2] if bracket else name


def unfit_rights(found: Found) -> list[Refusal]:
    """Return what our role may not do but has to."""
    table = found.table
    refusals: list[Refusal] = []
    if table.read_only:
        problem = "the database takes no writes: it is read-only or a standby"
        mend = "on Supabase's free plan this is what a database above 500 MB answers: free space first"
        refusals.append(Refusal(problem=problem, mend=mend))
    if not table.owned:
        problem = (
            f"the table belongs to {table.owner}, and the role {table.role} may neither index nor change it"
        )
        mend = f"run closedloop adopt once with a DATABASE_URL of the role {table.owner}"
        refusals.append(Refusal(problem=problem, mend=mend))
    elif not table.may_index:
        problem = f"the role {table.role} may make nothing in the schema public, so no index either"
        mend = f"grant create on schema public to {table.role}"
        refusals.append(Refusal(problem=problem, mend=mend))
    if table.owned and not (table.may_read and table.may_update):
        problem = f"the role {table.role} may not select and update public.user_analytics"
        mend = f"grant select, update on public.user_analytics to {table.role}"
        refusals.append(Refusal(problem=problem, mend=mend))
    return refusals


def wanted_indexes(found: Found, shape: SessionTable) -> list[WantedIndex]:
    """Return the indexes that the statements of sessions.py need for this shape."""
    session = "session_id" if shape.session_id_type == "uuid" else 'session_id collate "C"'
    keys = {"session": (session, "")}
    for name in ("ym_uid", "yclid"):
        key = identifier(name, shape)
        expression = key.removesuffix(' collate "C"')
        keys[name] = (
            key if shape.has_generated else f'({expression}) collate "C"',
            f" where {expression} is not null",
        )
    lead = ("site",) if shape.has_site else ()
    wanted = [
        index_of(found, kind, (*lead, key, '"timestamp" desc nulls last'), where)
        for kind, (key, where) in keys.items()
    ]
    return [index_of(found, "id", ("id",), ""), *wanted]


def index_of(found: Found, kind: str, keys: Sequence[str], where: str) -> WantedIndex:
    """Return one index with what it costs."""
    share = 1.0
    if found.quality is not None and found.quality.rows and where:
        having = found.quality.with_ym_uid if kind == "ym_uid" else found.quality.with_yclid
        share = having / found.quality.rows
    name = PREFIX + kind
    there = found.index(name)
    return WantedIndex(
        name=name,
        sql=f"({', '.join(keys)}){where}",
        keys=len(keys),
        bytes=int(found.rows * share * INDEX_ROW_BYTES[kind]) + 16384,
        seconds=max(1, 2 * found.table.table_size // BUILD_BYTES_PER_S),
        rebuild=there is not None and not serves_as_ours(there, len(keys)),
    )


def serves_as_ours(index: Index, keys: int) -> bool:
    """Return whether an index of our name is whole and the one that we would build."""
    return index.valid and index.keys == keys


def serving(found: Found, shape: SessionTable, wanted: WantedIndex) -> Index | None:
    """Return the index that does the work of `wanted` already: ours, or one of theirs that is as good."""
    ours = found.index(wanted.name)
    if ours is not None:
        return None if wanted.rebuild else ours
    return next((index for index in found.indexes if index.valid and is_as_good(index, shape, wanted)), None)


def is_as_good(index: Index, shape: SessionTable, wanted: WantedIndex) -> bool:
    """Return whether somebody's index answers our queries as well.

    A uuid is found by any index that begins with it, as one session has few rows. Text needs our collation
    and order, so only the very same index will do, `site` in front or not.
    """
    kind = wanted.name.removeprefix(PREFIX)
    if kind == "id" or (kind == "session" and shape.session_id_type == "uuid"):
        column = "id" if kind == "id" else "session_id"
        return index.first_key == column and not index.partial and index.definition.startswith("btree")
    return index.definition in {printed(kind, shape, lead) for lead in ("site, ", "")}


def printed(kind: str, shape: SessionTable, lead: str) -> str:
    """Return our index as PostgreSQL prints it; for `json` nothing that it prints."""
    tail = '"timestamp" DESC NULLS LAST)'
    if kind == "session":
        return f'btree ({lead}session_id COLLATE "C", {tail}'
    if shape.has_generated:
        return f'btree ({lead}{kind} COLLATE "C", {tail} WHERE ({kind} IS NOT NULL)'
    if shape.data_type == "json":
        return ""
    read = f"((analytics_data -> 'ids'::text) ->> '{kind}'::text)"
    return f'btree ({lead}({read}) COLLATE "C", {tail} WHERE ({read} IS NOT NULL)'


def warnings_of(found: Found, shape: SessionTable, sites: Sequence[str]) -> list[str]:
    """Return what does not forbid adoption but should be known before it."""
    return [*warnings_of_columns(found, shape, sites), *warnings_of_rows(found), *warnings_of_build(found)]


def warnings_of_columns(found: Found, shape: SessionTable, sites: Sequence[str]) -> list[str]:
    """Return what is unusual in the shape of the table."""
    lines: list[str] = []
    if not shape.has_site:
        column = found.column("site")
        kind = column.type if column is not None else ""
        lines.append(
            f"A column site of yours is there ({kind}); it is left alone, so this database serves one site."
        )
        others = [site for site in sites if site != "default"]
        if others:
            lines.append(
                f"The configuration has further sites ({', '.join(others)}): give each a database of its own."
            )
    if not any(index.unique and index.valid and index.definition == "btree (id)" for index in found.indexes):
        lines.append("The column id is not declared unique; rows with the same id would get the same goals.")
    if shape.data_type == "json":
        lines.append(
            "analytics_data is json, not jsonb: every value keeps its bytes, but the blanks between the keys "
            "of a session that gets a goal are lost, and finding by ym_uid is slower."
        )
    others = [name for name in found.publications if name != "supabase_realtime"]
    if others and found.column("site") is None and shape.has_site:
        lines.append(
            f"The table is published ({', '.join(others)}): a subscriber stops until it has the column site."
        )
    return lines


def warnings_of_rows(found: Found) -> list[str]:
    """Return what is unusual in the rows."""
    lines: list[str] = []
    if found.table.rows_hidden:
        lines.append(
            f"Row level security hides rows from the role {found.table.role}; {policy_for(found.table.role)}"
        )
    quality = found.quality
    if quality is None or not quality.rows:
        return lines
    if quality.odd_document:
        lines.append(
            f"{quality.odd_document} of {quality.rows} sampled rows hold something else where goals belong, "
            "or what cannot be read; no goal is ever written into such a row."
        )
    if quality.without_id:
        lines.append(
            f"{quality.without_id} of {quality.rows} sampled rows have no id; they cannot be matched."
        )
    return lines


def policy_for(role: str) -> str:
    """Return the statement after which row level security hides no session from our role."""
    return f'run: create policy closedloop on public.user_analytics for all to "{role}" using (true)'


def warnings_of_build(found: Found) -> list[str]:
    """Return what could stop the build of the indexes."""
    timeout_s = found.table.statement_timeout_ms / 1000
    seconds = max(1, 2 * found.table.table_size // BUILD_BYTES_PER_S)
    if found.direct or not timeout_s or seconds * 2 < timeout_s:
        return []
    line = (
        f"A pooler stands before the database, where statement_timeout ({timeout_s:.0f} s) cannot be lifted, "
        f"and the build of an index may take longer; {SESSION_MODE}."
    )
    return [line]
