"""Reads JSON lines: one object a line."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from components.errors import BadInputError
from components.tables.columns import choose_text
from components.tables.encoding import SAMPLE_BYTES
from components.tables.files import read_line
from components.tables.rows import Asked, Layout, Malformed, Place, Row, digest_of, join_text

_INT64 = 1 << 63
_KINDS = {type(None): "null", bool: "bool", float: "double", str: "string"}


def inspect_jsonl(file: IO[bytes], path: str, asked: Asked) -> Layout | None:
    """Returns the layout that the first object says; None without one. Later objects may have other keys.

    Args:
        file: At its beginning, in UTF-8.
        path: For the errors.
        asked: By the user.

    Raises:
        BadInputError: It is an array, or has nothing to classify.
    """
    number, offset = 0, 0
    found: list[dict[str, Any]] = []
    while (offset < SAMPLE_BYTES or not found) and (line := read_line(file, number := number + 1, path)):
        offset += len(line)
        if number == 1 and line.removeprefix(BOM_UTF8).lstrip().startswith(b"["):
            raise BadInputError(f"{path} is a JSON array: write one object a line")
        with suppress(ValueError):
            found += filter(None, [_parse(line)])
    if not found:
        return None
    columns = tuple(found[0])
    sample = {column: [values.get(column) for values in found] for column in columns}
    return Layout(columns, choose_text(columns, asked.text, path, lambda: sample))


def read_jsonl(file: IO[bytes], path: str, layout: Layout, place: Place) -> Iterator[tuple[Row | Malformed, Place]]:
    """Yields every record from a place on, each with the place behind it.

    ``values`` of a row are its line and its object. Blank lines are no records. Malformed is one that is no JSON object
    (RFC 8259, so not with NaN), or has no string to classify.
    """
    file.seek(place.offset)
    offset, number = place.offset, place.line
    while line := read_line(file, number + 1, path):
        offset, number = offset + len(line), number + 1
        if not line.strip():
            continue
        after = Place(offset, number)
        try:
            values = _parse(line)
            yield Row(join_text([values.get(column) for column in layout.text]), (line, values)), after
        except ValueError as error:
            yield Malformed(number, str(error), digest_of(line)), after


def note_kinds(values: dict[str, Any], kinds: dict[str, str]) -> None:
    """Adds an object's keys and the kinds of their values to what is known of a file.

    A column of one kind keeps it; numbers with and without a fraction are double; anything else, and what int64 cannot
    hold, is json.
    """
    for key, value in values.items():
        kind, known = _kind(value), kinds.get(key, "null")
        if known == "null":
            kinds[key] = kind
        elif kind not in ("null", known):
            kinds[key] = "double" if {kind, known} == {"int64", "double"} else "json"


def _kind(value: Any) -> str:
    if type(value) is int and -_INT64 <= value < _INT64:
        return "int64"
    return _KINDS.get(type(value), "json")


def _parse(line: bytes) -> dict[str, Any]:
    """The object of a line; ``ValueError`` says why there is none."""
    try:
        found = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise ValueError("bytes that are not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg}, character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("no JSON: nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    if b"\\u" in line:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a lone surrogate, which UTF-8 cannot carry") from error
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"no JSON: {constant}")
