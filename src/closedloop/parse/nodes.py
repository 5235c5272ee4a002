"""JSON and forms as nodes that keep what parsers lose: digits of numbers, repeated names, their order."""

import json
from collections.abc import Iterable
from typing import Any, TypeAlias
from urllib.parse import quote_plus

import msgspec

from closedloop.parse.bodies import JsonNumber, broken_json

Pairs: TypeAlias = "list[tuple[str, Node]]"
Node: TypeAlias = "str | bool | JsonNumber | list[Node] | JsonObject | None"


class JsonObject(msgspec.Struct, frozen=True):
    """The members of a JSON object in their order, repeated names included."""

    members: Pairs


def parse_json(document: bytes) -> Node:
    """Return JSON with the digits of its numbers and with repeated names, neither of which msgspec keeps."""
    try:
        document.decode()
        msgspec.json.decode(document)
        read: Any = json.loads(
            document, object_pairs_hook=JsonObject, parse_int=JsonNumber, parse_float=JsonNumber
        )
    except (ValueError, RecursionError) as error:
        raise broken_json(document, error) from error
    node: Node = read
    return node


def text_of(node: Node) -> str:
    """Return a scalar as text, several as Tilda joins answers, anything deeper as JSON."""
    match node:
        case str():
            return node
        case JsonNumber():
            return node.text
        case None:
            return ""
        case list() if not any(isinstance(item, list | JsonObject) for item in node):
            return "; ".join(filter(None, map(text_of, node)))
        case _:
            return json_text(node)


def json_text(node: Node) -> str:
    """Return a node as JSON, its numbers as they were written."""
    match node:
        case JsonObject():
            told = (f"{json_text(name)}:{json_text(value)}" for name, value in node.members)
            return "{" + ",".join(told) + "}"
        case list():
            return "[" + ",".join(map(json_text, node)) + "]"
        case JsonNumber():
            return node.text
        case _:
            return msgspec.json.encode(node).decode()


def form_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a form that is read to the same pairs again."""
    return "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)


def _escaped(text: str) -> str:
    # A dash in front would look like multipart to the next reader.
    return quote_plus(text).replace("-", "%2D")
