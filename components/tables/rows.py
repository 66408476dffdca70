"""What is made of any table: rows with a text, or the reason why there is none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from components.errors import BadInputError
from components.features import TEXT

TITLE, DESCRIPTION = "title", "description"
_SHOWN_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record begins.

    Attributes:
        offset: Bytes of the uncompressed file before it; for Parquet rows.
        line: Lines before it; for Parquet rows.
    """

    offset: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One record. ``values`` is whatever its format's writer wants of it."""

    text: str
    values: Any


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that has no text to classify or cannot be read. ``digest`` identifies it without storing it."""

    line: int
    reason: str
    digest: str


@dataclass(frozen=True)
class Layout:
    """What the files of one input have in common.

    Attributes:
        columns: Names in order; for JSON lines every key that occurs.
        text: The columns whose values are what the model sees, with a space between them.
        kinds: What JSON values a column has, by name: string, int64, double, bool or json.
        header: Whether a CSV file has one.
    """

    columns: tuple[str, ...]
    text: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=dict)
    header: bool = True


def choose_text(columns: Sequence[str], asked: Sequence[str], name: str) -> tuple[str, ...]:
    """Returns the columns to classify: those asked for, else ``text``, else ``title`` and ``description``.

    Args:
        columns: What there is.
        asked: By the user.
        name: Of the input, for the error.

    Raises:
        BadInputError: A column that was asked for is not there, or none of the usual ones is.
    """
    shown = ", ".join(repr(column) for column in columns[:_SHOWN_COLUMNS]) + ", ..." * (len(columns) > _SHOWN_COLUMNS)
    for column in asked:
        if column not in columns:
            raise BadInputError(f"{name} has no column {column!r}: it has {shown}")
    if asked:
        return tuple(asked)
    by_name = {column.lower(): column for column in reversed(columns)}
    for usual in ((TEXT,), (TITLE, DESCRIPTION)):
        if all(part in by_name for part in usual):
            return tuple(part if part in columns else by_name[part] for part in usual)
    raise BadInputError(
        f"{name} has neither a column {TEXT!r} nor {TITLE!r} and {DESCRIPTION!r}, it has {shown}: say with "
        "--text-column what to classify"
    )


def join_text(parts: Sequence[Any]) -> str:
    """Returns what models see of the values of the text columns.

    Raises:
        ValueError: Why they are no text.
    """
    for part in parts:
        if part is not None and not isinstance(part, str):
            raise ValueError("the text is not a string")
    text = " ".join(part.strip() for part in parts if part is not None).strip()
    if not text:
        raise ValueError("no text")
    if "\0" in text:
        raise ValueError("NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text has a lone surrogate") from error
    return text


def digest_of(record: bytes) -> str:
    """Returns the first 16 hex digits of a record's SHA-256, as ingest does."""
    return hashlib.sha256(record).hexdigest()[:16]
