"""Where in a CRM's fields and comments an identifier of the visitor hides; knows no CRM, refuses nothing."""

# ruff: noqa: RUF001 - owners name their fields in Russian

import re
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

from closedloop.domain.deal import Finding
from closedloop.domain.ids import CLICK_IDS, MAX_CLICK_ID, MAX_DIGITS, MESSENGER_CODE, find_code
from closedloop.parse.contacts import find_email, find_phone
from closedloop.parse.fields import MAX_TEXT, is_nothing, trimmed

MAX_SEARCHED = 20_000
SESSION = "session_id"
VISITOR = "ym_uid"
# Shorter ones are numbers of orders and phones (docs/protocols/amocrm.md, 1.5; metrika-tag.md, 2).
_FEWEST_DIGITS = 15
_FEWEST_CHARACTERS = 4
_LONGEST_NAME = 80

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_NO_WORD = re.compile(r"[^!-~]|[<>/%=:\"']")  # what no id of a session has in it
_TOKEN = re.compile(r"[a-zа-яё]+|[0-9]+", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-zа-яё0-9])(?=[A-ZА-ЯЁ])")
# Only whole entities: `&region_name=` of an address is none.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,31});", re.IGNORECASE)
_CLICK_NAME = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(CLICK_IDS)})(?![a-z0-9])", re.IGNORECASE)
_CLICK = re.compile(rf"(?=[^0-9]*[0-9])[A-Za-z0-9_.~:+=\-]{{1,{MAX_CLICK_ID}}}")

_ID_WORDS = frozenset({"id", "uid", "uuid", "guid", "ид", "айди", "идентификатор", "номер"})
_SESSION_WORDS = frozenset({"session", "сессия", "сессии", "сессий"})
_SESSION_NAMES = frozenset({"sessionid", "tasessionid", "sessionuuid", "sessionuid"})
_VISITOR_NAMES = frozenset({"ymuid", "ymclientid", "clientid", "yaclientid", "yandexclientid"})
_METRICA_WORDS = frozenset({"metrika", "metrica", "метрика", "метрики", "метрике", "ym"})
# What may stand around the one word that counts: prefixes of codes, and where the field was filled.
_FILLING = frozenset(
    {"uf", "crm", "ta", "tilda", "тильда", "тильды", "web", "site", "сайт", "сайта", "сайте"}
    | {"field", "поле", "hidden", "скрытое", "visitor", "посетителя"}
)
# Other programs have sessions and clients of their own.
_FOREIGN = frozenset(
    {"roistat", "calltouch", "ct", "comagic", "callibri", "mango", "uis", "jivo", "sipuni"}
    | {"php", "phpsessid", "ga", "google", "amo", "bitrix"}
)
_NO_SESSION = frozenset({"true", "false", "test", "empty"})

# What is searched for in addresses and in running text, by the names that programs give it.
_CODED = {"ta_session_id": SESSION, SESSION: SESSION, "_ym_uid": VISITOR, VISITOR: VISITOR} | {
    name: name for name in CLICK_IDS
}
_PAIR = re.compile(
    rf"(?<![\w-])({'|'.join(_CODED)})[\"']?[ \t]{{0,3}}[=:][ \t]{{0,3}}[\"']?([^\s\"'&;,|<>()\[\]{{}}#]+)",
    re.IGNORECASE,
)
_LINE_END = re.compile(
    r"<(?:br|/?p|/?div|/?li|/?tr)\b[^<>]{0,200}>|\[/?(?:p|br|list|\*)\]|[\r\n;|]", re.IGNORECASE
)
_TAG = re.compile(r"<[a-z/!][^<>]{0,1000}>|\[/?[a-z]+(?:=[^\[\]\n]{0,1000})?\]", re.IGNORECASE)
_NAME_END = re.compile(r"[:=]|\s[-–—]\s")


class Rank(IntEnum):
    """How certain a place is, best first."""

    CONFIGURED = 0  # the field that the owner named
    NAMED = 1  # a field called like the identifier
    ADDRESS = 2  # a parameter of an address in a field
    TEXT = 3  # a comment
    GUESSED = 4  # a UUID in a field of another name
    MARK = 5  # a UUID in a UTM field


class Candidate(NamedTuple):
    """A finding and how certain its place is."""

    rank: Rank
    finding: Finding


def find_in_fields(
    fields: Iterable[tuple[str, str]], place: str, *, session_field: str | None = None
) -> list[Finding]:
    """Return the identifiers among fields (`("UF_CRM_SESSION_ID", "…")`), best first, each once.

    `place` is what the fields are of (`"deal 662"`); `session_field` names the owner's choice in any
    spelling. A field with a code and a label is given once under each. Values that are empty, words for
    nothing, or no such identifier are passed over. Source: docs/protocols/bitrix24.md, 4; amocrm.md, 1.4.
    """
    return best_first(field_candidates(fields, place, session_field=session_field))


def find_in_text(text: str, place: str) -> list[Finding]:
    """Return the identifiers in a comment, best first, each once; `place` as it is: `"lead 365, comment"`.

    Read are lines `name: value`, `name=value` anywhere, addresses, and codes of messengers, in plain text,
    BBCode and HTML. Source: docs/protocols/bitrix24.md, 4; docs/protocols/tilda.md, 9.
    """
    return best_first(text_candidates(text, place))


def best_first(candidates: Iterable[Candidate]) -> list[Finding]:
    """Return the findings by certainty, in the given order within one rank, each value once."""
    ordered = sorted(candidates, key=lambda candidate: candidate.rank)
    kept: dict[tuple[str, str], Finding] = {}
    for _, finding in ordered:
        kept.setdefault((finding.kind, finding.value), finding)
    return list(kept.values())


def field_candidates(
    fields: Iterable[tuple[str, str]], place: str, *, session_field: str | None = None
) -> Iterator[Candidate]:
    """Yield what find_in_fields finds with its ranks, so that several objects can be sorted together."""
    for name, raw in fields:
        text = trimmed(raw[:MAX_SEARCHED])
        if is_nothing(text) or "\0" in text:
            continue
        at = f"{place}, {name}"
        is_configured = session_field is not None and is_same_name(name, session_field)
        if is_configured and _is_plausible(SESSION, text):
            yield _candidate(Rank.CONFIGURED, SESSION, text, at)
        elif (kind := kind_of(name)) is not None and _is_plausible(kind, text):
            yield _candidate(Rank.NAMED, kind, text, at)
        elif _is_uuid(text):
            yield _candidate(Rank.MARK if _is_mark(name) else Rank.GUESSED, SESSION, text, at)
        yield from _coded(text, at, Rank.ADDRESS)


def text_candidates(text: str, place: str) -> Iterator[Candidate]:
    """Yield what find_in_text finds with its ranks."""
    plain = _unescaped(text[:MAX_SEARCHED].replace("\0", ""))
    yield from _coded(plain, place, Rank.TEXT)
    for name, value in _lines(plain):
        kind = kind_of(name)
        if kind is not None and _is_written(kind, value):
            yield _candidate(Rank.TEXT, kind, value, place)
        elif _is_uuid(value):
            yield _candidate(Rank.GUESSED, SESSION, value, place)


def contact_candidates(fields: Iterable[tuple[str, str]], place: str) -> Iterator[Candidate]:
    """Yield every phone (E.164) and e-mail (lower case) of fields that are called so.

    Only for fields about the visitor: a deal has phones of managers, too.
    """
    for name, text in fields:
        found = {"phone": find_phone({name: text}), "email": find_email({name: text})}
        for kind, value in found.items():
            if value is not None:
                yield _candidate(Rank.NAMED, kind, value, f"{place}, {name}")


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str | None:
    """Return what a field of this name holds: session_id, ym_uid, ta_code, a click id; None for others.

    `"UF_CRM_TA_SESSION_ID"` and `"ID сессии"` are session_id, `"Client ID Метрики"` is ym_uid.
    """
    if len(name) > _LONGEST_NAME:
        return None
    if click := _CLICK_NAME.search(name):
        return click[0].casefold()
    tokens = _tokens(name)
    if tokens & _FOREIGN or _is_mark(name):
        return None
    rest = tokens - _FILLING
    has_id = bool(tokens & _ID_WORDS)
    if rest & _SESSION_NAMES or (tokens & _SESSION_WORDS and (has_id or len(rest) == 1)):
        return SESSION
    if rest & _VISITOR_NAMES or (has_id and (tokens & _METRICA_WORDS or "client" in tokens)):
        return VISITOR
    return MESSENGER_CODE if {"ta", "code"} <= tokens else None


def is_same_name(one: str, other: str) -> bool:
    """Tell whether two spellings are one name: `UF_CRM_17` and `ufCrm_17`, `Session ID` and `session_id`."""
    return one == other or "" != _folded(one) == _folded(other)


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _tokens(name: str) -> set[str]:
    """Return the words of a name, numbers left out: `UF_CRM_5_sessionId` is uf, crm, session, id."""
    words = _TOKEN.findall(_HUMP.sub(" ", name) if name != name.upper() else name)
    return {word.lower() for word in words if not word.isdigit()}


def _is_mark(name: str) -> bool:
    return "utm" in _tokens(name)


def _is_plausible(kind: str, text: str) -> bool:
    if kind == SESSION:
        return _NO_WORD.search(text) is None and _says_something(text) and find_code(text) is None
    if kind == VISITOR:
        digits = range(_FEWEST_DIGITS, MAX_DIGITS + 1)
        return text.isascii() and text.isdigit() and len(text) in digits and text[0] != "0"
    return kind in CLICK_IDS and _CLICK.fullmatch(text) is not None


def _says_something(text: str) -> bool:
    is_long_enough = _FEWEST_CHARACTERS <= len(text) <= MAX_TEXT
    return is_long_enough and text.lower() not in _NO_SESSION and len(set(filter(str.isalnum, text))) > 1


def _is_written(kind: str, text: str) -> bool:
    """Tell an id in running text, where a word may follow a name by chance, from that word."""
    return not is_nothing(text) and _is_plausible(kind, text) and any(map(str.isdigit, text))


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None and _says_something(text)


def _coded(text: str, place: str, rank: Rank) -> Iterator[Candidate]:
    """Yield what stands in a text as `session_id=…` or `?yclid=…`, and the code of a messenger link."""
    plain = _unescaped(text)
    for version in (plain, unquote(plain)) if "%" in plain else (plain,):
        for name, value in _PAIR.findall(version):
            kind = _CODED[name.casefold()]
            if _is_written(kind, value):
                yield _candidate(rank, kind, value, place)
    if (code := find_code(plain)) is not None:
        yield _candidate(rank, MESSENGER_CODE, code, place)


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda entity: unescape(entity[0]), text) if "&" in text else text


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values of a comment's lines; the value may stand alone in the line below its name."""
    lines = [trimmed(_TAG.sub(" ", line)) for line in _LINE_END.split(text)]
    lines = [line for line in lines if line]
    for number, line in enumerate(lines):
        name, *told = _NAME_END.split(line, maxsplit=1)
        value = trimmed(told[0]) if told else ""
        if not value and number + 1 < len(lines):
            value = lines[number + 1]
        if not is_nothing(value):
            yield trimmed(name), value


def _candidate(rank: Rank, kind: str, value: str, place: str) -> Candidate:
    return Candidate(rank, Finding(kind=kind, value=value, place=place))
