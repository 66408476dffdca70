"""The linear baseline: a TF-IDF support vector machine, as scikit-learn's own pieces would make it."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.svm import LinearSVC

from components.evaluation.linear import fit_linear
from components.example_gen.source import SAMPLE_DIR

TEXTS = [
    "The striker scores late", "Striker SCORES again, late", "shares fall as rates rise", "rates rise and shares slip",
]  # fmt: skip
LABELS = np.array([0, 0, 1, 1])


def read_sample(name: str) -> tuple[list[str], np.ndarray]:
    import csv

    with (SAMPLE_DIR / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return [" ".join(row[1:]) for row in rows], np.array([int(row[0]) - 1 for row in rows])


def test_words_and_pairs_that_occur_twice_are_its_features() -> None:
    # striker, scores, late, shares, rates, rise; striker scores, rates rise
    assert fit_linear(TEXTS, LABELS).features == 8


def test_it_answers_as_scikit_learns_own_vectorizer_does() -> None:
    (train, labels), (test, _) = read_sample("train.csv"), read_sample("test.csv")
    vectorizer = CountVectorizer(ngram_range=(1, 2), token_pattern=r"[^\W_]+(?:_[^\W_]+)*")
    counts = vectorizer.fit_transform(train)
    kept = np.asarray(counts.sum(axis=0)).ravel() >= 2
    tfidf = TfidfTransformer(sublinear_tf=True)
    svm = LinearSVC(C=0.5, tol=0.1, random_state=1).fit(tfidf.fit_transform(counts[:, kept]), labels)
    expected = svm.predict(tfidf.transform(vectorizer.transform(test)[:, kept]))
    fitted = fit_linear(train, labels)
    assert fitted.features == kept.sum()
    assert (fitted.predict(test) == expected).mean() >= 0.99


def test_it_learns_the_sample() -> None:
    test, labels = read_sample("test.csv")
    assert (fit_linear(*read_sample("train.csv")).predict(test) == labels).mean() >= 0.8


def test_the_same_rows_give_the_same_answers() -> None:
    train, labels = read_sample("train.csv")
    test, _ = read_sample("test.csv")
    assert np.array_equal(fit_linear(train, labels).predict(test), fit_linear(train, labels).predict(test))


def test_word_order_matters_where_pairs_differ() -> None:
    texts = ["dog bites man", "dog bites man", "man bites dog", "man bites dog"]
    assert fit_linear(texts, LABELS).predict(["dog bites man", "man bites dog"]).tolist() == [0, 1]


def test_pairs_do_not_reach_across_texts() -> None:
    apart = fit_linear(["red", "blue", "red", "blue", "red", "blue"], np.array([0, 1, 0, 1, 0, 1]))
    assert apart.features == 2


@pytest.mark.parametrize("texts", [[], ["never seen before"], ["", "\U0001f642", "..."]])
def test_texts_without_a_known_word_are_answered(texts: list[str]) -> None:
    found = fit_linear(TEXTS, LABELS).predict(texts)
    assert found.dtype == np.int64
    assert found.shape == (len(texts),)
    assert set(found.tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("texts", "labels", "answer"),
    [
        pytest.param(["a one", "b two", "c three"], [2, 1, 2], 2, id="no word twice"),
        pytest.param(["a a", "a b"], [3, 3], 3, id="one class"),
        pytest.param(["", ""], [1, 1], 1, id="no word"),
    ],
)
def test_without_anything_to_learn_it_answers_the_most_frequent_class(
    texts: list[str], labels: list[int], answer: int
) -> None:
    assert fit_linear(texts, np.array(labels)).predict(["a", "other"]).tolist() == [answer, answer]
