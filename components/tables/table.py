"""Reads the files of one table, whatever their format."""

from collections.abc import Iterator, Sequence
from typing import IO

from components.errors import BadInputError
from components.tables.csv import inspect_csv, read_csv
from components.tables.files import CSV, JSON_LINES, PARQUET, open_input
from components.tables.jsonl import inspect_jsonl, read_jsonl
from components.tables.parquet import inspect_parquet, read_parquet
from components.tables.rows import Layout, Malformed, Place, Row


def inspect(files: Sequence[str], source: str, asked: Sequence[str]) -> Layout:
    look = {CSV: inspect_csv, JSON_LINES: inspect_jsonl, PARQUET: inspect_parquet}[source]
    found: Layout | None = None
    for path in files:
        with open_input(path) as file:
            layout = look(file, path, asked)
        if found is None:
            found = layout
        elif layout is not None and source != JSON_LINES and layout != found:
            raise BadInputError(
                f"{path} has other columns than {files[0]} ({_describe(layout)}; {_describe(found)}): run them apart"
            )
    if found is None:
        raise BadInputError(f"{files[0]} holds no JSON object: write one a line")
    return found


def _describe(layout: Layout) -> str:
    return ", ".join(f"{column} {layout.kinds.get(column, '')}".rstrip() for column in layout.columns)


def read_rows(
    file: IO[bytes], path: str, source: str, layout: Layout, place: Place, text_only: bool = False
) -> Iterator[tuple[Row | Malformed, Place]]:
    """Yields the records of an open file from a place on, each with the place behind it; see the format's module."""
    if source == CSV:
        return read_csv(file, path, layout, place)
    if source == JSON_LINES:
        return read_jsonl(file, path, layout, place)
    return read_parquet(file, path, layout, place, text_only)
