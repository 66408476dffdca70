"""Which words an answer rests on: each is left out in turn, and the model itself is asked again.

Occlusion, as in Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation Erasure" (2016).
"""

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serving.model.loaded import Model

_CHUNK = re.compile(r"\S+")
# Rows of one call of the model, which nothing stops: enough to be hardly slower than all at once, and over soon.
_PASS_ROWS = 16
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Word:
    """One word of a text.

    Attributes:
        text: The word, without the punctuation around it.
        start: Where it begins, in code points.
        end: Where it ends, likewise.
        weight: What the log-odds of the class lose, in nats, when the word is left out: above 0 it speaks for the
            class, below 0 against it.
    """

    text: str
    start: int
    end: int
    weight: float


def explain(
    model: Model, text: str, label_id: int, most_words: int, check: Callable[[], None] = lambda: None
) -> list[Word]:
    """Weighs the words of a text, in passes of a few.

    Args:
        model: A loaded model.
        text: What was classified.
        label_id: The class to explain, which is usually the answered one.
        most_words: How many are weighed, from the beginning; the model is asked for one row more.
        check: Called before each pass; what it raises ends the explanation.

    Returns:
        The first ``most_words`` words in the order of the text.

    Raises:
        RequestError: The model could not answer.
    """
    spans = find_words(text)[:most_words]
    if not spans:
        return []
    texts = [text, *(text[:start] + text[end:] for start, end in spans)]
    odds: list[float] = []
    for first in range(0, len(texts), _PASS_ROWS):
        check()
        answers = model.answer([shown.encode() for shown in texts[first : first + _PASS_ROWS]])
        odds += [log_odds(row, label_id) for row in answers.probabilities]
    whole, *without = odds
    return [Word(text[start:end], start, end, whole - left) for (start, end), left in zip(spans, without, strict=True)]


def find_words(text: str) -> list[tuple[int, int]]:
    """Returns start and end of each word: what stands between white space, without punctuation at its ends."""
    spans = []
    for chunk in _CHUNK.finditer(text):
        start, end = chunk.span()
        while start < end and _is_punctuation(text[start]):
            start += 1
        while start < end and _is_punctuation(text[end - 1]):
            end -= 1
        if start < end:
            spans.append((start, end))
    return spans


def log_odds(probabilities: np.ndarray, label_id: int) -> float:
    """Returns the log-odds of one class, in nats.

    The odds are taken against the sum of the other classes: ``1 - p`` would be 0 as soon as float32 rounds p to 1.

    Args:
        probabilities: float32 [C].
        label_id: The class.
    """
    others = np.delete(probabilities, label_id).sum(dtype=np.float64)
    return math.log(max(float(probabilities[label_id]), _TINY)) - math.log(max(float(others), _TINY))


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
