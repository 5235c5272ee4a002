"""Forms with PHP's brackets, and JSON of the same shape, as one tree of texts; knows no sender."""

import re
from collections.abc import Iterator
from typing import TypeAlias

from closedloop.errors import CallerError
from closedloop.parse.bodies import JsonNumber, query_fields, read_body
from closedloop.parse.nodes import JsonObject, Node, parse_json

Tree: TypeAlias = "dict[str, str | Tree]"

MAX_DEPTH = 32
MAX_FIELDS = 50_000
# Where a scalar stands under a path that holds more: `[note][type]=3` beside `[note][type][uuid]=…`.
OWN = ""
_PARTS = re.compile(r"\[([^\[\]]*)\]?")


def read_tree(body: bytes, content_type: str, *, max_bytes: int) -> Tree:
    """Return `a[b][0][c]=1`, or JSON that says the same, as `{"a": {"b": {"0": {"c": "1"}}}}`.

    Indexes are labels in the order of their arrival, never places; `a[]` gets the next free number. Of two
    values for one path the later counts, as in PHP. A scalar that has to share its place with a container
    stands in it under the empty name. JSON null is absent, other JSON scalars are texts with their digits.
    Raises CallerError for what is no form and no JSON object, TooLargeError.
    Source: docs/protocols/amocrm.md, 1.3 and 1.5; docs/protocols/bitrix24.md, 1.
    """
    told = read_body(body, content_type, max_bytes=max_bytes)
    if told.is_array:
        raise CallerError("body", "is an array where one object was expected")
    if told.objects:
        node = parse_json(told.objects[0])
        tree = _grown(node, 0)
        return tree if isinstance(tree, dict) else {}
    return tree_of((name, value) for name, value in told.fields if isinstance(value, str))


def query_tree(query: bytes) -> Tree:
    """Return the parameters of a query as a tree."""
    return tree_of((name, value) for name, value in query_fields(query) if isinstance(value, str))


def tree_of(pairs: Iterator[tuple[str, str]]) -> Tree:
    """Return the tree of decoded names and values. Raises CallerError when it is too deep or too large."""
    root: Tree = {}
    for number, (name, value) in enumerate(pairs):
        if number >= MAX_FIELDS:
            raise CallerError("body", f"has more than {MAX_FIELDS} fields")
        _put(root, _path(name), value)
    return root


def rows(tree: Tree, *path: str) -> list[tuple[str, Tree]]:
    """Return the containers below a path with their labels, in the order of their arrival."""
    found = branch(tree, *path)
    return [(label, inner) for label, inner in found.items() if isinstance(inner, dict)]


def branch(tree: Tree, *path: str) -> Tree:
    """Return the container at a path, an empty one when there is none."""
    here: str | Tree = tree
    for part in path:
        here = here.get(part, "") if isinstance(here, dict) else ""
    return here if isinstance(here, dict) else {}


def text(tree: Tree, *path: str) -> str | None:
    """Return the scalar at a path, None when there is none; of a shared place its own one."""
    here: str | Tree | None = tree
    for part in path:
        here = here.get(part) if isinstance(here, dict) else None
    if isinstance(here, dict):
        here = here.get(OWN)
    return here if isinstance(here, str) else None


def _path(name: str) -> list[str]:
    head, bracket, rest = name.partition("[")
    if not bracket or not head:
        return [name]
    parts = [head.strip(), *_PARTS.findall(bracket + rest)]
    if len(parts) > MAX_DEPTH:
        raise CallerError(name[:80], "is nested too deeply")
    return parts


def _put(root: Tree, path: list[str], value: str) -> None:
    here = root
    for part in path[:-1]:
        here = _opened(here, part or _next(here))
    last = path[-1] if path[-1] or len(path) == 1 else _next(here)
    standing = here.get(last)
    if isinstance(standing, dict):
        standing[OWN] = value
    else:
        here[last] = value


def _opened(here: Tree, label: str) -> Tree:
    standing = here.get(label)
    if isinstance(standing, dict):
        return standing
    inner: Tree = {} if standing is None else {OWN: standing}
    here[label] = inner
    return inner


def _next(here: Tree) -> str:
    number = len(here)
    while str(number) in here:
        number += 1
    return str(number)


def _grown(node: Node, depth: int) -> "str | Tree | None":
    if depth > MAX_DEPTH:
        raise CallerError("body", "is nested too deeply")
    match node:
        case str():
            return node
        case bool():
            return "1" if node else "0"
        case JsonNumber():
            return node.text
        case JsonObject():
            members = ((name, _grown(inner, depth + 1)) for name, inner in node.members)
        case list():
            members = ((str(index), _grown(inner, depth + 1)) for index, inner in enumerate(node))
        case _:
            return None
    return {name: inner for name, inner in members if inner is not None}
