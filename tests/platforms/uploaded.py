"""Forms with files as the fakes read them, by a reader that shares nothing with whoever wrote them."""

import importlib
import io
from typing import Any, NamedTuple

multipart: Any = importlib.import_module("multipart")  # it has no types


class Part(NamedTuple):
    """One part of a form."""

    name: str
    filename: str | None
    kind: str
    content: bytes


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """Return the parts of a form. Raises ValueError for a body that is none."""
    label, options = multipart.parse_options_header(content_type)
    if label != "multipart/form-data" or "boundary" not in options:
        raise ValueError("no form with files")
    try:
        found = list(multipart.MultipartParser(io.BytesIO(body), options["boundary"]))
    except multipart.MultipartError as error:
        raise ValueError(str(error)) from error
    return [Part(part.name, part.filename, part.content_type, bytes(part.raw)) for part in found]
