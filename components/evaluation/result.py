"""Reads what the Evaluator wrote, as plain numbers per slice."""

import glob
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_model_analysis.proto import metrics_for_slice_pb2, validation_result_pb2

from components import features


@dataclass(frozen=True)
class SliceMetrics:
    """Metrics of one slice.

    Attributes:
        feature: Slicing feature, empty for the overall slice.
        value: Its value; for the label, the class name.
        scalars: Metric name to value; metrics of one class are named ``f1/Sports``.
        arrays: Metric name to array.
    """

    feature: str
    value: str
    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def read_slices(uri: str, classes: tuple[str, ...]) -> list[SliceMetrics]:
    """Returns the metrics of every slice of an evaluation artifact, the overall slice first."""
    slices = []
    for record in _records(uri, "metrics-*"):
        proto = metrics_for_slice_pb2.MetricsForSlice.FromString(record)
        feature, value = _slice_key(proto.slice_key, classes)
        result = SliceMetrics(feature, value)
        for item in proto.metric_keys_and_values:
            name = item.key.name
            if item.key.HasField("sub_key") and item.key.sub_key.HasField("class_id"):
                name = f"{name}/{classes[item.key.sub_key.class_id.value]}"
            kind = item.value.WhichOneof("type")
            if kind == "double_value":
                result.scalars[name] = item.value.double_value.value
            elif kind == "array_value":
                result.arrays[name] = _array(item.value.array_value)
        slices.append(result)
    return sorted(slices, key=lambda item: (item.feature, item.value))


def read_failures(uri: str) -> list[str]:
    """Returns one sentence per floor that an evaluation misses; none if it passes."""
    sentences = []
    for record in _records(uri, "validations*"):
        result = validation_result_pb2.ValidationResult.FromString(record)
        for group in result.metric_validations_per_slice:
            sentences += [_failure(group.slice_key, failure) for failure in group.failures]
        if result.missing_thresholds:
            sentences.append("no floor was checked: at least accuracy needs one")
        if not sentences and not result.validation_ok:
            sentences.append("the Evaluator found the model not valid and names no metric")
    return sentences


def _failure(slice_key: Any, failure: Any) -> str:
    bounds = failure.metric_threshold.value_threshold
    value = failure.metric_value.double_value.value
    where = " in slice " + " ".join(f"{key.column}={_plain(key)}" for key in slice_key.single_slice_keys)
    where = where if slice_key.single_slice_keys else ""
    if bounds.HasField("lower_bound"):
        return f"{failure.metric_key.name}{where} is {value:.4f}, below the floor of {bounds.lower_bound.value:.4f}"
    return f"{failure.metric_key.name}{where} is {value:.4f}, above the ceiling of {bounds.upper_bound.value:.4f}"


def _records(uri: str, pattern: str) -> list[bytes]:
    files = sorted(name for name in glob.glob(os.path.join(uri, pattern)) if os.path.isfile(name))
    if not files:
        raise FileNotFoundError(f"no {pattern} in the evaluation at {uri}")
    return [record.numpy() for name in files for record in tf.data.TFRecordDataset(name)]


def _slice_key(key: Any, classes: tuple[str, ...]) -> tuple[str, str]:
    if not key.single_slice_keys:
        return "", ""
    (single,) = key.single_slice_keys
    value = _plain(single)
    return single.column, classes[int(value)] if single.column == features.LABEL else value


def _plain(single: Any) -> str:
    value = getattr(single, single.WhichOneof("kind"))
    return value.decode() if isinstance(value, bytes) else str(value)


def _array(proto: Any) -> np.ndarray:
    values = proto.float64_values or proto.int64_values or proto.float32_values or proto.int32_values
    return np.array(values).reshape(list(proto.shape))
