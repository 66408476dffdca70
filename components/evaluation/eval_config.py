"""What the Evaluator measures, on which slices, and the floors that decide its blessing."""

import json
from collections.abc import Mapping

from tensorflow_model_analysis.proto import config_pb2

from components import features
from components.evaluation.metrics import ARRAYS, PER_CLASS, SCALARS


def make_eval_config(classes: int, floors: Mapping[str, float], code_digest: str) -> config_pb2.EvalConfig:
    """Returns the TFMA configuration.

    Args:
        classes: Number of classes.
        floors: By metric, value thresholds on the overall slice; they hold with and without a baseline.
        code_digest: Of the metrics' source, for the cache key.
    """
    bounds = {
        "accuracy": _overall(lower_bound={"value": floors["accuracy"]}),
        "macro_f1": _overall(lower_bound={"value": floors["macro_f1"]}),
        "worst_class_f1": _overall(lower_bound={"value": floors["worst_class_f1"]}),
        "calibration_error": _overall(upper_bound={"value": floors["calibration_error"]}),
    }
    metrics = [config_pb2.MetricConfig(class_name="ExampleCount")]
    for name in (*SCALARS, *PER_CLASS, *ARRAYS):
        metrics.append(
            config_pb2.MetricConfig(
                class_name="ClassificationMetric",
                module="components.evaluation.metrics",
                config=json.dumps({"name": name, "classes": classes, "code_digest": code_digest}),
                per_slice_thresholds=bounds.get(name),
            )
        )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name=features.EXAMPLES_SIGNATURE,
                label_key=features.LABEL,
                prediction_key=features.OUTPUT_PROBABILITIES,
            )
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            config_pb2.SlicingSpec(feature_keys=[features.LABEL]),
            config_pb2.SlicingSpec(feature_keys=[features.LENGTH]),
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )


def _overall(**bound: dict[str, float]) -> list[config_pb2.PerSliceMetricThreshold]:
    """A threshold that does not say where it holds would hold in every slice."""
    threshold = config_pb2.MetricThreshold(value_threshold=config_pb2.GenericValueThreshold(**bound))
    return [config_pb2.PerSliceMetricThreshold(slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold)]
