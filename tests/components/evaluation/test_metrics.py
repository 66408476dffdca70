"""Metrics of one pass, against scikit-learn and by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
from sklearn.metrics import log_loss as sklearn_log_loss
from tensorflow_model_analysis.metrics import metric_types

from components.evaluation import metrics
from components.evaluation.metrics import BINS, Summary


def summarise(labels: Sequence[int], probabilities: np.ndarray) -> Summary:
    """Returns the summary of all rows."""
    summary = Summary(probabilities.shape[1])
    for label, row in zip(labels, probabilities, strict=True):
        summary.add(int(label), row)
    return summary


def random_predictions(seed: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and float32 probabilities that favour the label now and then."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + np.eye(classes)[labels] * rng.uniform(0, 3)
    exponents = np.exp(logits)
    return labels, (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def confident(predicted: Sequence[int], classes: int, probability: float) -> np.ndarray:
    """Returns probabilities with the same top probability in every row."""
    rest = (1 - probability) / (classes - 1)
    return np.where(np.eye(classes)[list(predicted)] > 0, probability, rest)


# One row, rows fewer than classes (classes stay absent), two classes, and plenty.
CASES = [(seed, rows, classes) for seed, (rows, classes) in enumerate([(1, 4), (3, 6), (7, 3), (40, 2), (300, 4)] * 3)]


@pytest.mark.parametrize(("seed", "rows", "classes"), CASES)
def test_scalars_equal_scikit_learn(seed: int, rows: int, classes: int) -> None:
    labels, probabilities = random_predictions(seed, rows, classes)
    predicted = probabilities.argmax(axis=1)
    summary = summarise(labels, probabilities)
    present = sorted({*labels.tolist(), *predicted.tolist()})
    per_class = f1_score(labels, predicted, labels=present, average=None, zero_division=0)
    assert metrics.accuracy(summary) == pytest.approx(accuracy_score(labels, predicted))
    assert metrics.macro_f1(summary) == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    assert metrics.worst_class_f1(summary) == pytest.approx(per_class.min())
    expected = sklearn_log_loss(labels, probabilities, labels=range(classes))
    assert metrics.log_loss(summary) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("seed", "rows", "classes"), CASES)
def test_metrics_per_class_equal_scikit_learn(seed: int, rows: int, classes: int) -> None:
    labels, probabilities = random_predictions(seed, rows, classes)
    predicted = probabilities.argmax(axis=1)
    summary = summarise(labels, probabilities)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=0
    )
    np.testing.assert_allclose(metrics.precision(summary), precision)
    np.testing.assert_allclose(metrics.recall(summary), recall)
    np.testing.assert_allclose(metrics.f1(summary), f1)
    np.testing.assert_array_equal(summary.confusion, confusion_matrix(labels, predicted, labels=range(classes)))


@pytest.mark.parametrize(("seed", "rows", "classes"), CASES)
def test_calibration_error_equals_the_definition(seed: int, rows: int, classes: int) -> None:
    labels, probabilities = random_predictions(seed, rows, classes)
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1])
    expected = sum(
        (bins == place).mean() * abs(confidence[bins == place].mean() - correct[bins == place].mean())
        for place in set(bins)
    )
    assert metrics.calibration_error(summarise(labels, probabilities)) == pytest.approx(expected)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_merged_summaries_equal_one_of_all_rows(parts: int) -> None:
    labels, probabilities = random_predictions(0, 50, 3)
    merged = Summary(3)
    for part in range(parts):
        merged.merge(summarise(labels[part::parts], probabilities[part::parts]))
    whole = summarise(labels, probabilities)
    np.testing.assert_array_equal(merged.confusion, whole.confusion)
    np.testing.assert_allclose(merged.bins, whole.bins)
    for name, function in metrics.SCALARS.items():
        assert function(merged) == pytest.approx(function(whole)), name


def test_merging_leaves_the_other_summary_alone() -> None:
    labels, probabilities = random_predictions(0, 5, 3)
    other = summarise(labels, probabilities)
    before = other.confusion.copy(), other.bins.copy(), other.log_loss
    merged = summarise(labels, probabilities)
    merged.merge(other)
    merged.merge(other)
    np.testing.assert_array_equal(other.confusion, before[0])
    np.testing.assert_array_equal(other.bins, before[1])
    assert other.log_loss == before[2]
    assert merged.confusion.sum() == 15


@pytest.mark.parametrize(
    ("probability", "labels", "error"),
    [
        (0.8, [0, 0, 0, 0, 1], 0.0),
        (0.9, [0, 0, 0, 0, 0], 0.1),
        (0.9, [1, 1, 1, 1, 1], 0.9),
        (0.7, [0, 1, 1, 1, 1], 0.5),
        (1.0, [0, 0, 0, 0, 0], 0.0),
        (1.0, [1, 1, 1, 1, 1], 1.0),
    ],
)
def test_calibration_error_by_hand(probability: float, labels: list[int], error: float) -> None:
    summary = summarise(labels, confident([0] * 5, 2, probability))
    assert metrics.calibration_error(summary) == pytest.approx(error, abs=1e-12)


def test_calibration_errors_of_two_bins_do_not_cancel() -> None:
    sure_and_wrong = summarise([1, 1], confident([0, 0], 2, 0.9))
    unsure_and_right = summarise([0, 0, 0, 0, 0, 0], confident([0] * 6, 2, 0.6))
    sure_and_wrong.merge(unsure_and_right)
    assert metrics.calibration_error(sure_and_wrong) == pytest.approx((2 * 0.9 + 6 * 0.4) / 8)


def test_calibration_errors_within_a_bin_do() -> None:
    summary = summarise([0], confident([0], 2, 0.91))
    summary.merge(summarise([1], confident([0], 2, 0.92)))
    assert metrics.calibration_error(summary) == pytest.approx((0.91 + 0.92 - 1) / 2)


@pytest.mark.parametrize(("probability", "place"), [(1.0, 14), (0.999, 14), (0.5, 7), (0.59, 8), (0.61, 9), (0.94, 14)])
def test_rows_fall_into_the_bin_of_their_confidence(probability: float, place: int) -> None:
    bins = summarise([0, 1], confident([0, 0], 2, probability)).bins
    np.testing.assert_allclose(bins[place], [2, 2 * probability, 1])
    assert bins.shape == (15, 3)
    assert bins[:, 0].sum() == 2


def test_the_lowest_possible_confidence_has_a_bin() -> None:
    assert summarise([0], np.full((1, 40), 1 / 40)).bins[0, 0] == 1


def test_a_class_absent_from_a_slice_does_not_count_in_the_mean() -> None:
    summary = summarise([0, 0, 1, 1], confident([0, 0, 1, 0], 4, 0.7))
    assert metrics.macro_f1(summary) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert metrics.worst_class_f1(summary) == pytest.approx(2 / 3)
    np.testing.assert_allclose(metrics.recall(summary), [1, 0.5, 0, 0])
    np.testing.assert_allclose(metrics.precision(summary), [2 / 3, 1, 0, 0])
    np.testing.assert_allclose(metrics.f1(summary), [4 / 5, 2 / 3, 0, 0])


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    summary = summarise([0, 0], confident([0, 2], 3, 0.7))
    assert metrics.worst_class_f1(summary) == 0
    assert metrics.macro_f1(summary) == pytest.approx(1 / 3)


def test_log_loss_of_an_impossible_class_is_finite() -> None:
    summary = summarise([1], np.array([[1.0, 0.0]]))
    assert 20 < metrics.log_loss(summary) < 100


def test_ties_go_to_the_first_class_as_when_serving() -> None:
    assert summarise([1], np.array([[0.2, 0.4, 0.4]])).confusion[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", [*metrics.SCALARS, *metrics.PER_CLASS, *metrics.ARRAYS])
def test_every_metric_names_its_keys_for_tfma(name: str) -> None:
    computations = metrics.ClassificationMetric(name, classes=3).computations()
    keys = computations[-1].keys
    assert {key.name for key in keys} == {name}
    sub_keys = [key.sub_key for key in keys]
    per_class = [metric_types.SubKey(class_id=place) for place in range(3)]
    assert sub_keys == (per_class if name in metrics.PER_CLASS else [None])
    assert {metric_types.MetricKey} == {type(key) for key in keys}


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(KeyError, match="brier"):
        metrics.ClassificationMetric("brier", classes=3).computations()


def test_all_metrics_share_one_pass_over_the_data() -> None:
    first, second = (metrics.ClassificationMetric(name, classes=3).computations()[0] for name in ("accuracy", "f1"))
    assert first == second


def test_bundles_of_rows_are_merged_whatever_their_number() -> None:
    labels, probabilities = random_predictions(1, 30, 3)
    combiner = metrics.ClassificationMetric("accuracy", classes=3).computations()[0].combiner
    bundles = [summarise(labels[part::3], probabilities[part::3]) for part in range(3)]
    merged = combiner.merge_accumulators([combiner.create_accumulator(), *bundles])
    np.testing.assert_array_equal(merged.confusion, summarise(labels, probabilities).confusion)
    (found,) = combiner.extract_output(merged).values()
    assert found is merged
