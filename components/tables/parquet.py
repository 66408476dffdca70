"""Reads Parquet.

Parquet from people you do not trust belongs on the newer stack: pyarrow 10, which TFX 1.16 pins, ran code that a file
brought (CVE-2023-47248), against which ``pyarrow_hotfix`` helps, and has other faults in its parser that nothing helps
against.
"""

import warnings
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
from pyarrow import parquet

from components.errors import BadInputError
from components.tables.columns import choose_text
from components.tables.rows import Asked, Layout, Malformed, Place, Row, digest_of, join_text

_ROWS, _SAMPLE_ROWS = 1024, 100
_SAFE_VERSION = (14, 0, 1)


def inspect_parquet(file: IO[bytes], path: str, asked: Asked) -> Layout:
    """Returns the layout that the file's schema says.

    Args:
        file: Can be sought.
        path: For the errors.
        asked: By the user.

    Raises:
        BadInputError: It is no Parquet, names a column twice, or has nothing to classify.
    """
    source = open_parquet(file, path)
    schema = source.schema_arrow
    columns = tuple(schema.names)
    if len(set(columns)) != len(columns):
        raise BadInputError(f"{path} names a column twice: {', '.join(columns)}")
    strings = [column for column in columns if _is_string(schema.field(column).type)]
    try:
        batches = source.iter_batches(_SAMPLE_ROWS, columns=strings)
        text = choose_text(columns, asked.text, path, lambda: next(batches, pa.table({})).to_pydict())
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    for column in text:
        if column not in strings:
            held = schema.field(column).type
            raise BadInputError(f"the column {column!r} of {path} holds {held}, not strings: convert it")
    return Layout(columns, text, kinds={field.name: str(field.type) for field in schema})


def read_parquet(
    file: IO[bytes], path: str, layout: Layout, place: Place, text_only: bool = False
) -> Iterator[tuple[Row | Malformed, Place]]:
    """Yields every row from a place on, each with the place behind it; a line is the number of a row.

    ``values`` of a row are a record batch and the number of the row in it. Malformed is one without a text.

    Args:
        file: Can be sought.
        path: For the errors.
        layout: What ``inspect_parquet`` returned.
        place: Row to begin with.
        text_only: Whether only the columns to classify are read.
    """
    source = open_parquet(file, path)
    columns = list(layout.text) if text_only else None
    skip, groups = place.offset, list(range(source.num_row_groups))
    while groups and skip >= source.metadata.row_group(groups[0]).num_rows:
        skip -= source.metadata.row_group(groups.pop(0)).num_rows
    number = place.offset
    try:
        for batch in source.iter_batches(_ROWS, row_groups=groups, columns=columns) if groups else ():
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            if skip:
                batch, skip = batch.slice(skip), 0
            parts = [batch.column(batch.schema.get_field_index(column)) for column in layout.text]
            for part in parts:
                part.validate(full=True)
            for index, values in enumerate(zip(*(part.to_pylist() for part in parts), strict=True)):
                number += 1
                after = Place(number, number)
                try:
                    yield Row(join_text(values), (batch, index)), after
                except ValueError as error:
                    yield Malformed(number, str(error), digest_of(repr(values).encode())), after
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def open_parquet(file: IO[bytes], path: str) -> Any:
    """Returns ``pyarrow.parquet.ParquetFile``.

    Raises:
        BadInputError: The file is no Parquet, or has a column of a type that is code.
    """
    found = pa.cpp_version_info
    if (found.major, found.minor, found.patch) < _SAFE_VERSION:
        import pyarrow_hotfix  # noqa: F401  such a column raises an error from here on
    try:
        with warnings.catch_warnings():
            # Newer pyarrow does not run such code, but warns and reads on.
            warnings.filterwarnings("error", ".*PyExtensionType", RuntimeWarning)
            return parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    except (RuntimeError, RuntimeWarning) as error:
        if not any(name in str(error) for name in ("arrow.py_extension_type", "PyExtensionType")):
            raise
        raise BadInputError(f"{path} has a column of a Python extension type, which could run code: drop it") from error


def _is_string(kind: Any) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))


def _unreadable(path: str, error: Exception) -> BadInputError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return BadInputError(f"{path} is no sound Parquet file ({first}): write it again")
