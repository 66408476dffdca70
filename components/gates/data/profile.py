"""What data look like, in numbers small enough to keep: what later data are held against.

Words are those of ``components.text.scripts``.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from scipy import special

from components import features
from components.text.scripts import cut_words

MOST_WORDS = 20_000
"""Words that a profile keeps."""

# Four bins to each doubling: texts that lose half their words move by four of them, whatever their length was.
LENGTH_EDGES = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256,
    320, 384, 448, 512, 640, 768, 896, 1024,
)  # fmt: skip
"""Fewest words of a text in each bin; the last has no upper end."""

_REST = ""
# Rare words make two samples of one source diverge by chance: K words by some (K - 1) / (8 n ln 2) bits in n words.
# So a word is compared on its own only where the smaller sample is expected to hold it this often, which makes K at
# most n / 10 and the chance part less than 0.02 bits. On news, samples of 600 to 10,000 rows diverge by 0.002 to 0.007
# then, whatever they are compared with; over all words it is 0.02 to 0.2, and more the smaller they are.
_LEAST_EXPECTED = 10

# Larger ones would not survive a float.
Count = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True)
class Profile:
    """Counts of one data set.

    Attributes:
        rows: Rows of each split.
        classes: Rows of each class, in label-id order, of each split.
        lengths: Texts of train in each of the bins that begin at ``LENGTH_EDGES``.
        tokens: Words of train in all.
        words: How often each of the commonest words, at most ``MOST_WORDS``, occurs in train; of words that occur
            equally often it has all or none.
        format: Changes with the meaning of the rest.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    rows: dict[str, Count]
    classes: dict[str, tuple[Count, ...]]
    lengths: Annotated[tuple[Count, ...], Field(min_length=len(LENGTH_EDGES), max_length=len(LENGTH_EDGES))]
    tokens: Count
    words: Annotated[dict[str, Annotated[int, Field(gt=0, le=2**53)]], Field(max_length=MOST_WORDS)]
    format: Literal["newsdesk profile 1"] = "newsdesk profile 1"


_ADAPTER = TypeAdapter(Profile)


def count_words(texts: Iterable[bytes]) -> tuple[list[int], Counter[str]]:
    """Returns the number of words of each text, and how often each word occurs in all of them.

    Args:
        texts: UTF-8; bytes that are not separate words.
    """
    cut = cut_words([text.decode(errors="replace") for text in texts])
    found = pc.value_counts(cut.flatten())
    counts = Counter(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)))
    counts.pop("", None)
    filled = np.concatenate([[0], np.cumsum(pc.not_equal(cut.flatten(), "").to_numpy(zero_copy_only=False))])
    return np.diff(filled[cut.offsets.to_numpy()]).tolist(), counts


def make_profile(
    rows: Mapping[str, int], classes: Mapping[str, Sequence[int]], lengths: Sequence[int], words: Mapping[str, int]
) -> Profile:
    """Returns the profile of data.

    Args:
        rows: Rows of each split.
        classes: Rows of each class, in label-id order, of each split.
        lengths: Words of each text of train.
        words: How often each word occurs in train.
    """
    bins = np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1
    commonest = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    # Words of one count are kept all or none, else what fresh data would know could not be told.
    rarest = commonest[MOST_WORDS][1] if len(commonest) > MOST_WORDS else 0
    return Profile(
        dict(rows),
        {split: tuple(counts) for split, counts in classes.items()},
        tuple(np.bincount(bins, minlength=len(LENGTH_EDGES)).tolist()),
        sum(words.values()),
        {word: count for word, count in commonest if count > rarest},
    )


def to_json(profile: Profile) -> str:
    """Returns the text of a profile's file."""
    return _ADAPTER.dump_json(profile).decode()


def from_json(text: str | bytes) -> Profile:
    """Returns the profile that ``to_json`` wrote.

    Raises:
        ValueError: The text is damaged or something else.
    """
    try:
        profile = _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:2])
        raise ValueError(f"not a profile of data: {f'{where}: ' if where else ''}{first['msg']}") from error
    if sum(profile.words.values()) > profile.tokens:
        raise ValueError("not a profile of data: its commonest words are more than all its words")
    if profile.rows.keys() != profile.classes.keys() or len({len(item) for item in profile.classes.values()}) > 1:
        raise ValueError("not a profile of data: its splits do not have the same classes")
    if sum(profile.lengths) != profile.rows.get(features.TRAIN) or not any(profile.classes[features.TRAIN]):
        raise ValueError("not a profile of data: its lengths and classes are not those of its train rows")
    return profile


def js_divergence(
    first: Mapping[str, float] | Sequence[float] | np.ndarray,
    second: Mapping[str, float] | Sequence[float] | np.ndarray,
) -> float:
    """Returns the Jensen-Shannon divergence of two distributions (Lin 1991, IEEE Trans. Inf. Theory 37:145).

    Args:
        first, second: Counts or shares, not negative; both by key, where a missing one is 0, or both of one length.

    Returns:
        Bits, from 0 for equal distributions to 1 for such as share nothing.

    Raises:
        ValueError: One of them holds nothing, or they have different lengths.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = sorted(first.keys() | second.keys())
        first, second = ([counts.get(key, 0) for key in keys] for counts in (first, second))
    p, q = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if p.shape != q.shape or not (p.sum() > 0 and q.sum() > 0):
        raise ValueError(
            f"distributions of {p.size} and {q.size} values, with sums {p.sum():g} and {q.sum():g}, have no divergence"
        )
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    bits = (special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum()) / (2 * np.log(2))
    # Rounding misses the ends by its last digit.
    return float(np.clip(bits, 0, 1))


def comparable_shares(first: Profile, second: Profile) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the shares of the words that both data sets are large enough to compare, of all others under ``""``.

    Raises:
        ValueError: One of them holds no word.
    """
    smaller = min(first.tokens, second.tokens)
    if not smaller:
        raise ValueError("data without a word have no vocabulary to compare: check the texts")
    shares: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for word in sorted(first.words.keys() | second.words.keys()):
        both = [profile.words.get(word, 0) / profile.tokens for profile in (first, second)]
        if sum(both) / 2 * smaller >= _LEAST_EXPECTED:
            for kept, share in zip(shares, both, strict=True):
                kept[word] = share
    for kept in shares:
        kept[_REST] = max(0.0, 1 - sum(kept.values()))
    return shares


def oov_rate(words: Mapping[str, int], known: Collection[str]) -> float:
    """Returns the share of words, each counted as often as it occurs, that are not known; 0 where there are none."""
    total = sum(words.values())
    return 1 - sum(count for word, count in words.items() if word in known) / total if total else 0.0


def expected_oov_rate(profile: Profile) -> float:
    """Returns the out-of-vocabulary rate that fresh data of the same source would have against a profile.

    It is the share of words that would be unknown had they occurred once less. Where every word is kept these are the
    words that occur once, Good and Turing's estimate of the unseen (Good 1953, Biometrika 40:237); else those of the
    least count that is kept, and all that are not kept. Small data know few words, and without it anything that
    follows them would seem new.
    """
    if not profile.tokens:
        return 0.0
    whole = sum(profile.words.values()) == profile.tokens
    least = 1 if whole else min(profile.words.values(), default=0)
    return 1 - sum(count for count in profile.words.values() if count > least) / profile.tokens


def median_bin(lengths: Sequence[int]) -> str:
    """Returns the bin that holds the median of a histogram over ``LENGTH_EDGES``, such as ``40 to 47``."""
    place = int(np.searchsorted(np.cumsum(lengths), sum(lengths) / 2))
    low = LENGTH_EDGES[place]
    if place + 1 == len(LENGTH_EDGES):
        return f"{low} and more"
    high = LENGTH_EDGES[place + 1] - 1
    return f"{low} to {high}" if high > low else f"{low}"
