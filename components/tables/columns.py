"""Which column of a table is the text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.errors import BadInputError, nearest
from components.features import TEXT
from components.text.scripts import cut_words

TITLE, DESCRIPTION = "title", "description"
TEXT_NAMES = (
    *(TEXT, "sentence", "review", "message", "body", "content", "tweet", "question", "utterance", TITLE, "headline"),
)
KNOWN_NAMES = {*TEXT_NAMES, DESCRIPTION, "label", "class", "category", "class_index", "class index", "intent", "id"}
"""A first record that holds one of these is a header."""
_SHOWN_COLUMNS, _SHOWN_VALUES, _SHOWN_CHARACTERS = 12, 3, 20


def choose_text(
    columns: Sequence[str], asked: Sequence[str], name: str, sample: Callable[[], Mapping[str, Sequence[Any]]]
) -> tuple[str, ...]:
    """Returns the columns to classify.

    They are those asked for, else ``text``, else ``title`` and ``description``, else the only one with another usual
    name, else the one whose values are the longest and not single words or numbers.

    Args:
        columns: What there is.
        asked: By the user.
        name: Of the input, for the error.
        sample: Returns some values of the columns by name; may leave out what holds no text.

    Raises:
        BadInputError: A column that was asked for is not there, or there is not one that is clearly the text.
    """
    more = ", ..." * (len(columns) > _SHOWN_COLUMNS)
    for column in asked:
        if column not in columns:
            shown = ", ".join(map(repr, columns[:_SHOWN_COLUMNS])) + more
            meant = nearest(column, columns)
            raise BadInputError(f"{name} has no column {column!r}: it has {shown}; did you mean {meant!r}?")
    if asked:
        return tuple(asked)
    by_name = {column.lower(): column for column in reversed(columns)}
    for usual in ((TEXT,), (TITLE, DESCRIPTION)):
        if all(part in by_name for part in usual):
            return tuple(part if part in columns else by_name[part] for part in usual)
    known = [by_name[usual] for usual in TEXT_NAMES if usual in by_name]
    if len(known) == 1:
        return (known[0],)
    values = sample()
    if not known and len(columns) > 1:
        lengths = {column: _length(values.get(column, ())) for column in columns}
        longest = [column for column, length in lengths.items() if length and length == max(lengths.values())]
        if len(longest) == 1:
            return (longest[0],)
    shown = ", ".join(_show(column, values.get(column, ())) for column in columns[:_SHOWN_COLUMNS]) + more
    several = "has several columns that may be the text, of"
    raise BadInputError(
        f"{name} {several if known else 'has no column that is clearly the text among'} {shown}: say with "
        "--text-column what to classify"
    )


def is_ag_news_header(names: Sequence[str]) -> bool:
    """Returns whether the columns are a label, a title and a description."""
    title, description = (name.strip().lower() for name in names[1:]) if len(names) == 3 else ("", "")
    return title in {TITLE, "headline"} and description in {DESCRIPTION, TEXT, "content"}


def _length(values: Sequence[Any]) -> float:
    """The mean length of texts; 0 if most values are numbers or words, or all the same."""
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    words = [list(filter(None, text)) for text in cut_words(texts).to_pylist()]
    prose = sum(len(found) > 1 and not all(map(str.isdigit, found)) for found in words)
    if 2 * prose <= len(texts) or (len(texts) > 1 and len(set(texts)) == 1):
        return 0.0
    return sum(map(len, texts)) / len(texts)


def _show(column: str, values: Sequence[Any]) -> str:
    shown = [repr(str(value)[:_SHOWN_CHARACTERS]) for value in values[:_SHOWN_VALUES]]
    return f"{column!r} ({', '.join(shown)})" if shown else repr(column)
