"""Reads delimited text, with a header or without, such as CSV and the AG News layout.

A record that is broken costs that record only. As in ingest, ``csv.reader`` in strict mode parses, and this module
adds what it lacks: where a record begins, and recovery at the next physical line behind the broken one.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Literal

from components.errors import BadInputError
from components.tables.columns import DESCRIPTION, KNOWN_NAMES, TITLE, choose_text, is_ag_news_header
from components.tables.encoding import SAMPLE_BYTES
from components.tables.files import read_line, suffix_of
from components.tables.rows import Asked, Layout, Malformed, Place, Row, digest_of, join_text

AG_NEWS_COLUMNS: tuple[str, ...] = ("class_index", TITLE, DESCRIPTION)
"""What the columns of a file in the AG News layout are called in the output."""
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}
_BOM = "\ufeff".encode()
# An open quote swallows what follows; a record that long is broken.
_MOST_FIELD_CHARACTERS, _MOST_LINES = 1_000_000, 1_000
_BROKEN, _LEAST_SHARE = "broken quoting", 0.5


def inspect_csv(file: IO[bytes], path: str, asked: Asked) -> Layout:
    """Returns the layout that the beginning of a file says.

    Args:
        file: In UTF-8.
        path: For the errors; ``.tsv`` says tab.
        asked: By the user.

    Raises:
        BadInputError: It is empty or no UTF-8, the first record cannot be read, a header names a column twice or not
            at all, or there is no column to classify.
    """
    layout, records = _sniff(file, path, asked.delimiter)
    if not records:
        raise BadInputError(f"{path} is empty: it needs a header, or rows")
    first = records[0]
    if isinstance(first, Malformed):
        raise BadInputError(f"the header of {path} cannot be read ({first.reason}): mend its first line")
    if "\0" in "".join(first):
        raise BadInputError(f"{path} is no text in UTF-8: say with --encoding what it is in")
    rows = [row for row in records[1:] if not isinstance(row, Malformed) and len(row) == len(first)]
    names = [field.strip() for field in first]
    layout = replace(layout, header=False)
    if layout.delimiter == "," and len(first) == len(AG_NEWS_COLUMNS) and names[0].isdigit():
        columns = AG_NEWS_COLUMNS
    elif _is_header(names, rows, asked.text):
        columns, layout = tuple(names), replace(layout, header=True)
        if "" in columns or len(set(columns)) != len(columns):
            raise BadInputError(f"the header of {path} has a column without a name or one twice: {', '.join(columns)}")
        if not asked.text and is_ag_news_header(names):
            return replace(layout, columns=columns, text=columns[1:])
    else:
        columns, rows = tuple(map(str, range(1, len(first) + 1))), [first, *rows]
    text = choose_text(columns, asked.text, path, lambda: dict(zip(columns, zip(*rows, strict=True), strict=False)))
    return replace(layout, columns=columns, text=text)


def read_csv(file: IO[bytes], path: str, layout: Layout, place: Place) -> Iterator[tuple[Row | Malformed, Place]]:
    """Yields every record from a place on, each with the place behind it; ``values`` of a row are its fields.

    Blank lines are no records. Malformed is one with a broken quote, too few or too many columns, bytes that are no
    UTF-8, a NUL character or no text.
    """
    lines = _Lines(file, place, path)
    records = _records(lines, layout)
    if layout.header and place == Place():
        next(records, None)
    chosen = [layout.columns.index(column) for column in layout.text]
    for record in records:
        if isinstance(record, Malformed):
            yield record, lines.place()
            continue
        try:
            if len(record) != len(layout.columns):
                raise ValueError(f"{len(record)} columns instead of {len(layout.columns)}")
            if "\0" in "".join(record):
                raise ValueError("NUL character")
            yield Row(join_text([record[number] for number in chosen]), record), lines.place()
        except ValueError as error:
            yield Malformed(lines.start, str(error), digest_of(lines.record())), lines.place()


def check_delimiter(text: str) -> str:
    """Returns the character that a name of one, or it itself, stands for.

    Raises:
        BadInputError: It can stand between no fields.
    """
    found = DELIMITERS.get(text.lower(), text)
    if len(found) != 1 or found in '"\r\n\0':
        raise BadInputError(f"{text!r} is no delimiter: type one character, or {', '.join(DELIMITERS)}")
    return found


def _sniff(file: IO[bytes], path: str, asked: str | None) -> tuple[Layout, list[list[str] | Malformed]]:
    """The delimiter that cuts most of the first records into as many fields as the first, and these records."""
    if asked is not None or suffix_of(path) == ".tsv":
        return _sample(file, path, Layout((), (), delimiter=check_delimiter("tab" if asked is None else asked)))
    found = [_sample(file, path, Layout((), (), delimiter=delimiter)) for delimiter in DELIMITERS.values()]
    best = max(found, key=_share)
    # Where none cuts, a record is one field, or broken.
    return best if _share(best) > _LEAST_SHARE else found[suffix_of(path) == ".txt"]


def _share(sample: tuple[Layout, list[list[str] | Malformed]]) -> float:
    """How many of the records have as many fields as the first, if that has several."""
    widths = [0 if isinstance(record, Malformed) else len(record) for record in sample[1]]
    return widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0


def _sample(file: IO[bytes], path: str, layout: Layout) -> tuple[Layout, list[list[str] | Malformed]]:
    """The records at the beginning. Where tabs delimit, quotes may be mere characters: then some do not close."""
    lines, records = _Lines(file, Place(), path), []
    for record in _records(lines, layout):
        records.append(record)
        if lines.place().offset >= SAMPLE_BYTES:
            break
    broken = any(isinstance(record, Malformed) and record.reason.startswith(_BROKEN) for record in records)
    if broken and layout.quoted and layout.delimiter == "\t":
        return _sample(file, path, replace(layout, quoted=False))
    return layout, records


def _is_header(names: list[str], rows: list[list[str]], asked: Sequence[str]) -> bool:
    """Whether names that are known or asked for stand in the first record, and are not values that come again."""
    # A number asks for a column without a header, unless a header has nothing but numbers.
    by_number = all(map(str.isdigit, asked)) and not all(map(str.isdigit, names))
    if asked and set(asked) <= set(names) and not by_number:
        return True
    known = (number for number, name in enumerate(names) if name.lower() in KNOWN_NAMES)
    return any(sum(row[number].strip() == names[number] for row in rows if row != names) < 2 for number in known)


def _records(lines: "_Lines", layout: Layout) -> Iterator[list[str] | Malformed]:
    """The fields of every record, or why it has none."""
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    while True:
        lines.mark()
        try:
            fields = next(csv.reader(lines, strict=True, delimiter=layout.delimiter, quoting=quoting))
            record = lines.record()
            if layout.quoted and record.count(b'"') % 2:
                # csv takes a quote inside an unquoted field for text; a sound record has an even number.
                raise csv.Error("a quote is missing")
            record.decode()
        except StopIteration:
            return
        except csv.Error as error:
            start = lines.start
            yield Malformed(start, f"{_BROKEN}: {error}", digest_of(lines.give_up()))
        except UnicodeDecodeError:
            yield Malformed(lines.start, "bytes that are not UTF-8", digest_of(record))
        else:
            if fields:
                yield fields


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
