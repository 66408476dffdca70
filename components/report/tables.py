"""From counts and answers to what a report shows of a model: each number with its interval, and the worst mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from components import features
from components.evaluation.comparison import row_losses
from components.evaluation.paired import Estimate, bootstrapped, mean, resample_f1, share
from components.evaluation.predictions import Predictions
from components.report.measures import (
    CONFIDENCE,
    METRIC_NAMES,
    ClassMeasures,
    Evaluation,
    Headline,
    Mistake,
    ReliabilityBin,
    SliceMeasures,
)

if TYPE_CHECKING:
    # It brings TensorFlow, which these numbers do not need.
    from components.evaluation.result import SliceMetrics

MOST_MISTAKES = 20
_LOWER_IS_BETTER = ("log_loss", "calibration_error")


def evaluation_tables(
    slices: "Sequence[SliceMetrics]",
    classes: Sequence[str],
    bounds: Mapping[str, float],
    answers: Predictions | None = None,
) -> Evaluation:
    """Returns the Evaluator's metrics with intervals.

    Shares have Wilson's interval; F1, which is not a share of anything, that of 2,000 resamples of the rows; the mean
    log loss that of its standard error. The calibration error has none: resampling only ever makes it larger.

    Args:
        slices: What ``read_slices`` returned, the overall slice first.
        classes: Names in label-id order.
        bounds: Metric name to floor or ceiling.
        answers: To the same rows; without them the log loss has no interval.
    """
    overall = slices[0]
    matrix = overall.arrays["confusion_matrix"].astype(np.int64)
    f1, macro_f1 = _f1_estimates(matrix)
    right, labelled, answered = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    measures = [
        ClassMeasures(
            name,
            rows=int(labelled[number]),
            precision=_share(right[number], answered[number]),
            recall=_share(right[number], labelled[number]),
            f1=f1[number],
        )
        for number, name in enumerate(classes)
    ]
    worst = min((item for item in measures if item.f1.value is not None), key=lambda item: item.f1.value or 0.0)
    intervals = {"accuracy": _share(right.sum(), matrix.sum()), "macro_f1": macro_f1, "worst_class_f1": worst.f1}
    if answers:
        intervals["log_loss"] = mean(row_losses(answers), CONFIDENCE)
    headlines = [
        Headline(
            name,
            replace(intervals.get(name, Estimate(None)), value=value),
            bound=bounds.get(name),
            lower_is_better=name in _LOWER_IS_BETTER,
            about=worst.name if name == "worst_class_f1" else "",
        )
        for name, value in overall.scalars.items()
        if name in METRIC_NAMES
    ]
    return Evaluation(
        rows=int(matrix.sum()),
        headlines=headlines,
        classes=measures,
        # Accuracy within one class is its recall, which the table of classes has.
        slices=[_slice(item) for item in slices if item.feature not in ("", features.LABEL)],
        confusion=matrix.tolist(),
        reliability=_reliability(overall.arrays["reliability_bins"]),
    )


def mistakes(answers: Predictions, classes: Sequence[str], most: int = MOST_MISTAKES) -> list[Mistake]:
    """Returns the rows with wrong answers, those first of which the model is surest."""
    wrong = np.flatnonzero(answers.label_ids != answers.labels)
    sure = answers.probabilities[wrong, answers.label_ids[wrong]]
    return [
        Mistake(
            text=answers.texts[row].decode("utf-8", "replace"),
            label=classes[answers.labels[row]],
            label_probability=float(answers.probabilities[row, answers.labels[row]]),
            answer=classes[answers.label_ids[row]],
            probability=float(answers.probabilities[row, answers.label_ids[row]]),
        )
        for row in wrong[np.argsort(-sure, kind="stable")][:most]
    ]


def _slice(item: "SliceMetrics") -> SliceMeasures:
    matrix = item.arrays["confusion_matrix"].astype(np.int64)
    _, macro_f1 = _f1_estimates(matrix)
    accuracy = _share(np.trace(matrix), matrix.sum())
    return SliceMeasures(item.feature, item.value, int(matrix.sum()), accuracy, macro_f1)


def _f1_estimates(matrix: np.ndarray) -> tuple[list[Estimate], Estimate]:
    """Returns F1 of each class and their mean over the classes that have rows or answers, from a confusion matrix."""
    labels, answers = (np.repeat(side, matrix.ravel()) for side in np.indices(matrix.shape).reshape(2, -1))
    found = resample_f1(labels, answers, answers, len(matrix))
    values, replicates = found.values[0], found.replicates[0]
    each = [_bootstrapped(value, replicates[:, number]) for number, value in enumerate(values)]
    return each, _bootstrapped(np.nanmean(values), np.nanmean(replicates, axis=1))


def _bootstrapped(value: float, replicates: np.ndarray) -> Estimate:
    found = bootstrapped(value, replicates, CONFIDENCE)
    # All right or all wrong: resampling shows nothing that the rows do not, and a point would look like certainty.
    return Estimate(found.value) if found.low == found.high else found


def _share(part: int, whole: int) -> Estimate:
    return share(int(part), int(whole), CONFIDENCE)


def _reliability(bins: np.ndarray) -> list[ReliabilityBin]:
    width = 1 / len(bins)
    return [
        ReliabilityBin(
            number * width, (number + 1) * width, int(rows), float(confidence / rows), _share(round(right), rows)
        )
        for number, (rows, confidence, right) in enumerate(bins)
        if rows
    ]
