"""Writes the output of batch inference: every input column as it was, and behind them label and probability.

Within a format values are carried over verbatim: CSV fields, the text of a JSON object, Arrow's types. Into another one
a CSV field is a string; into CSV, what is no string is its JSON; into JSON, dates are ISO 8601, decimals strings and
NaN null; into Parquet, a JSON column of mixed or nested values is a string of JSON.
"""

import csv
import io
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import date, time
from decimal import Decimal
from itertools import groupby
from typing import IO, Any

import orjson
import pyarrow as pa
from pyarrow import parquet

from components.errors import BadInputError
from components.tables.files import CSV, JSON_LINES, PARQUET, open_input
from components.tables.rows import Layout, Row
from serving.model.loaded import Answers

_JSON = orjson.OPT_SERIALIZE_NUMPY
_GROUP_ROWS = 16_384
# The first of Parquet's versions with nanoseconds, which pyarrow 10 would make microseconds of, or refuse.
_VERSION = "2.6"


class Writer(ABC):
    """Writes rows to one open file, which it leaves open."""

    def __init__(self, source: str, layout: Layout, names: tuple[str, str], file: IO[bytes]):
        self._source, self._layout, self._names, self._file = source, layout, names, file

    @abstractmethod
    def write(self, rows: Sequence[Row], answers: Answers, probabilities: Any) -> None:
        """Adds N rows; ``probabilities`` float32 [N] are those of the labels."""

    def close(self) -> None:  # noqa: B027, only Parquet holds rows back
        """Writes what is held back."""


def make_writer(
    source: str, target: str, layout: Layout, names: tuple[str, str], file: IO[bytes], header: bool
) -> Writer:
    """Returns a writer.

    Args:
        source, target: Formats of input and output.
        layout: Of the input, but with the delimiter of the output.
        names: Of the two columns that are added.
        file: Open for writing.
        header: Whether CSV begins with the names of its columns.
    """
    if target == CSV and header:
        file.write(header_of(layout, names))
    kinds: dict[str, type[Writer]] = {CSV: _CsvWriter, JSON_LINES: _JsonLinesWriter, PARQUET: _ParquetWriter}
    return kinds[target](source, layout, names, file)


def check_conversion(source: str, target: str, layout: Layout, name: str) -> None:
    """Refuses columns of Parquet that text cannot carry.

    Raises:
        BadInputError: A column is of bytes or another such type; it is named.
    """
    if source != PARQUET or target == PARQUET:
        return
    for column, kind in layout.kinds.items():
        if any(part in kind for part in ("binary", "duration", "map<", "interval", "extension", "halffloat")):
            raise BadInputError(
                f"the column {column!r} of {name} holds {kind}, which {target} cannot carry: choose --format parquet"
            )


def header_of(layout: Layout, names: tuple[str, str]) -> bytes:
    """Returns the first line of a CSV output."""
    return _csv_lines([[*layout.columns, *names]], layout)


def join_parts(target: str, parts: Iterable[str], head: bytes, file: IO[bytes]) -> None:
    """Writes shards one behind the other into one file.

    Args:
        target: Format of the shards and of the file.
        parts: Paths of the shards in order; of CSV without headers.
        head: What comes first.
        file: Open for writing.
    """
    if target != PARQUET:
        file.write(head)
        for part in parts:
            with open_input(part) as source:
                shutil.copyfileobj(source, file)
        return
    writer = None
    for part in parts:
        with open_input(part) as source:
            opened = parquet.ParquetFile(source)
            writer = writer or parquet.ParquetWriter(file, opened.schema_arrow, version=_VERSION)
            for group in range(opened.num_row_groups):
                writer.write_table(opened.read_row_group(group))
    if writer is not None:
        writer.close()


class _CsvWriter(Writer):
    def write(self, rows: Sequence[Row], answers: Answers, probabilities: Any) -> None:
        if self._source == CSV:
            cells = [row.values for row in rows]
        else:
            columns, objects = self._layout.columns, _objects(self._source, rows, ())
            cells = [[_cell(item.get(column)) for column in columns] for item in objects]
        added = zip(cells, answers.labels, map(str, probabilities), strict=True)
        self._file.write(_csv_lines([[*fields, label, share] for fields, label, share in added], self._layout))


class _JsonLinesWriter(Writer):
    def write(self, rows: Sequence[Row], answers: Answers, probabilities: Any) -> None:
        label_name, share_name = self._names
        added = [
            orjson.dumps({label_name: label, share_name: share}, option=_JSON)
            for label, share in zip(answers.labels, probabilities, strict=True)
        ]
        if self._source == JSON_LINES:
            # The line is kept to the letter: a number of 30 digits is not rounded on its way.
            objects = [line.strip().removeprefix(b"\xef\xbb\xbf").strip() for line, _ in (row.values for row in rows)]
        else:
            found = _objects(self._source, rows, self._layout.columns)
            objects = [orjson.dumps(item, _plain, _JSON) for item in found]
        for item, more in zip(objects, added, strict=True):
            # None is empty: there is at least the text.
            self._file.write(item[:-1].rstrip() + b"," + more[1:] + b"\n")


class _ParquetWriter(Writer):
    def __init__(self, source: str, layout: Layout, names: tuple[str, str], file: IO[bytes]):
        super().__init__(source, layout, names, file)
        self._writer: Any = None
        self._held: list[Any] = []

    def write(self, rows: Sequence[Row], answers: Answers, probabilities: Any) -> None:
        table = self._table(rows)
        for name, values in zip(
            self._names, (pa.array(answers.labels, pa.string()), pa.array(probabilities, pa.float32())), strict=True
        ):
            table = table.append_column(name, values)
        self._held.append(table)
        if sum(item.num_rows for item in self._held) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        if self._held:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        table = pa.concat_tables(self._held)
        self._held.clear()
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, table.schema, version=_VERSION)
        self._writer.write_table(table)

    def _table(self, rows: Sequence[Row]) -> Any:
        if self._source == PARQUET:
            return pa.Table.from_batches(_record_batches(rows))
        kinds = {column: self._layout.kinds.get(column, "string") for column in self._layout.columns}
        types = {"int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
        schema = pa.schema([(column, types.get(kind, pa.string())) for column, kind in kinds.items()])
        objects = _objects(self._source, rows, self._layout.columns)
        columns = [[_typed(item.get(column), kind) for item in objects] for column, kind in kinds.items()]
        return pa.Table.from_arrays(
            [pa.array(*pair) for pair in zip(columns, schema.types, strict=True)], schema=schema
        )


def _record_batches(rows: Sequence[Row]) -> list[Any]:
    """Returns rows of Parquet as Arrow's batches, one for each that they were read in."""
    groups = groupby((row.values for row in rows), key=lambda values: id(values[0]))
    parts = ([*group] for _, group in groups)
    return [part[0][0].take(pa.array([number for _, number in part])) for part in parts]


def _objects(source: str, rows: Sequence[Row], columns: Sequence[str]) -> list[dict[str, Any]]:
    if source == CSV:
        return [dict(zip(columns, row.values, strict=True)) for row in rows]
    if source == JSON_LINES:
        return [row.values[1] for row in rows]
    return [item for batch in _record_batches(rows) for item in batch.to_pylist()]


def _typed(value: Any, kind: str) -> Any:
    if value is None or kind in ("string", "int64", "bool"):
        return value
    return float(value) if kind == "double" else _to_json(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(_plain(value) if _is_special(value) else _to_json(value))


def _to_json(value: Any) -> str:
    # Unlike orjson, json takes whole numbers of any size.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _is_special(value: Any) -> bool:
    return isinstance(value, date | time | Decimal)


def _plain(value: Any) -> str:
    if not _is_special(value):
        raise TypeError(f"a value of type {type(value).__name__} cannot be written as text")
    return str(value) if isinstance(value, Decimal) else value.isoformat()


def _csv_lines(rows: list[list[str]], layout: Layout) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=layout.delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
