"""Bytes of a body or a query to named raw values; numbers stay text, and no field has a meaning here."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from closedloop.errors import CallerError, TooLargeError

MAX_BYTES = 64 * 1024
MAX_ITEMS = 100
_BOM = b"\xef\xbb\xbf"
_ABSENT = msgspec.Raw()
_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])

_BYTE = re.compile(r"\(byte ([0-9]+)\)")
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)(?:"(\s*+:)?|\\?\Z)', re.DOTALL)
_FOREIGN_WORD = re.compile(rb"-?(?:NaN|Infinity)|undefined|None|True|False")
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_EMBEDDED = re.compile(rb'\s*+\[?\s*+\{\s*+"')


class JsonNumber(msgspec.Struct, frozen=True):
    """A number of a JSON document as its sender wrote it: `5000.10`, `1e3`."""

    text: str


class JsonOther(msgspec.Struct, frozen=True):
    """A JSON value that is neither text nor number; `kind` is `an object`, `a list` or `a boolean`."""

    kind: str
    raw: bytes


Value = str | JsonNumber | JsonOther
Field = tuple[str, Value]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body taken apart: the texts of its JSON objects, or the fields of its form, never both.

    An empty body is a form without fields. `is_array` tells one object from a list of one.
    """

    is_array: bool = False
    objects: list[bytes] = msgspec.field(default_factory=list)
    fields: list[Field] = msgspec.field(default_factory=list)


class ObjectReader:
    """Reads the values of some keys of a JSON object and passes over all others; JSON null is absent."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        names = {f"key_{number}": key for number, key in enumerate(keys)}
        shape = msgspec.defstruct("Keys", [(name, msgspec.Raw, _ABSENT) for name in names], rename=names)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)

    def __call__(self, document: bytes) -> list[Field]:
        """Return the fields of `document` in the order of `keys`; raises CallerError when it is broken."""
        try:
            found = msgspec.structs.astuple(self.decoder.decode(document))
        except msgspec.ValidationError as error:
            raise CallerError("body", "is not a JSON object") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise broken_json(document, error) from error
        return [
            (key, value)
            for key, raw in zip(self.keys, found, strict=True)
            if raw is not _ABSENT and (value := _json_value(key, bytes(raw))) is not None
        ]


def read_body(body: bytes, content_type: str, *, max_bytes: int = MAX_BYTES) -> Body:
    """Return the parts of a body, told apart by its content: labels of integrators are often wrong.

    What begins with `{` or `[` is JSON, even in a form's only field (`data=%7B"session_id"...`). The
    rest is multipart if so labelled, else a form. Raises CallerError for broken JSON or multipart, bad
    UTF-8, an array that is empty or of over 100 items; TooLargeError above `max_bytes`.
    Source: docs/protocols/integrators.md, 2.
    """
    if len(body) > max_bytes:
        raise TooLargeError("body", f"is larger than {max_bytes // 1024} KiB")
    body = body.removeprefix(_BOM)
    start = body.lstrip()[:1]
    if start in (b"{", b"["):
        return _json_body(body)
    if not start:
        return Body()
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.endswith(("/json", "+json")):
        raise CallerError("body", "is labelled JSON and begins with neither { nor [")
    if media_type == "multipart/form-data":
        pairs = list(_multipart_pairs(body, content_type))
    else:
        pairs = _pairs(body)
    if len(pairs) == 1 and (document := _embedded(*pairs[0])) is not None:
        return _json_body(document)
    return Body(fields=list(_decoded(pairs)))


def query_fields(query: bytes) -> list[Field]:
    """Return the decoded parameters of a query in their order; raises CallerError for bad UTF-8."""
    return list(_decoded(_pairs(query))) if query else []


def without_parameter(query: bytes, name: bytes) -> bytes:
    """Return the query as it came, less every parameter that is called `name`, however it is escaped."""
    if not query:
        return query
    return b"&".join(
        pair for pair in query.split(b"&") if _unescaped(pair.partition(b"=")[0]).strip() != name
    )


def broken_json(document: bytes, error: Exception) -> CallerError:
    """Return the error that says where the JSON ends to be JSON, under the last key before that place."""
    if isinstance(error, RecursionError):
        return CallerError("body", "is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        place, problem = error.start, "is not UTF-8"
    else:
        told = _BYTE.search(str(error))
        place, problem = int(told[1]) if told else len(document), "breaks the JSON"
    if half := _HALF_PAIR.search(document, 0, place):  # msgspec tells the place behind it, or none
        place, problem = half.start(), "holds half of a Unicode surrogate pair"
    before = document[:place]
    keys = [match[1] for match in _STRING.finditer(before) if match[2]]
    word = _FOREIGN_WORD.match(document, place)
    return CallerError(
        (keys[-1].decode(errors="replace")[:80] if keys else "") or "body",
        f"{problem} at position {len(before.decode(errors='replace'))}",
        shown=word[0].decode() if word else "",
    )


def _json_body(document: bytes) -> Body:
    try:
        document.decode()
        if not document.lstrip().startswith(b"["):
            return Body(objects=[document])
        items = [bytes(raw) for raw in _LIST.decode(document)]
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise broken_json(document, error) from error
    if not items:
        raise CallerError("body", "is an empty array")
    if len(items) > MAX_ITEMS:
        raise CallerError("body", f"is an array of more than {MAX_ITEMS} items")
    return Body(is_array=True, objects=items)


def _json_value(key: str, raw: bytes) -> Value | None:
    match raw[:1]:
        case b'"':
            try:
                return _TEXT.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise CallerError(key, "is not valid Unicode text") from error
        case b"n":
            return None
        case b"{":
            return JsonOther("an object", raw)
        case b"[":
            return JsonOther("a list", raw)
        case b"t" | b"f":
            return JsonOther("a boolean", raw)
        case _:
            return JsonNumber(raw.decode())


def _pairs(form: bytes) -> list[tuple[bytes, bytes]]:
    parts = (part.partition(b"=") for part in form.split(b"&") if part)
    return [(_unescaped(name), _unescaped(value)) for name, _, value in parts]


def _unescaped(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


def _decoded(pairs: list[tuple[bytes, bytes]]) -> Iterator[Field]:
    for raw_name, raw_value in pairs:
        name = raw_name.decode(errors="replace").strip()
        try:
            yield name, raw_value.decode()
        except UnicodeDecodeError as error:
            raise CallerError(name[:80], f"is not UTF-8 at position {error.start}") from error


def _embedded(name: bytes, value: bytes) -> bytes | None:
    """Return the JSON document that is a form's only field, as its value or, escaped, in place of a name."""
    for candidate in (value, name):
        if _EMBEDDED.match(candidate):
            return candidate
    return None


def _multipart_pairs(body: bytes, content_type: str) -> Iterator[tuple[bytes, bytes]]:
    # Imported here because hardly anyone sends it, and it loads tempfile.
    import multipart  # type: ignore[import-untyped] # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    told = _BOUNDARY.search(content_type)
    boundary = (told[1] or told[2]).encode(errors="replace") if told else b""
    name: bytes | None = None
    value = b""
    try:
        with multipart.PushMultipartParser(boundary) as parser:
            for event in parser.parse(body):
                if event is None:
                    if name is not None:
                        yield name, value
                elif isinstance(event, multipart.MultipartSegment):
                    name = None if event.filename is not None else (event.name or "").encode()
                    value = b""
                else:
                    value += event
    except multipart.MultipartError as error:
        raise CallerError("body", f"is broken multipart: {error}") from error
