"""Bytes of a CSV file to its encoding and delimiter: what spreadsheets in Russia write; opens no file."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable

from closedloop.errors import OperatorError
from closedloop.parse.headings import find_header, guess_columns

DELIMITERS = (";", "\t", ",", "|")
SAMPLE_ROWS = 50
# Excel hides such a first line from whoever opens the file.
SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n", re.IGNORECASE)

# Where Russian letters are: DOS has most of them below 0xB0, Windows all above 0xC0. 0xA0 is left out, since
# Windows puts it between thousands.
_OF_DOS = bytes(byte for byte in range(0x80, 0xB0) if byte != 0xA0)  # noqa: PLR2004 - see above
_OF_WINDOWS = bytes(range(0xC0, 0x100))


def guess_encoding(chunks: Iterable[bytes]) -> str:
    """Return the name of the encoding of a whole file: UTF-8, UTF-16 with its mark, Windows-1251 or DOS-866.

    Bytes that are UTF-8 to the end are UTF-8; a file of another encoding breaks its rules soon.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    of_dos = of_windows = 0
    is_first, is_utf8 = True, True
    for chunk in chunks:
        if is_first and (told := _mark(chunk)) is not None:
            return told
        is_first = False
        of_dos += len(chunk) - len(chunk.translate(None, _OF_DOS))
        of_windows += len(chunk) - len(chunk.translate(None, _OF_WINDOWS))
        is_utf8 = is_utf8 and _decodes(decoder, chunk)
    if is_utf8 and _decodes(decoder, b"", final=True):
        return "utf-8"
    return "cp866" if of_dos > of_windows else "cp1251"


def guess_delimiter(text: str) -> str:
    """Return what separates the cells in the first lines of a file.

    That is the mark by which the most columns have a name that is known; of equal ones that by which the
    most rows have as many cells as most others. A first line `sep=;` says it.
    """
    told = SEPARATOR_LINE.match(text)
    if told is not None:
        return told[1]
    return max(DELIMITERS, key=lambda delimiter: _worth(text, delimiter))


def _worth(text: str, delimiter: str) -> tuple[int, float, int]:
    """Return how well a delimiter fits: columns known by name, share of rows alike, cells in these."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return 0, 0, 0
    rows = rows[:SAMPLE_ROWS]
    width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    try:
        known = len(guess_columns(rows[find_header(rows, {})], {}))
    except OperatorError:
        known = 0
    return known, count / len(rows) if width > 1 else 0, width


def _mark(chunk: bytes) -> str | None:
    if chunk.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return "utf-16" if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True
