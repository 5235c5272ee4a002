"""public.user_analytics: the only file that knows its shape, ours or adopted, and how a session is found.

The statements of the store are written once, with `$…` where the shape matters; `fill` puts in the
fragments of one shape. Identifiers in our indexes are compared under the collation "C".
"""

from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

import msgspec
from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from closedloop.errors import MigrationError, NotAdoptedError

# What `json` keeps and no function of PostgreSQL reads: \u0000, and one half of a surrogate pair (a script
# cut a text in the middle of an emoji). Without this guard an index over such a document would refuse the
# row, and one such row would break every statement that passes over it. Most texts have no \u, and cost no
# regex.
HALF_PAIR = (
    r"\\u(0000|[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F]))"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
# A number of `json` that may be beyond jsonb.
HUGE_NUMBER = r"[:\[,]\s*-?[0-9.]+[eE]\+?[0-9]{6}"
UUID_SHAPE = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


class SessionTable(msgspec.Struct, frozen=True, kw_only=True):
    """What public.user_analytics looks like here, as `migrate` or `adopt` recorded it."""

    id_type: str  # bigint, integer, uuid or text
    session_id_type: str  # text, character varying or uuid
    data_type: str  # jsonb or json
    has_site: bool  # False when a column `site` of somebody else stands in the way: one site only
    has_generated: bool  # ym_uid and yclid are columns; else index expressions over the document

    def row_id(self, session_row: str) -> int | str:
        """Return the id of a session as its JSON value: a number where the column is one."""
        return int(session_row) if self.id_type in {"bigint", "integer", "smallint"} else session_row


_READ = """
    select id_type, session_id_type, data_type, has_site, has_generated
      from closedloop.session_table
"""

_EXISTS = """
    select to_regclass('closedloop.session_table') is not null as migrated
"""


async def read_session_table(conn: AsyncConnection[Any]) -> SessionTable:
    """Return the recorded shape. Raises MigrationError or NotAdoptedError with the command that helps."""
    async with conn.cursor(row_factory=class_row(SessionTable)) as cursor:
        await cursor.execute(_READ)
        return known_shape(await cursor.fetchone())


def read_session_table_now(conn: Connection[Any]) -> SessionTable:
    """Return the recorded shape over a blocking connection; errors as `read_session_table`."""
    migrated = conn.execute(_EXISTS).fetchone()
    if migrated is None or not migrated[0]:
        raise MigrationError("the schema closedloop is not there; run: closedloop migrate")
    with conn.cursor(row_factory=class_row(SessionTable)) as cursor:
        return known_shape(cursor.execute(_READ).fetchone())


def known_shape(found: SessionTable | None) -> SessionTable:
    """Return `found`, or raise NotAdoptedError when nobody has recorded a shape yet."""
    if found is None:
        raise NotAdoptedError("public.user_analytics stands there but is not adopted; run: closedloop adopt")
    return found


def load_statement(name: str, table: SessionTable) -> bytes:
    """Return the statement `name`.sql of this package for the shape of `table`."""
    text = (resources.files("closedloop.store") / f"{name}.sql").read_text()
    return fill(text, table)


def fill(statement: str, table: SessionTable, **own: str) -> bytes:
    """Return `statement` with its own fragments, then those of this shape, in place of its `$…`."""
    shape = shape_fragments(table)
    find_session = Template(_FIND_SESSION).substitute(shape)
    filled = Template(Template(statement).safe_substitute(own)).substitute(shape, find_session=find_session)
    return filled.encode()


def shape_fragments(table: SessionTable) -> Mapping[str, str]:
    """Return the fragments that depend on the shape: all are constants of this file."""
    return {
        "site_is": "u.site = %(site)s" if table.has_site else "true",
        "session_id": (
            f"u.session_id = (case when i.session_id ~ '{UUID_SHAPE}' then i.session_id::uuid end)"
            if table.session_id_type == "uuid"
            else 'u.session_id collate "C" = i.session_id'
        ),
        "ym_uid": identifier("ym_uid", table, row="u."),
        "yclid": identifier("yclid", table, row="u."),
        "to_id": f"wanted.session_row::{table.id_type}",
        "id_type": table.id_type,
        "identifiers": Template(_IDENTIFIERS).substitute(session_id=_spelt(table)),
        "session_id_any": _any_session(table),
        "site_column": "site," if table.has_site else "",
        "site_value": "%(site)s," if table.has_site else "",
        "new_session_id": "i.session_id::uuid" if table.session_id_type == "uuid" else "i.session_id",
        **(_document_fragments() if table.data_type == "jsonb" else _json_fragments()),
    }


def readable_json(row: str) -> str:
    """Return the condition that PostgreSQL's functions can read a document of type json."""
    text = f"{row}analytics_data::text"
    return f"(strpos({text}, '\\u') = 0 or {text} !~ '{HALF_PAIR}')"


def _document_fragments() -> Mapping[str, str]:
    document = "u.analytics_data"
    return {
        "document": document,
        "appended": Template(_APPENDED).substitute(document=document),
        "replaced": f"jsonb_set({document}, %(path)s::text[], %(image)s::jsonb)",
        "removed": f"{document} #- %(path)s::text[]",
        "fits": Template(_FITS).substitute(document=document),
        "visit_document": document,
        "document_is_odd": f"not ({Template(_FITS_ALL).substitute(document='document')})",
        "as_data": "",
    }


def _json_fragments() -> Mapping[str, str]:
    """Return the fragments for `json`: its text is cut and joined, never read and written anew."""
    goals = f"{_ACTIONS} -> 'yandex_goals_triggered'"
    readable = readable_json("u.")
    document = Template(_JSON_DOCUMENT).substitute(readable=readable, huge=HUGE_NUMBER)
    fits = Template(_FITS).substitute(document=document)
    flagged = _with_key(_ACTIONS, "conversion_flag", "'true'")
    return {
        "document": document,
        "appended": _with_goals(f"{flagged}::json", Template(_JSON_APPENDED).substitute(goals=goals)),
        "replaced": _with_goals(_ACTIONS, Template(_JSON_REPLACED).substitute(goals=goals)),
        "removed": _with_goals(_ACTIONS, Template(_JSON_REMOVED).substitute(goals=goals)),
        "fits": Template(_JSON_FITS).substitute(readable=readable, huge=HUGE_NUMBER, fits=fits),
        # Only rows that the tracker has made: to write a script's own document anew would change its text.
        "visit_document": Template(_JSON_VISIT).substitute(readable=readable),
        "document_is_odd": "document is null",
        "as_data": "::json",
    }


def _with_goals(actions: str, goals: str) -> str:
    changed = _with_key(actions, "yandex_goals_triggered", goals)
    return f"{_with_key(_WHOLE, 'target_actions', changed)}::json"


def _with_key(json_object: str, key: str, value: str) -> str:
    return Template(_JSON_WITH_KEY).substitute(object=json_object, key=key, value=value)


def _spelt(table: SessionTable) -> str:
    """Return a conversion's session id as the session table would spell it: a uuid has several spellings."""
    if table.session_id_type == "uuid":
        return f"case when session_id ~ '{UUID_SHAPE}' then session_id::uuid::text else session_id end"
    return "session_id"


def _any_session(table: SessionTable) -> str:
    if table.session_id_type == "uuid":
        values = f"select value::uuid from waits where value ~ '{UUID_SHAPE}'"  # noqa: S608 - a constant
        return f"u.session_id = any(array({values}))"
    return 'u.session_id collate "C" = any(array(select value from waits order by value))'


def identifier(name: str, table: SessionTable, *, row: str = "") -> str:
    """Return how `ym_uid` or `yclid` is read from a row: the expression that its index has, too."""
    if table.has_generated:
        return f'{row}{name} collate "C"'
    read = f"({row}analytics_data -> 'ids' ->> '{name}')"
    if table.data_type == "json":
        read = f"(case when {readable_json(row)} then {read} end)"
    return f'{read} collate "C"'


# By certainty, first that answers. `i` is the conversion that looks for its session; an identifier that it
# does not have is null and costs no probe. A rounded ym_uid counts only if exactly one visitor fits.
_FIND_SESSION = """
    select session_row::text as session_row, rule
      from (
        (select u.id::text as session_row, 'session_id' as rule, 1 as certainty
           from public.user_analytics u
          where $site_is and $session_id
          order by u."timestamp" desc nulls last
          limit 1)
        union all
        (select u.id::text, 'ym_uid', 2
           from public.user_analytics u
          where $site_is and $ym_uid = i.ym_uid
          order by u."timestamp" desc nulls last
          limit 1)
        union all
        (select u.id::text, 'ym_uid_rounded', 3
           from public.user_analytics u
          where $site_is and $ym_uid = (
                select min($ym_uid)
                  from public.user_analytics u
                 where $site_is and $ym_uid between i.ym_uid_low and i.ym_uid_high
                having min($ym_uid) = max($ym_uid))
          order by u."timestamp" desc nulls last
          limit 1)
        union all
        (select u.id::text, 'yclid', 4
           from public.user_analytics u
          where $site_is and $yclid = i.yclid
          order by u."timestamp" desc nulls last
          limit 1)
        union all
        (select known.session_row, known.kind, 5
           from jsonb_array_elements(i.identifiers) as pair
           join closedloop.identity known
             on known.site = %(site)s and known.kind = pair ->> 'kind' and known.value = pair ->> 'value'
          order by case known.kind when 'ta_code' then 1 when 'phone' then 3 when 'email' then 3 else 2 end,
                known.seen_at desc
          limit 1)
        ) candidate
     order by certainty
     limit 1
"""

# Everything that a conversion `told` could be found by, one row each.
_IDENTIFIERS = """
    select kind, value
      from (values ('session_id', $session_id), ('ym_uid', ym_uid), ('ym_uid_rounded', ym_uid_low),
                   ('yclid', yclid)) as own (kind, value)
     where value is not null
    union
    select pair ->> 'kind', pair ->> 'value'
      from jsonb_array_elements(identifiers) as pair
"""

_APPENDED = """jsonb_set(
           case when jsonb_typeof($document) = 'object' then $document else '{}'::jsonb end,
           '{target_actions}',
           jsonb_set(jsonb_set(
               case when jsonb_typeof($document -> 'target_actions') = 'object'
                    then $document -> 'target_actions' else '{}'::jsonb end,
               '{conversion_flag}', 'true'),
               '{yandex_goals_triggered}',
               case when jsonb_typeof($document #> '{target_actions,yandex_goals_triggered}') = 'array'
                    then $document #> '{target_actions,yandex_goals_triggered}' else '[]'::jsonb end
               || wanted.images))"""

# A document in which something else stands where the goal list belongs is never overwritten.
_FITS = """coalesce(jsonb_typeof($document), 'null') in ('object', 'null')
           and coalesce(jsonb_typeof($document -> 'target_actions'), 'null') in ('object', 'null')
           and coalesce(jsonb_typeof($document #> '{target_actions,yandex_goals_triggered}'), 'null')
               in ('array', 'null')"""

_FITS_ALL = (
    _FITS
    + """
           and coalesce(jsonb_typeof($document -> 'ids'), 'null') in ('object', 'null')"""
)

_JSON_VISIT = """(case when not $readable then null
           when json_typeof(u.analytics_data -> 'visit') = 'object' then u.analytics_data::jsonb end)"""

# Only what may hold goals is made jsonb, and only where it can be read.
_JSON_DOCUMENT = """(case when not $readable then null
           when (u.analytics_data -> 'target_actions')::text ~ '$huge' then null
           else jsonb_build_object('target_actions', u.analytics_data -> 'target_actions') end)"""

_JSON_FITS = """(case when not $readable then false
           when coalesce(json_typeof(u.analytics_data), 'null') not in ('object', 'null') then false
           when (u.analytics_data -> 'target_actions')::text ~ '$huge' then false
           else $fits end)"""

_WHOLE = """(case when json_typeof(u.analytics_data) = 'object' then u.analytics_data else '{}'::json end)"""
_ACTIONS = """(case when json_typeof(u.analytics_data -> 'target_actions') = 'object'
                    then u.analytics_data -> 'target_actions' else '{}'::json end)"""

# Values are text that is passed on as it came; only what stands between the keys is written anew.
_JSON_WITH_KEY = """(select '{' || string_agg(
                   to_json(part.key) || ':'
                   || case part.key when '$key' then $value else part.value::text end,
                   ',' order by part.place) || '}'
              from (select each.key, each.value, each.place
                      from json_each($object) with ordinality as each (key, value, place)
                     union all
                    select '$key', null, 2147483647
                     where $object -> '$key' is null) part)"""

_JSON_APPENDED = """case when json_array_length(
                        case when json_typeof($goals) = 'array' then $goals else '[]' end) > 0
                   then left(rtrim(($goals)::text, E' \\n\\r\\t'), -1) || ', '
                        || substr(wanted.images::text, 2)
                   else wanted.images::text end"""

_JSON_REPLACED = """(select '[' || string_agg(
                   case goal.place when (%(path)s::text[])[3]::bigint + 1 then %(image)s::jsonb::text
                        else goal.value::text end, ', ' order by goal.place) || ']'
              from json_array_elements($goals) with ordinality as goal (value, place))"""

_JSON_REMOVED = """(select '[' || coalesce(string_agg(goal.value::text, ', ' order by goal.place), '') || ']'
              from json_array_elements($goals) with ordinality as goal (value, place)
             where goal.place <> (%(path)s::text[])[3]::bigint + 1)"""
