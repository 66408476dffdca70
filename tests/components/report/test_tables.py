"""Numbers with their intervals, against the same numbers found in another way."""

import numpy as np
import pytest
import run_facts

from components.evaluation.paired import Estimate, wilson_interval
from components.evaluation.predictions import Predictions
from components.report.measures import Evaluation
from components.report.tables import evaluation_tables, mistakes

CLASSES = ("World", "Sports", "Business")


def answers(labels: list[int], label_ids: list[int], sure: list[float]) -> Predictions:
    probabilities = np.empty((len(labels), 3), np.float32)
    for row, (answer, share) in enumerate(zip(label_ids, sure, strict=True)):
        probabilities[row] = (1 - share) / 2
        probabilities[row, answer] = share
    texts = [f"row {number}".encode() for number in range(len(labels))]
    return Predictions(texts, np.array(labels), np.array(label_ids), probabilities)


def tables(given: Predictions, with_answers: bool = True, bounds: dict[str, float] | None = None) -> Evaluation:
    slices = run_facts.make_slices(given, CLASSES)
    return evaluation_tables(slices, CLASSES, bounds or {}, given if with_answers else None)


@pytest.fixture(scope="module")
def given() -> Predictions:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 400)
    label_ids = np.where(rng.uniform(size=400) < 0.2, (labels + 1) % 3, labels)
    return answers(labels.tolist(), label_ids.tolist(), rng.uniform(0.4, 1, 400).tolist())


def test_headlines_are_the_evaluators_numbers(given: Predictions) -> None:
    found = {item.name: item for item in tables(given, bounds={"accuracy": 0.7, "calibration_error": 0.2}).headlines}
    overall = run_facts.make_slices(given, CLASSES)[0].scalars
    assert {name: item.value.value for name, item in found.items()} == {
        name: value for name, value in overall.items() if name != "example_count"
    }
    assert (found["accuracy"].bound, found["calibration_error"].bound, found["macro_f1"].bound) == (0.7, 0.2, None)
    assert [item.name for item in found.values() if item.lower_is_better] == ["log_loss", "calibration_error"]


def test_every_interval_holds_its_number(given: Predictions) -> None:
    found = tables(given)
    estimates = [item.value for item in found.headlines if item.name != "calibration_error"]
    estimates += [value for item in found.classes for value in (item.precision, item.recall, item.f1)]
    estimates += [value for item in found.slices for value in (item.accuracy, item.macro_f1)]
    for item in estimates:
        assert item.low < item.value < item.high
    assert [item.value.low for item in found.headlines if item.name == "calibration_error"] == [None]


def test_a_share_is_of_the_right_rows(given: Predictions) -> None:
    right = given.labels == given.label_ids
    for number, item in enumerate(tables(given).classes):
        labelled, answered = given.labels == number, given.label_ids == number
        assert item.rows == labelled.sum()
        for estimate, rows in ((item.recall, labelled), (item.precision, answered)):
            ends = wilson_interval(int((right & rows).sum()), int(rows.sum()))
            assert estimate == Estimate(pytest.approx(right[rows].mean()), *ends)


def test_the_worst_class_is_named_with_its_interval(given: Predictions) -> None:
    found = tables(given)
    (worst,) = (item for item in found.headlines if item.name == "worst_class_f1")
    least = min(found.classes, key=lambda item: item.f1.value)
    assert (worst.about, worst.value.low, worst.value.high) == (least.name, least.f1.low, least.f1.high)


def test_f1_is_resampled_from_the_confusion_matrix_as_from_the_rows(given: Predictions) -> None:
    rng = np.random.default_rng(0)
    replicates = []
    for _ in range(2_000):
        drawn = rng.integers(0, 400, 400)
        labels, found = given.labels[drawn], given.label_ids[drawn]
        f1 = [2 * ((labels == c) & (found == c)).sum() / ((labels == c).sum() + (found == c).sum()) for c in range(3)]
        replicates.append(np.mean(f1))
    (macro,) = (item.value for item in tables(given).headlines if item.name == "macro_f1")
    assert (macro.low, macro.high) == pytest.approx(tuple(np.quantile(replicates, [0.025, 0.975])), abs=0.004)


def test_without_answers_the_log_loss_has_no_interval(given: Predictions) -> None:
    (loss,) = (item.value for item in tables(given, with_answers=False).headlines if item.name == "log_loss")
    assert loss.value is not None
    assert loss.low is None


def test_slices_are_those_that_are_no_class(given: Predictions) -> None:
    found = tables(given)
    assert [(item.feature, item.value) for item in found.slices] == [("length", "medium"), ("length", "short")]
    assert sum(item.rows for item in found.slices) == found.rows == 400


def test_a_class_without_rows_or_answers_has_no_numbers() -> None:
    found = tables(answers([0, 1, 0, 1, 0, 1], [0, 1, 0, 0, 0, 1], [0.9] * 6))
    assert (found.classes[2].precision, found.classes[2].recall, found.classes[2].f1) == (Estimate(None),) * 3
    (worst,) = (item for item in found.headlines if item.name == "worst_class_f1")
    assert worst.about == "Sports"


def test_resampling_that_shows_nothing_gives_no_interval() -> None:
    """A point would look like certainty."""
    found = tables(answers([0, 0, 1, 1], [0, 0, 0, 0], [0.9] * 4))
    assert found.classes[1].f1 == Estimate(0.0)
    assert found.classes[0].f1.low < found.classes[0].f1.value


def test_bins_without_rows_are_left_out() -> None:
    found = tables(answers([0, 0, 0, 1], [0, 0, 1, 1], [0.98, 0.95, 0.95, 0.5])).reliability
    assert [(round(item.low, 3), item.rows) for item in found] == [(0.467, 1), (0.933, 3)]
    assert found[1].confidence == pytest.approx(0.96)
    assert found[1].accuracy.value == pytest.approx(2 / 3)


def test_the_surest_mistake_comes_first() -> None:
    given = answers([0, 0, 0, 0], [1, 0, 2, 1], [0.6, 0.99, 0.9, 0.7])
    found = mistakes(given, CLASSES)
    assert [item.text for item in found] == ["row 2", "row 3", "row 0"]
    first = found[0]
    assert (first.label, first.answer) == ("World", "Business")
    assert (first.label_probability, first.probability) == pytest.approx((0.05, 0.9))
    assert len(mistakes(given, CLASSES, most=2)) == 2
    assert mistakes(answers([0], [0], [0.9]), CLASSES) == []
