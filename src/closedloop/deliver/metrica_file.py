"""The files that Yandex Metrica takes: CSV in UTF-8, as the one part of a form."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal

from closedloop.domain.money import decimal_text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_CENT = Decimal("0.01")


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    r"""Return a file: quoted by `"` where needed, lines end in `\n`, no BOM, no control characters in a cell.

    Source: docs/protocols/destinations/yandex-metrica.md, 2.1.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def cell(text: str) -> str:
    """Return a text as it stands in a cell: control characters are blanks, and none stand around it."""
    return _CONTROL.sub(" ", text).strip()


def price(value: Decimal) -> str:
    """Return a sum with a decimal point and at most two places: `"5000"`, `"123.45"`.

    Source: docs/protocols/destinations/yandex-metrica.md, 2.1.
    """
    return decimal_text(value.quantize(_CENT, ROUND_HALF_UP))


def form_of(content: bytes, name: str) -> tuple[str, bytes]:
    """Return the content type and the body of a form with one part `file`; `name` is the file's.

    The same content under the same name gives the same bytes.
    """
    boundary = f"closedloop-{name.partition('.')[0]}"
    while boundary.encode() in content:
        boundary += "-"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    body = b"".join(
        [head.encode(), b"Content-Type: text/csv\r\n\r\n", content, f"\r\n--{boundary}--\r\n".encode()]
    )
    return f"multipart/form-data; boundary={boundary}", body
