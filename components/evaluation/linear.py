"""A linear classifier of words and word pairs: the model that anything deeper has to beat.

TF-IDF with logarithmic counts, then a linear support vector machine per class. Arrow cuts, folds and numbers words and
pairs, which is what makes a fit on all of AG News a matter of seconds.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from components.text.scripts import cut_words

_FEWEST = 2
"""Occurrences below which a word or pair is no feature."""
# Chosen on AG News' eval split, where a tighter tolerance takes longer and changes nothing.
_C, _TOLERANCE = 0.5, 0.1


class LinearClassifier:
    """Fitted by ``fit_linear``; ``features`` is how many words and pairs it weighs."""

    def __init__(self, words: pa.Array, grams: pa.Array, classifier: ClassifierMixin):
        self._words = words
        self._grams = grams
        self._classifier = classifier
        self.features = len(grams)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the label id of each text, int64 [N]."""
        if not texts:
            return np.zeros(0, np.int64)
        cut = cut_words(texts)
        rows, grams = _grams(_places(cut.flatten(), self._words), cut, self._words)
        places = _places(grams, self._grams)
        counts = _matrix(rows[places >= 0], places[places >= 0], (len(texts), self.features))
        labels: np.ndarray = self._classifier.predict(counts).astype(np.int64)
        return labels


def fit_linear(texts: Sequence[str], labels: np.ndarray) -> LinearClassifier:
    """Fits the classifier.

    Where there is nothing to tell texts apart by, neither a word that occurs twice nor a second class, it answers with
    the most frequent class.

    Args:
        texts: One row or more.
        labels: Label ids, int64 [N].
    """
    cut = cut_words(texts)
    words = cut.flatten().dictionary_encode()
    rows, grams = _grams(words.indices.to_numpy().astype(np.int64), cut, words.dictionary)
    found = grams.dictionary_encode()
    places = found.indices.to_numpy()
    kept = np.bincount(places, minlength=len(found.dictionary)) >= _FEWEST
    chosen, numbers = kept[places], np.cumsum(kept) - 1
    matrix = _matrix(rows[chosen], numbers[places[chosen]], (len(texts), int(kept.sum())))
    nothing = matrix.shape[1] == 0 or len(np.unique(labels)) == 1
    # The solver draws from one generator of the whole process: classes fitted side by side in threads would be faster,
    # and another model each time.
    svm = make_pipeline(TfidfTransformer(sublinear_tf=True), LinearSVC(C=_C, tol=_TOLERANCE, dual=True, random_state=1))
    classifier = (DummyClassifier() if nothing else svm).fit(matrix, labels)
    return LinearClassifier(words.dictionary, found.dictionary.filter(pa.array(kept)), classifier)


def _places(values: pa.Array, among: pa.Array) -> np.ndarray:
    """Returns where each value stands, int64 [N], -1 for one that does not."""
    return pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy().astype(np.int64)


def _grams(ids: np.ndarray, cut: pa.Array, words: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Returns rows and numbers, int64 [G] each, of all words and adjacent pairs whose words are known.

    A word's number is its id, -1 where it is unknown; a pair's lies above all of those: first id plus one, times the
    number of words, plus second id.
    """
    rows = np.repeat(np.arange(len(cut)), pc.list_value_length(cut).to_numpy())
    known = (ids >= 0) & (ids != pc.index(words, pa.scalar("", words.type)).as_py())
    paired = known[1:] & known[:-1] & (rows[1:] == rows[:-1])
    pairs = (ids[:-1] + 1) * len(words) + ids[1:]
    numbers = np.concatenate([ids[known], pairs[paired]])
    return np.concatenate([rows[known], rows[1:][paired]]), pa.array(numbers)


def _matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    return matrix
