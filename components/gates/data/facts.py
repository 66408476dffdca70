"""The rows of a run as the checks of the data see them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components import features
from components.gates.data.profile import Profile, count_words, make_profile

_SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class Split:
    """Rows of one split, each a text in UTF-8 with its number of words."""

    texts: Sequence[bytes]
    lengths: Sequence[int]


@dataclass(frozen=True)
class Data:
    """What a run is about to train on and be measured on.

    Attributes:
        splits: Rows of every split; none is empty.
        words: How often each word occurs in train.
        profile: Counts of the same rows.
        classes: What classes are called, in label-id order.
    """

    splits: Mapping[str, Split]
    words: Mapping[str, int]
    profile: Profile
    classes: Sequence[str]


@dataclass(frozen=True)
class Finding:
    """What one check measured, in a number, in words, and in the rows or words behind it.

    ``value`` is None where there is no number because things cannot be compared, which never passes.
    """

    value: float | None
    said: str
    rows: tuple[str, ...] = ()


def gather(rows: Mapping[str, Sequence[tuple[bytes, int]]], classes: Sequence[str]) -> Data:
    """Counts what the checks need.

    Args:
        rows: Texts in UTF-8 with label ids, of each split.
        classes: What classes are called, in label-id order; a label beyond them counts for none.
    """
    splits, counts, words = {}, {}, {}
    for split, pairs in rows.items():
        texts = [text for text, _ in pairs]
        lengths, words[split] = count_words(texts)
        splits[split] = Split(texts, lengths)
        found = Counter(label for _, label in pairs)
        counts[split] = [found[label] for label in range(len(classes))]
    train = words[features.TRAIN]
    sizes = {split: len(pairs) for split, pairs in rows.items()}
    return Data(splits, train, make_profile(sizes, counts, splits[features.TRAIN].lengths, train), tuple(classes))


def show_row(split: str, text: bytes, note: str = "") -> str:
    """Returns a row as verdicts show it: on one line, cut, without characters that a terminal would obey."""
    flat = " ".join(text.decode(errors="replace").split())
    flat = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in flat)
    shown = flat if len(flat) <= _SHOWN_CHARACTERS else f"{flat[:_SHOWN_CHARACTERS].rstrip()}..."
    return f'{split} row{note}: "{shown}"'


def leaked_rows(data: Data) -> list[bytes]:
    """Returns the texts of test rows that a model is fitted or chosen on, a text as often as test has it."""
    seen = {text for split in (features.TRAIN, features.EVAL) for text in data.splits[split].texts}
    return [text for text in data.splits[features.TEST].texts if text in seen]
