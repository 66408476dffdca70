"""Reads the AG News layout: ``"label","title","description"`` per record, no header.

``csv.reader`` in strict mode does the parsing; this module adds what it lacks: line numbers of records,
a header that is recognised rather than assumed, and recovery. A record with a broken quote costs that
record only: reading goes on at the next physical line from which a record parses.

A backslash, AG News' line break, stays as it is: the exported graph takes it for one, in whatever text comes.
"""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from components.features import LINE_BREAK
from components.tables.columns import is_ag_news_header
from components.tables.rows import Malformed

COLUMNS = 3
MAX_FIELD_CHARACTERS = 1_000_000
# An open quote swallows what follows; a record that long is broken.
_MOST_LINES = 1_000
_DIGEST_DIGITS = 16
_RECORD_START = re.compile(r'"[^"\n]{0,40}",|\d+,')


@dataclass(frozen=True, slots=True)
class Row:
    """One record. ``label`` is the raw first column, ``line`` the 1-based line it starts on.

    ``split_key`` is what ``text`` was when ingest wrote line breaks for backslashes: rows stay in the split they had.
    """

    label: str
    text: str
    line: int
    split_key: str = field(default="", compare=False)


def read_records(lines: Iterable[str]) -> Iterator[Row | Malformed]:
    """Yields every record of a file in the AG News layout.

    Args:
        lines: Physical lines with their line ends, decoded as UTF-8 with ``surrogateescape``, so that an
            undecodable byte spoils one record instead of the file.

    Yields:
        ``Row`` for a usable record, ``Malformed`` for one with the wrong number of columns, a broken
        quote, undecodable bytes, a NUL character or no text. Blank lines are not records.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    source = _Lines(lines)
    first = True
    while True:
        start = source.number + 1
        source.mark()
        try:
            fields = next(csv.reader(source, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            yield Malformed(start, f"broken quoting: {error}", source.recover())
            first = False
            continue
        if not fields:
            continue
        if source.record().count('"') % 2:
            # csv takes a quote inside an unquoted field for text; a sound record has an even number.
            yield Malformed(start, "broken quoting: a quote is missing", source.recover())
        elif not (first and not fields[0].strip().isdigit() and is_ag_news_header(fields)):
            yield _check(fields, start, source)
        first = False


class _Lines:
    """Physical lines that can be rewound to just behind the first line of the current record."""

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self._ahead: list[str] = []
        self._record: list[str] = []
        self.number = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if len(self._record) == _MOST_LINES:
            raise csv.Error(f"no end within {_MOST_LINES:,} lines")
        line = self._take()
        if line is None:
            raise StopIteration
        self._record.append(line)
        return line

    def mark(self) -> None:
        self._record.clear()

    def record(self) -> str:
        return "".join(self._record)

    def recover(self) -> str:
        """Gives up the first line of a broken record and those behind it that start none; returns their digest."""
        lost, *rest = self._record
        self._push_back(rest)
        digest = hashlib.sha256(lost.encode(errors="surrogateescape"))
        while (line := self._take()) is not None:
            if _RECORD_START.match(line):
                self._push_back([line])
                break
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:_DIGEST_DIGITS]

    def _take(self) -> str | None:
        line = self._ahead.pop() if self._ahead else next(self._lines, None)
        self.number += line is not None
        return line

    def _push_back(self, lines: list[str]) -> None:
        self.number -= len(lines)
        self._ahead.extend(reversed(lines))


def _check(fields: list[str], line: int, source: _Lines) -> Row | Malformed:
    if len(fields) != COLUMNS:
        return Malformed(line, f"{len(fields)} columns instead of {COLUMNS}", _digest(source.record()))
    label, title, description = fields
    text = _join(title, description)
    split_key = _join(*(part.replace(LINE_BREAK, "\n") for part in (title, description)))
    if not text:
        return Malformed(line, "no text", _digest(source.record()))
    joined = label + text
    if "\0" in joined:
        return Malformed(line, "NUL character", _digest(source.record()))
    try:
        joined.encode()
    except UnicodeEncodeError:
        return Malformed(line, "bytes that are not UTF-8", _digest(source.record()))
    return Row(label, text, line, split_key)


def _join(*parts: str) -> str:
    return " ".join(part.strip() for part in parts).strip()


def _digest(record: str) -> str:
    return hashlib.sha256(record.encode(errors="surrogateescape")).hexdigest()[:_DIGEST_DIGITS]
