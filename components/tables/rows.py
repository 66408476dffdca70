"""What is made of any table: rows with a text, or the reason why there is none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


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
class Asked:
    """What the user says of the input, such as the columns to classify; what is not said is found out."""

    text: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Layout:
    """What the files of one input have in common.

    Attributes:
        columns: Names in order; for JSON lines every key that occurs.
        text: The columns whose values are what the model sees, with a space between them.
        kinds: What JSON values a column has, by name: string, int64, double, bool or json.
        header: Whether a file of delimited text has one.
        delimiter: What stands between its fields.
        quoted: Whether quotes enclose fields in it; otherwise they are characters like others.
        encoding: Of a file of text, by Python's name.
    """

    columns: tuple[str, ...]
    text: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=dict)
    header: bool = True
    delimiter: str = ","
    quoted: bool = True
    encoding: str = "utf-8"


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
