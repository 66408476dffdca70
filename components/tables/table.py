"""Reads the files of one table, whatever their format."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO

from components.errors import BadInputError
from components.tables.csv import DELIMITERS, inspect_csv, read_csv
from components.tables.encoding import SAMPLE_BYTES, UTF_8, WINDOWS_1252, check_encoding, find_encoding
from components.tables.files import CSV, JSON_LINES, PARQUET, open_input
from components.tables.jsonl import inspect_jsonl, read_jsonl
from components.tables.parquet import inspect_parquet, read_parquet
from components.tables.rows import Asked, Layout, Malformed, Place, Row


def inspect(files: Sequence[str], source: str, asked: Asked) -> Layout:
    """Returns the layout that all files have; of JSON lines the first one's.

    Args:
        files: One or more, of one format.
        source: That format.
        asked: By the user; what is not said, the beginnings of the files say.

    Raises:
        BadInputError: A file cannot be used, or is not like the first.
    """
    if (source != CSV and asked.delimiter) or (source == PARQUET and asked.encoding):
        raise BadInputError(f"{files[0]} is {source}: drop {'--delimiter' if asked.delimiter else '--encoding'}")
    found: Layout | None = None
    for path in files:
        layout = _look(path, source, asked)
        if found is None or layout is None:
            found = found or layout
            if source != JSON_LINES and found:
                asked = replace(asked, text=found.text)
            continue
        found = replace(found, quoted=found.quoted and layout.quoted)
        alike = replace(layout, quoted=found.quoted) == found
        if not (layout.encoding == found.encoding if source == JSON_LINES else alike):
            first, other = (f"{', '.join(each.columns)} {[*each.kinds.values()] or ''}" for each in (found, layout))
            first, other = f"{first} {describe(source, found)}", f"{other} {describe(source, layout)}"
            words = f"has other columns than {files[0]}, or is written otherwise"
            raise BadInputError(f"{path} {words} ({other}; {first}): run them apart")
    if found is None:
        raise BadInputError(f"{files[0]} holds no JSON object: write one a line")
    return found


def describe(source: str, layout: Layout) -> str:
    """Returns what was found out about the input, for people."""
    parts = [source]
    if source != PARQUET:
        parts.append("Windows-1252" if layout.encoding == WINDOWS_1252 else layout.encoding.upper())
    if source == CSV:
        name = {character: name for name, character in DELIMITERS.items()}.get(layout.delimiter, repr(layout.delimiter))
        parts += [f"delimiter {name}", "with a header" if layout.header else "without a header"]
    return f"{', '.join(parts)}, text in {' and '.join(map(repr, layout.text))}"


def _look(path: str, source: str, asked: Asked) -> Layout | None:
    encoding = check_encoding(asked.encoding or UTF_8)
    if source != PARQUET and not asked.encoding:
        with open_input(path) as file:
            encoding = find_encoding(file.read(SAMPLE_BYTES), path)
    look = {CSV: inspect_csv, JSON_LINES: inspect_jsonl, PARQUET: inspect_parquet}[source]
    with open_input(path, encoding) as file:
        layout = look(file, path, asked)
    return layout and replace(layout, encoding=encoding)


def read_rows(
    file: IO[bytes], path: str, source: str, layout: Layout, place: Place, text_only: bool = False
) -> Iterator[tuple[Row | Malformed, Place]]:
    """Yields the records of an open file from a place on, each with the place behind it; see the format's module."""
    if source == CSV:
        return read_csv(file, path, layout, place)
    if source == JSON_LINES:
        return read_jsonl(file, path, layout, place)
    return read_parquet(file, path, layout, place, text_only)
