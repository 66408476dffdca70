"""Words of any script, for what counts and compares texts; the graphs of models cut theirs in ``words.py``."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from components.features import LENGTH_BUCKETS, LINE_BREAK

CHARACTER = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*)"
"""In RE2's syntax: a character, with its marks, of a script that puts no spaces between words. It counts as a word."""
_NOT_A_WORD = r"[^\p{L}\p{N}\p{M}_]+"
_SHORT_BELOW, _LONG_FROM = 30, 50


def cut_words(texts: Sequence[str]) -> pa.Array:
    """Returns the lower-cased words of each text, list<large_string> [N]; what lies around them is an empty word."""
    spaced = _space(pc.utf8_lower(pa.array(texts, pa.large_string())))
    return pc.split_pattern_regex(spaced, pattern=_NOT_A_WORD)


def length_bucket(text: str) -> str:
    """Returns the slice a text belongs to: fewer than 30 words between white space, 30 to 49, or 50 and more."""
    plain = text.replace(LINE_BREAK, " ")
    words = len((plain if plain.isascii() else _space(pa.scalar(plain)).as_py()).split())
    if words < _SHORT_BELOW:
        return LENGTH_BUCKETS[0]
    return LENGTH_BUCKETS[1] if words < _LONG_FROM else LENGTH_BUCKETS[2]


def _space(texts: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    return pc.replace_substring_regex(texts, pattern=CHARACTER, replacement=r" \1 ")
