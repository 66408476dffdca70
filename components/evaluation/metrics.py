"""TFMA metrics of a multiclass classifier, all from one pass over labels and probabilities.

TFMA's own precision, recall and F1 of one class count a prediction where its probability exceeds 0.5; here,
as served, a row's prediction is its most probable class. TFMA has no calibration error for more than two
classes, and its macro average needs weights per class.
"""

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util

BINS = 15
_TINY = 1e-12
_SUMMARY = "_classification_summary"


class Summary:
    """Sufficient statistics of any number of predictions.

    Attributes:
        confusion: int64 [C, C], rows are true classes, columns predicted ones.
        bins: float64 [BINS, 3], per bin of the top probability: rows, sum of it, correct rows.
        log_loss: Sum of -ln(probability of the true class), in nats.
    """

    def __init__(self, classes: int):
        self.confusion = np.zeros((classes, classes), np.int64)
        self.bins = np.zeros((BINS, 3))
        self.log_loss = 0.0

    def add(self, label: int, probabilities: np.ndarray) -> None:
        """Counts one row."""
        predicted = int(np.argmax(probabilities))
        confidence = float(probabilities[predicted])
        self.confusion[label, predicted] += 1
        self.bins[min(int(confidence * BINS), BINS - 1)] += (1, confidence, predicted == label)
        self.log_loss -= float(np.log(max(float(probabilities[label]), _TINY)))

    def merge(self, other: "Summary") -> None:
        """Adds the rows of another summary."""
        self.confusion += other.confusion
        self.bins += other.bins
        self.log_loss += other.log_loss


def accuracy(summary: Summary) -> float:
    """Returns the share of rows whose most probable class is the true one."""
    return float(np.trace(summary.confusion) / summary.confusion.sum())


def log_loss(summary: Summary) -> float:
    """Returns the mean negative log-likelihood of the true class, in nats."""
    return float(summary.log_loss / summary.confusion.sum())


def precision(summary: Summary) -> np.ndarray:
    """Returns precision per class, float64 [C]; 0 where a class is never predicted."""
    return _ratio(np.diag(summary.confusion), summary.confusion.sum(axis=0))


def recall(summary: Summary) -> np.ndarray:
    """Returns recall per class, float64 [C]; 0 where a class has no row."""
    return _ratio(np.diag(summary.confusion), summary.confusion.sum(axis=1))


def f1(summary: Summary) -> np.ndarray:
    """Returns F1 per class, float64 [C]; 0 where a class has neither rows nor predictions."""
    return _ratio(2 * np.diag(summary.confusion), summary.confusion.sum(axis=0) + summary.confusion.sum(axis=1))


def macro_f1(summary: Summary) -> float:
    """Returns the mean of F1 over the classes that have rows or predictions."""
    return float(np.mean(f1(summary)[_present(summary)]))


def worst_class_f1(summary: Summary) -> float:
    """Returns the lowest F1 among the classes that have rows or predictions."""
    return float(np.min(f1(summary)[_present(summary)]))


def calibration_error(summary: Summary) -> float:
    """Returns the expected calibration error of the top probability over 15 equal bins (Guo et al. 2017)."""
    rows, confidence, correct = summary.bins.T
    return float(np.abs(confidence - correct).sum() / rows.sum())


SCALARS: dict[str, Callable[[Summary], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "worst_class_f1": worst_class_f1,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}
PER_CLASS: dict[str, Callable[[Summary], np.ndarray]] = {"precision": precision, "recall": recall, "f1": f1}
ARRAYS: dict[str, Callable[[Summary], np.ndarray]] = {
    "confusion_matrix": lambda summary: summary.confusion,
    "reliability_bins": lambda summary: summary.bins,
}


class ClassificationMetric(metric_types.Metric):
    """One of ``SCALARS``, ``PER_CLASS`` or ``ARRAYS``, by name, for TFMA."""

    def __init__(self, name: str, classes: int, code_digest: str = ""):
        """Makes the metric; ``code_digest`` only puts this module's version into the Evaluator's cache key."""
        super().__init__(_computations, name=name, classes=classes, code_digest=code_digest)


metric_types.register_metric(ClassificationMetric)


def _computations(name: str, classes: int, code_digest: str = "", **model: Any) -> metric_types.MetricComputations:
    model_name = (model.get("model_names") or [""])[0]
    base = metric_types.MetricKey(name=_SUMMARY, model_name=model_name)
    summarise = metric_types.MetricComputation(
        keys=[base], preprocessors=None, combiner=_Combiner(base, classes, model.get("eval_config"))
    )
    if name in PER_CLASS:
        keys = [
            metric_types.MetricKey(name, model_name=model_name, sub_key=metric_types.SubKey(class_id=i))
            for i in range(classes)
        ]
        compute: Callable[[Summary], dict] = lambda summary: dict(zip(keys, PER_CLASS[name](summary), strict=True))  # noqa: E731
    else:
        keys = [metric_types.MetricKey(name, model_name=model_name)]
        function = SCALARS.get(name) or ARRAYS[name]
        compute = lambda summary: {keys[0]: function(summary)}  # noqa: E731
    derived = metric_types.DerivedMetricComputation(keys=keys, result=lambda metrics: compute(metrics[base]))
    return [summarise, derived]


class _Combiner(beam.CombineFn):
    def __init__(self, key: metric_types.MetricKey, classes: int, eval_config: Any):
        self._key = key
        self._classes = classes
        self._eval_config = eval_config

    def create_accumulator(self) -> Summary:
        return Summary(self._classes)

    def add_input(self, accumulator: Summary, element: metric_types.StandardMetricInputs) -> Summary:
        label, probabilities, _ = next(
            metric_util.to_label_prediction_example_weight(
                element, eval_config=self._eval_config, model_name=self._key.model_name, flatten=False
            )
        )
        accumulator.add(int(label.item()), probabilities)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Summary]) -> Summary:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Summary) -> dict[metric_types.MetricKey, Summary]:
        return {self._key: accumulator}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _present(summary: Summary) -> np.ndarray:
    return (summary.confusion.sum(axis=0) + summary.confusion.sum(axis=1)) > 0
