"""Reads CSV: with a header, or in the AG News layout, which has none.

A record that is broken costs that record only. As in ingest, ``csv.reader`` in strict mode parses, and this module
adds what it lacks: where a record begins, and recovery at the next physical line behind the broken one.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import IO

from components.errors import BadInputError
from components.tables.files import read_line
from components.tables.rows import DESCRIPTION, TITLE, Layout, Malformed, Place, Row, choose_text, digest_of, join_text

AG_NEWS_COLUMNS = ("class_index", TITLE, DESCRIPTION)
"""What the columns of a file in the AG News layout are called in the output."""
_TITLES = {"title", "headline"}
_DESCRIPTIONS = {"description", "text", "content"}
_BOM = "\ufeff".encode()
# An open quote swallows what follows; a record that long is broken.
_MOST_FIELD_CHARACTERS = 1_000_000
_MOST_LINES = 1_000


def inspect_csv(file: IO[bytes], path: str, asked: Sequence[str]) -> Layout:
    """Returns the layout that the first record says.

    Args:
        file: At its beginning.
        path: For the errors.
        asked: Text columns that the user asked for.

    Raises:
        BadInputError: It is empty or no UTF-8, the header cannot be read or names a column twice or not at all, or
            there is no column to classify.
    """
    lines = _Lines(file, Place(), path)
    try:
        fields = _parse(lines)
    except (csv.Error, ValueError) as error:
        raise BadInputError(f"the header of {path} cannot be read ({error}): mend its first line") from error
    if fields is None:
        raise BadInputError(f"{path} is empty: it needs a header, or rows in the AG News layout")
    if "\0" in "".join(fields):
        raise BadInputError(f"{path} is no text in UTF-8: convert it")
    if len(fields) == len(AG_NEWS_COLUMNS) and fields[0].strip().isdigit():
        text = choose_text(AG_NEWS_COLUMNS, asked, path)
        return Layout(AG_NEWS_COLUMNS, text, header=False)
    columns = tuple(field.strip() for field in fields)
    if "" in columns or len(set(columns)) != len(columns):
        raise BadInputError(f"the header of {path} has a column without a name or one twice: {', '.join(columns)}")
    lower = [column.lower() for column in columns]
    ag_news = not asked and len(lower) == 3 and lower[1] in _TITLES and lower[2] in _DESCRIPTIONS
    return Layout(columns, columns[1:] if ag_news else choose_text(columns, asked, path))


def read_csv(file: IO[bytes], path: str, layout: Layout, place: Place) -> Iterator[tuple[Row | Malformed, Place]]:
    """Yields every record from a place on, each with the place behind it; ``values`` of a row are its fields.

    Blank lines are no records. Malformed is one with a broken quote, too few or too many columns, bytes that are no
    UTF-8, a NUL character or no text.
    """
    lines = _Lines(file, place, path)
    if layout.header and place == Place():
        _parse(lines)
    chosen = [layout.columns.index(column) for column in layout.text]
    while True:
        lines.mark()
        try:
            fields = _parse(lines)
            if fields is None:
                return
            if not fields:
                continue
            if len(fields) != len(layout.columns):
                raise ValueError(f"{len(fields)} columns instead of {len(layout.columns)}")
            if "\0" in "".join(fields):
                raise ValueError("NUL character")
            yield Row(join_text([fields[number] for number in chosen]), fields), lines.place()
        except csv.Error as error:
            start = lines.start
            yield Malformed(start, f"broken quoting: {error}", digest_of(lines.give_up())), lines.place()
        except ValueError as error:
            yield Malformed(lines.start, str(error), digest_of(lines.record())), lines.place()


def _parse(lines: "_Lines") -> list[str] | None:
    """The next record's fields, None at the end; ``csv.Error`` or ``ValueError`` if it is none."""
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    try:
        fields = next(csv.reader(lines, strict=True))
    except StopIteration:
        return None
    record = lines.record()
    if record.count(b'"') % 2:
        # csv takes a quote inside an unquoted field for text; a sound record has an even number.
        raise csv.Error("a quote is missing")
    try:
        record.decode()
    except UnicodeDecodeError as error:
        raise ValueError("bytes that are not UTF-8") from error
    return fields


class _Lines:
    """Physical lines that can be rewound to just behind the first line of the current record."""

    def __init__(self, file: IO[bytes], place: Place, path: str):
        file.seek(place.offset)
        self._file, self._path = file, path
        self._offset, self._line = place.offset, place.line
        self._ahead: list[bytes] = []
        self._record: list[bytes] = []
        self.start = place.line + 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._ahead.pop() if self._ahead else read_line(self._file, self._line + 1, self._path)
        if not line:
            raise StopIteration
        if len(self._record) == _MOST_LINES:
            self._ahead.append(line)
            raise csv.Error(f"no end within {_MOST_LINES:,} lines")
        self._record.append(line)
        first = self._offset == 0
        self._offset += len(line)
        self._line += 1
        return (line.removeprefix(_BOM) if first else line).decode(errors="surrogateescape")

    def mark(self) -> None:
        self._record = []
        self.start = self._line + 1

    def record(self) -> bytes:
        return b"".join(self._record)

    def place(self) -> Place:
        return Place(self._offset, self._line)

    def give_up(self) -> bytes:
        """Goes back to behind the first line of a broken record, which it returns."""
        first, *rest = self._record
        self._record = [first]
        self._ahead.extend(reversed(rest))
        self._offset -= sum(map(len, rest))
        self._line -= len(rest)
        return first
