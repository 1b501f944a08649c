"""The entries of a file of any size, one after the other: a JSON list, one JSON object a line, or CSV.

Exists because a dataset of hundreds of megabytes must not cost gigabytes before an engine runs. Reads in pieces of `PIECE`
characters, and no further than it is asked. Must never know what an entry means.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MOST_ENTRY = 16 << 20
"""Characters of one entry or line: what is longer is no conversation."""
PIECE = 1 << 20
"""Characters read at once."""


def entries(path: Path, tables: Sequence[Sequence[str]]) -> Iterator[Any]:
    """Values of a JSON list, or of a file with one JSON object a line, or rows of a CSV file. A broken line is None.

    A CSV file must have all columns of one of the `tables`, whose names are in lower case. Raises ValueError and OSError.
    """
    with path.open("rb") as raw:
        encoding = _encoding(raw.read(4))
    # NB: a byte that is no UTF-8 becomes half a surrogate pair, and so a text that cannot be read.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    with path.open(encoding=encoding, errors=errors) as file:
        first = _first_sign(file)
        file.seek(0)
        if first == "[":
            yield from _of_list(file)
        elif first == "{":
            yield from map(_decoded, _lines(file))
        else:
            yield from _of_csv(file, tables)


def _encoding(head: bytes) -> str:
    if head.startswith((b"\x1f\x8b", b"PK", b"\x28\xb5\x2f\xfd", b"PAR1")):
        raise ValueError("it is compressed or not text: unpack or convert it")
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _first_sign(file: IO[str]) -> str:
    while piece := file.read(PIECE):
        if stripped := piece.lstrip():
            return stripped[0]
    raise ValueError("it is empty")


def _lines(file: IO[str]) -> Iterator[str]:
    while line := file.readline(MOST_ENTRY):
        if len(line) == MOST_ENTRY:
            raise ValueError(f"a line is longer than {MOST_ENTRY:,} characters")
        if line.strip():
            yield line


def _int(digits: str) -> float:
    """NB: int() refuses thousands of digits, with an error that looks like one of syntax."""
    return int(digits) if len(digits) < 20 else math.inf


_DECODER = json.JSONDecoder(parse_int=_int, strict=False)


def _decoded(line: str) -> Any:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        return None


_BETWEEN = re.compile(r"[\s,]*")


def _of_list(file: IO[str]) -> Iterator[Any]:
    """Each entry as soon as it and the sign after it are read."""
    text, at, number, is_open = "", 0, 1, False
    while piece := file.read(PIECE):
        text, at = text[at:] + piece, 0
        while (at := _past(_BETWEEN, text, at)) < len(text):
            if not is_open:
                at, is_open = at + 1, True
                continue
            if text[at] == "]":
                return
            try:
                entry, end = _DECODER.raw_decode(text, at)
            except json.JSONDecodeError:
                end = len(text)  # as far as it is read; more may follow
            if end == len(text):
                break
            yield entry
            at, number = end, number + 1
        if len(text) - at > MOST_ENTRY:
            break
    raise ValueError(f"entry {number} of its list is not JSON, has no end, or is longer than {MOST_ENTRY:,} characters")


def _past(signs: re.Pattern[str], text: str, at: int) -> int:
    found = signs.match(text, at)
    return found.end() if found else at


def _of_csv(file: IO[str], tables: Sequence[Sequence[str]]) -> Iterator[Any]:
    lines = _lines(file)
    header = next(lines)
    sign = max(",;\t", key=header.count)
    names = {name.strip().strip('"').lower() for name in header.split(sign)}
    if not any(names.issuperset(columns) for columns in tables):
        raise ValueError("it is neither JSON nor CSV with columns that are known here")
    try:
        yield from csv.DictReader(chain([header], lines), delimiter=sign)
    except csv.Error as error:
        raise ValueError(f"it is not CSV: {error}") from None
