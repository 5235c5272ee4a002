"""Texts with macros such as `{value_int}`: what each stands for, and how it is escaped where it stands."""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC
from decimal import ROUND_HALF_UP
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from closedloop.deliver.hashing import sha256_of
from closedloop.domain.delivery import Sale
from closedloop.domain.ids import CLICK_IDS
from closedloop.domain.money import decimal_text
from closedloop.domain.tables import nearest

Place: TypeAlias = Literal["url", "header", "json", "form", "xml", "text"]

CLICK_ID = "click_id"
_MACRO = re.compile(r"\{([A-Za-z_]\w*(?::[\w.-]+)?)\}", re.ASCII)
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# What a sample says in a check: a text that breaks whatever forgets to escape it.
_SAMPLE_TEXT = 'a"b\\c&d<é'
_SAMPLE_NUMBER = "5"

_Source: TypeAlias = Callable[[Sale], str | None]

NUMBERS: Mapping[str, _Source] = {
    "value": lambda sale: decimal_text(sale.value),
    "value_int": lambda sale: str(int(sale.value.to_integral_value(ROUND_HALF_UP))),
    "revision": lambda sale: str(sale.revision),
    "unix_time": lambda sale: str(int(sale.occurred_at.timestamp())),
    "unix_ms": lambda sale: str(int(sale.occurred_at.timestamp() * 1000)),
}
TEXTS: Mapping[str, _Source] = {
    "currency": lambda sale: sale.currency,
    "goal": lambda sale: sale.goal,
    "deal_id": lambda sale: sale.deal_id,
    "order_id": lambda sale: sale.order_id,
    "conversion_id": lambda sale: str(sale.conversion_id),
    "site": lambda sale: sale.site,
    "time": lambda sale: sale.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "phone_sha256": lambda sale: _hashed(sale.phones),
    "email_sha256": lambda sale: _hashed(sale.emails),
}
IDS = ("ym_uid", "session_id", "user_id", "fbp", "fbc", "ga_uid", "ga_session")
# What a sale does not know: the destination tells it.
WORDS = ("event", "token")
MACROS = (*NUMBERS, *TEXTS, *IDS, *WORDS)


def macros_in(*templates: str) -> list[str]:
    """Return the macros of texts without their braces, each once: `["value_int", "click_id:rb_clickid"]`."""
    return list(dict.fromkeys(name for text in templates for name in _MACRO.findall(text)))


def values_of(sale: Sale, macros: Iterable[str], words: Mapping[str, str]) -> dict[str, str | None]:
    """Return what each macro stands for in this sale, None for what the sale does not have.

    `words` are the values of `event` and `token`. `value_int` is rounded half up. A value of dots only is
    none: in a path it would lead elsewhere.
    """
    return {name: _usable(_value(name, sale, words)) for name in macros}


def fill(template: str, place: Place, values: Mapping[str, str | None]) -> str:
    """Return a text with its macros replaced, escaped so that no value ends what it stands in."""
    return _MACRO.sub(lambda found: _escaped(values.get(found[1]) or "", place), template)


def sample(template: str, place: Place) -> str:
    """Return a text filled with the worst that may come: quotes, backslashes, no ASCII."""
    told = {name: _SAMPLE_NUMBER if name in NUMBERS else _SAMPLE_TEXT for name in macros_in(template)}
    return fill(template, place, told)


def template_mistakes(template: str, *, braces: bool = False) -> Iterator[str]:
    """Yield what is wrong with the macros of a text; `braces`: it may have others of its own, as JSON has."""
    for name in macros_in(template):
        kind, _, argument = name.partition(":")
        if kind == CLICK_ID:
            yield from _click_id_mistakes(argument)
        elif argument or kind not in MACROS:
            hint = nearest(kind, MACROS) or f"; known are: {', '.join((*MACROS, 'click_id:NAME'))}"
            yield f"has an unknown macro {{{name}}}{hint}"
    if not braces and re.search(r"[{}]", _MACRO.sub("", template)):
        yield "has a brace that belongs to no macro such as {value}"


def _click_id_mistakes(name: str) -> Iterator[str]:
    """Yield what is wrong with the name of a click id; one that we do not collect may be there anyway."""
    if not name:
        yield f"must name the click id: {{click_id:yclid}}; known are: {', '.join(CLICK_IDS)}"
    elif name not in CLICK_IDS and (hint := nearest(name, CLICK_IDS)):
        yield f"has an unknown click id {name!r}{hint}"


def _value(name: str, sale: Sale, words: Mapping[str, str]) -> str | None:
    kind, _, argument = name.partition(":")
    if kind == CLICK_ID:
        return sale.ids.get(argument)
    if kind in words:
        return words[kind]
    source = NUMBERS.get(kind) or TEXTS.get(kind)
    return source(sale) if source else sale.ids.get(kind)


def _usable(value: str | None) -> str | None:
    return value if value and value.strip(".") else None


def _escaped(value: str, place: Place) -> str:
    match place:
        case "url" | "form":
            return quote(value, safe="")
        case "header":
            return "".join(sign if " " <= sign <= "~" else quote(sign, safe="") for sign in value)
        case "json":
            return msgspec.json.encode(value).decode()[1:-1]
        case "xml":
            return html.escape(_NOT_XML.sub("", value))
        case "text":
            return value


def _hashed(contacts: Iterable[str]) -> str | None:
    """Return the SHA-256 of the first contact as hexadecimal digits: of `+79001234567`, of `a@b.example`."""
    first = next(iter(contacts), None)
    return None if first is None else sha256_of(first)
