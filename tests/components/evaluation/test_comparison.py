"""Two models' answers on the same rows, made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from components.evaluation.comparison import NEITHER, A, B, Comparison, align, compare_answers
from components.evaluation.predictions import Predictions

CLASSES = ("World", "Sports", "Business")


def answers(labels: list[int], label_ids: list[int], sure: list[float] | None = None) -> Predictions:
    """Makes answers to rows with the texts ``row 0``, ``row 1`` and so on, ``sure`` of each with that probability."""
    sure = sure or [0.8] * len(labels)
    probabilities = np.empty((len(labels), len(CLASSES)), np.float32)
    for row, (answer, share) in enumerate(zip(label_ids, sure, strict=True)):
        probabilities[row] = (1 - share) / (len(CLASSES) - 1)
        probabilities[row, answer] = share
    texts = [f"row {number}".encode() for number in range(len(labels))]
    return Predictions(texts, np.array(labels), np.array(label_ids), probabilities)


def two(only_a: int, only_b: int, both: int, neither: int) -> Comparison:
    """Compares models of which one alone is right on so many rows."""
    rows = only_a + only_b + both + neither
    a = [0] * only_a + [1] * only_b + [0] * both + [1] * neither
    b = [1] * only_a + [0] * only_b + [0] * both + [2] * neither
    return compare_answers(answers([0] * rows, a), answers([0] * rows, b), CLASSES)


def test_the_better_model_is_told() -> None:
    found = two(only_a=150, only_b=250, both=7_000, neither=200)
    assert found.better == B
    assert found.verdict == "B is better: +1.3 points of accuracy (0.8 to 1.8), McNemar p < 0.0001 on 7,600 rows"
    mirrored = two(only_a=250, only_b=150, both=7_000, neither=200)
    assert mirrored.better == A
    assert mirrored.verdict == found.verdict.replace("B is", "A is")


def test_chance_is_not_told_as_a_difference() -> None:
    found = two(only_a=24, only_b=20, both=50, neither=6)
    assert found.better == NEITHER
    assert found.verdict == (
        "no difference can be told: B - A is -4.0 points of accuracy (-17.0 to 9.1), McNemar p = 0.55 on 100 rows"
    )


@pytest.mark.parametrize(("only_a", "most"), [(0, 4), (8, 18), (40, 59)])
def test_a_difference_is_told_from_the_row_on_that_tells_it(only_a: int, most: int) -> None:
    """Told in words, by the test and by the interval alike."""
    for only_b, better in ((most, NEITHER), (most + 1, B)):
        found = two(only_a=only_a, only_b=only_b, both=100, neither=0)
        assert found.better == better
        assert (found.mcnemar.mid_p < 0.05) == (better == B)
    low = found.metrics["accuracy"].difference.low
    assert low is not None
    assert low > 0


def test_counts_are_of_the_right_model() -> None:
    found = two(only_a=3, only_b=5, both=7, neither=2)
    assert (found.mcnemar.b, found.mcnemar.c, found.both_wrong_differently, found.rows) == (3, 5, 2, 17)
    accuracy = found.metrics["accuracy"]
    assert (accuracy.a.value, accuracy.b.value) == pytest.approx((10 / 17, 12 / 17))
    assert accuracy.difference.value == pytest.approx(2 / 17)


def test_two_wrong_answers_that_agree_are_not_different() -> None:
    found = compare_answers(answers([0, 0], [1, 1]), answers([0, 0], [1, 2]), CLASSES)
    assert found.both_wrong_differently == 1


def test_every_metric_has_its_difference_within_its_interval() -> None:
    labels = [0, 1, 2] * 40
    a = answers(labels, [0, 1, 2] * 25 + [1, 1, 2] * 15)
    b = answers(labels, [0, 1, 2] * 35 + [0, 2, 1] * 5, [0.7] * 120)
    found = compare_answers(a, b, CLASSES)
    assert set(found.metrics) == {"accuracy", "macro_f1", "f1/World", "f1/Sports", "f1/Business", "log_loss"}
    for metric in found.metrics.values():
        for estimate in (metric.a, metric.b, metric.difference):
            assert estimate.low <= estimate.value <= estimate.high  # type: ignore[operator]
        assert metric.difference.value == pytest.approx(metric.b.value - metric.a.value)  # type: ignore[operator]


def test_metrics_are_those_of_the_evaluator() -> None:
    # Here, because TFMA takes seconds to import and nothing else needs it.
    from components.evaluation import metrics

    rng = np.random.default_rng(0)
    labels, label_ids = rng.integers(0, 3, (2, 200)).tolist()
    given = answers(labels, label_ids, rng.uniform(0.4, 1, 200).tolist())
    summary = metrics.Summary(len(CLASSES))
    for label, probabilities in zip(given.labels, given.probabilities, strict=True):
        summary.add(int(label), probabilities)
    found = compare_answers(given, answers(labels, labels), CLASSES).metrics
    assert found["accuracy"].a.value == pytest.approx(metrics.accuracy(summary))
    assert found["macro_f1"].a.value == pytest.approx(metrics.macro_f1(summary))
    assert found["log_loss"].a.value == pytest.approx(metrics.log_loss(summary))
    assert [found[f"f1/{name}"].a.value for name in CLASSES] == pytest.approx(list(metrics.f1(summary)))
    assert found["log_loss"].b.value == pytest.approx(-math.log(0.8))


def test_a_class_that_does_not_occur_has_no_f1() -> None:
    found = compare_answers(answers([0, 1], [0, 1]), answers([0, 1], [0, 0]), CLASSES)
    assert found.metrics["f1/Business"].a.value is None
    assert found.metrics["f1/Business"].difference.value is None
    assert found.metrics["macro_f1"].b.value == pytest.approx((2 / 3 + 0) / 2)


def test_one_row_is_enough() -> None:
    found = compare_answers(answers([0], [0]), answers([0], [1]), CLASSES)
    assert found.better == NEITHER
    assert found.metrics["log_loss"].a.low is None


def test_the_surest_mistake_comes_first() -> None:
    labels = [0] * 6
    a = answers(labels, [0, 0, 0, 0, 1, 1], [0.5, 0.6, 0.7, 0.8, 0.45, 0.9])
    b = answers(labels, [1, 2, 1, 0, 0, 0], [0.6, 0.9, 0.7, 0.8, 0.99, 0.5])
    found = compare_answers(a, b, CLASSES, most_rows=2)
    assert [row.text for row in found.only_a_right] == ["row 1", "row 2"]
    assert [row.text for row in found.only_b_right] == ["row 5", "row 4"]
    first = found.only_a_right[0]
    assert (first.label, first.a, first.b) == ("World", "World", "Business")
    assert (first.a_probability, first.b_probability) == pytest.approx((0.6, 0.9))
    assert compare_answers(a, b, CLASSES, most_rows=0).only_a_right == []


def test_a_text_that_is_not_utf8_is_shown_all_the_same() -> None:
    a, b = answers([0], [0]), answers([0], [1])
    texts = [b"caf\xe9"]
    found = compare_answers(replace(a, texts=texts), replace(b, texts=texts), CLASSES)
    assert found.only_a_right[0].text == "caf\ufffd"


def shuffled(given: Predictions, order: list[int]) -> Predictions:
    return Predictions(
        [given.texts[place] for place in order], given.labels[order], given.label_ids[order], given.probabilities[order]
    )


def test_rows_in_another_order_are_aligned() -> None:
    given = answers([0, 1, 2, 0, 1], [0, 1, 1, 2, 0], [0.5, 0.6, 0.7, 0.8, 0.9])
    # Two rows have the same text and different labels.
    given = replace(given, texts=[*given.texts[:3], given.texts[1], given.texts[4]])
    for order in ([4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        found = align(shuffled(given, order), given)
        assert found.texts == given.texts
        for name in ("labels", "label_ids", "probabilities"):
            assert (getattr(found, name) == getattr(given, name)).all()


@pytest.mark.parametrize(
    "other",
    [
        answers([0, 1], [0, 1]),
        answers([0, 1, 0], [0, 1, 2]),
        replace(answers([0, 1, 2], [0, 1, 2]), texts=[b"row 0", b"row 1", b"row 3"]),
    ],
    ids=["fewer", "another label", "another text"],
)
def test_different_rows_are_not_compared(other: Predictions) -> None:
    given = answers([0, 1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match="different rows"):
        align(other, given)
    with pytest.raises(ValueError, match="align them"):
        compare_answers(given, other, CLASSES)
