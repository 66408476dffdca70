"""The Evaluator's configuration, run over a tiny exported model, and what is read from its result."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import validation_result_pb2
from tensorflow_model_analysis.utils.config_util import update_eval_config_with_defaults
from tfx.components.evaluator import executor
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_artifacts

from components import features
from components.evaluation.eval_config import make_eval_config
from components.evaluation.metrics import PER_CLASS, SCALARS
from components.evaluation.result import SliceMetrics, read_failures, read_slices
from components.example_gen.schema import load_schema
from pipeline.config.beam import BeamConfig, beam_args

pytestmark = pytest.mark.stack

CLASSES = features.AG_NEWS_CLASSES
CONFIDENCE = 0.7
# Keyword that the model obeys, true class, length bucket.
ROWS = [
    ("world", 0, "short"),
    ("world", 0, "short"),
    ("world", 0, "long"),
    ("sports", 1, "short"),
    ("sports", 1, "long"),
    ("world", 1, "long"),
    ("business", 2, "short"),
    ("business", 2, "short"),
    ("tech", 3, "short"),
    ("business", 3, "long"),
]
ACCURACY = 0.8
F1 = {"World": 6 / 7, "Sports": 4 / 5, "Business": 4 / 5, "Sci/Tech": 2 / 3}
MACRO_F1 = sum(F1.values()) / 4
LOG_LOSS = -(8 * np.log(0.7) + 2 * np.log(0.1)) / 10


class KeywordModel(tf.Module):
    """Gives 0.7 to the class that a text names and 0.1 to each other one."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serve_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        text = tf.io.parse_example(examples, {"text": tf.io.FixedLenFeature([], tf.string)})["text"]
        named = [tf.strings.regex_full_match(text, f".*{word}.*") for word in ("world", "sports", "business", "tech")]
        probabilities = 0.1 + (CONFIDENCE - 0.1) * tf.cast(tf.stack(named, axis=1), tf.float32)
        label_id = tf.argmax(probabilities, axis=1)
        return {
            "label": tf.gather(tf.constant(CLASSES), label_id),
            "label_id": label_id,
            "probabilities": probabilities,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def serve_text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Always sure of the last class, so that an evaluation of the wrong signature shows."""
        return {"probabilities": tf.one_hot(tf.fill(tf.shape(text), 3), 4)}


@dataclass(frozen=True)
class Evaluation:
    """Output directory and verdict of one Evaluator run."""

    uri: str
    blessed: bool


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Evaluation]:
    """Runs the Evaluator node's executor, without a baseline: ``evaluate(accuracy=0.9, ...)``."""
    directory = tmp_path_factory.mktemp("evaluation")
    model, examples, schema = (
        artifact() for artifact in (standard_artifacts.Model, standard_artifacts.Examples, standard_artifacts.Schema)
    )
    model.uri, examples.uri, schema.uri = (str(directory / name) for name in ("model", "examples", "schema"))
    keyword_model = KeywordModel()
    signatures = {
        features.SERVING_SIGNATURE: keyword_model.serve_text,
        features.EXAMPLES_SIGNATURE: keyword_model.serve_examples,
    }
    tf.saved_model.save(keyword_model, str(directory / "model" / "Format-Serving"), signatures=signatures)
    examples.split_names = artifact_utils.encode_split_names([features.EVAL, features.TEST])
    write_examples(directory / "examples" / "Split-test", ROWS)
    write_examples(directory / "examples" / "Split-eval", [("world", 3, "short")])
    (directory / "schema").mkdir()
    (directory / "schema" / "schema.pbtxt").write_text(load_schema(len(CLASSES)))

    def run(**floors: float) -> Evaluation:
        evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
        evaluation.uri, blessing.uri = (str(tmp_path_factory.mktemp(name)) for name in ("result", "blessing"))
        passing = {"accuracy": 0.0, "macro_f1": 0.0, "worst_class_f1": 0.0, "calibration_error": 1.0}
        config = make_eval_config(len(CLASSES), passing | floors, code_digest="x")
        context = base_beam_executor.BaseBeamExecutor.Context(
            beam_pipeline_args=beam_args(BeamConfig()), tmp_dir=str(directory / "tmp"), unique_id="1"
        )
        executor.Executor(context).Do(
            {"model": [model], "examples": [examples], "schema": [schema]},
            {"evaluation": [evaluation], "blessing": [blessing]},
            {
                "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
                "example_splits": json.dumps([features.TEST]),
            },
        )
        return Evaluation(evaluation.uri, blessing.get_int_custom_property("blessed") == 1)

    return run


def write_examples(directory: Path, rows: list[tuple[str, int, str]]) -> None:
    """Writes rows as one compressed TFRecord file."""
    directory.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(directory / "data.gz"), "GZIP") as writer:
        for keyword, label, length in rows:
            feature = {
                "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[f"the {keyword} news".encode()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "length": tf.train.Feature(bytes_list=tf.train.BytesList(value=[length.encode()])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def passing(evaluate: Callable[..., Evaluation]) -> Evaluation:
    """Floors a hair below what the model reaches overall, and far above what it reaches in some slices."""
    return evaluate(
        accuracy=ACCURACY - 1e-3, macro_f1=MACRO_F1 - 1e-3, worst_class_f1=2 / 3 - 1e-3, calibration_error=0.101
    )


@pytest.fixture(scope="module")
def failing(evaluate: Callable[..., Evaluation]) -> Evaluation:
    """Floors a hair above what the model reaches."""
    return evaluate(accuracy=0.801, macro_f1=0.782, worst_class_f1=0.668, calibration_error=0.099)


def slice_of(slices: list[SliceMetrics], feature: str, value: str) -> SliceMetrics:
    """Returns the one slice of that name."""
    (found,) = (item for item in slices if (item.feature, item.value) == (feature, value))
    return found


def write_validation(directory: Path, result: validation_result_pb2.ValidationResult) -> str:
    """Writes a verdict as the Evaluator does."""
    with tf.io.TFRecordWriter(str(directory / "validations.tfrecord")) as writer:
        writer.write(result.SerializeToString())
    return str(directory)


def validate(floors: dict[str, float], metrics: dict[str, float]) -> validation_result_pb2.ValidationResult:
    """Returns TFMA's verdict on metrics of the overall slice, without a baseline."""
    config = update_eval_config_with_defaults(make_eval_config(4, floors, "x"), has_baseline=False, rubber_stamp=True)
    values = {metric_types.MetricKey(name): value for name, value in metrics.items()}
    return metrics_validator.validate_metrics(((), values), config)


def test_the_overall_slice_comes_first_with_every_scalar(passing: Evaluation) -> None:
    overall = read_slices(passing.uri, CLASSES)[0]
    assert (overall.feature, overall.value) == ("", "")
    per_class = {f"{name}/{label}" for name in PER_CLASS for label in CLASSES}
    assert set(overall.scalars) == {"example_count", *SCALARS, *per_class}
    expected = {
        "example_count": 10,
        "accuracy": ACCURACY,
        "macro_f1": MACRO_F1,
        "worst_class_f1": 2 / 3,
        "log_loss": LOG_LOSS,
        "calibration_error": 0.1,
        "precision/World": 3 / 4,
        "precision/Business": 2 / 3,
        "precision/Sci/Tech": 1,
        "recall/World": 1,
        "recall/Sports": 2 / 3,
        "recall/Sci/Tech": 1 / 2,
    } | {f"f1/{label}": value for label, value in F1.items()}
    assert {name: overall.scalars[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_slices_are_labels_by_class_name_and_lengths_that_occur(passing: Evaluation) -> None:
    named = [(item.feature, item.value) for item in read_slices(passing.uri, CLASSES)]
    labels = [("label", name) for name in ("Business", "Sci/Tech", "Sports", "World")]
    assert named == [("", ""), *labels, ("length", "long"), ("length", "short")]


@pytest.mark.parametrize(
    ("feature", "value", "rows", "accuracy"),
    [
        ("label", "World", 3, 1),
        ("label", "Sports", 3, 2 / 3),
        ("label", "Business", 2, 1),
        ("label", "Sci/Tech", 2, 1 / 2),
        ("length", "short", 6, 1),
        ("length", "long", 4, 1 / 2),
    ],
)
def test_a_slice_holds_its_own_rows_only(
    passing: Evaluation, feature: str, value: str, rows: int, accuracy: float
) -> None:
    item = slice_of(read_slices(passing.uri, CLASSES), feature, value)
    assert item.scalars["example_count"] == rows
    assert item.scalars["accuracy"] == pytest.approx(accuracy)
    assert item.arrays["confusion_matrix"].sum() == rows
    if feature == "label":
        assert item.scalars[f"recall/{value}"] == pytest.approx(accuracy)


def test_arrays_keep_their_shape(passing: Evaluation) -> None:
    slices = read_slices(passing.uri, CLASSES)
    assert {item.arrays["confusion_matrix"].shape for item in slices} == {(4, 4)}
    assert {item.arrays["reliability_bins"].shape for item in slices} == {(15, 3)}
    assert slices[0].arrays["confusion_matrix"].tolist() == [[3, 0, 0, 0], [1, 2, 0, 0], [0, 0, 2, 0], [0, 0, 1, 1]]
    bins = np.zeros((15, 3))
    bins[10] = (10, 7, 8)
    np.testing.assert_allclose(slices[0].arrays["reliability_bins"], bins, rtol=1e-6)


def test_floors_hold_for_the_overall_slice_only(passing: Evaluation) -> None:
    long = slice_of(read_slices(passing.uri, CLASSES), "length", "long")
    assert long.scalars["accuracy"] < ACCURACY - 0.1
    assert long.scalars["worst_class_f1"] == 0
    assert passing.blessed
    assert read_failures(passing.uri) == []


def test_floors_hold_without_a_baseline(failing: Evaluation) -> None:
    assert not failing.blessed
    assert sorted(read_failures(failing.uri)) == [
        "accuracy is 0.8000, below the floor of 0.8010",
        "calibration_error is 0.1000, above the ceiling of 0.0990",
        "macro_f1 is 0.7810, below the floor of 0.7820",
        "worst_class_f1 is 0.6667, below the floor of 0.6680",
    ]


FLOORS = {"accuracy": 0.9, "macro_f1": 0.8, "worst_class_f1": 0.7, "calibration_error": 0.05}


@pytest.mark.parametrize(
    ("metric", "value", "sentence"),
    [
        ("accuracy", 0.8951, "accuracy is 0.8951, below the floor of 0.9000"),
        ("macro_f1", 0.7, "macro_f1 is 0.7000, below the floor of 0.8000"),
        ("worst_class_f1", 0.0, "worst_class_f1 is 0.0000, below the floor of 0.7000"),
        ("calibration_error", 0.06, "calibration_error is 0.0600, above the ceiling of 0.0500"),
        ("accuracy", math.nan, "accuracy is nan, below the floor of 0.9000"),
    ],
)
def test_each_floor_alone_fails_with_one_sentence(tmp_path: Path, metric: str, value: float, sentence: str) -> None:
    result = validate(FLOORS, FLOORS | {metric: value})
    assert not result.validation_ok
    assert read_failures(write_validation(tmp_path, result)) == [sentence]


def test_a_metric_that_equals_its_floor_passes(tmp_path: Path) -> None:
    result = validate(FLOORS, FLOORS)
    assert result.validation_ok
    assert read_failures(write_validation(tmp_path, result)) == []


def test_a_failure_in_a_slice_names_the_slice(tmp_path: Path) -> None:
    result = validation_result_pb2.ValidationResult()
    group = result.metric_validations_per_slice.add()
    group.slice_key.single_slice_keys.add(column="length", bytes_value=b"long")
    failure = group.failures.add()
    failure.metric_key.name = "accuracy"
    failure.metric_value.double_value.value = 0.5
    failure.metric_threshold.value_threshold.lower_bound.value = 0.75
    assert read_failures(write_validation(tmp_path, result)) == [
        "accuracy in slice length=long is 0.5000, below the floor of 0.7500"
    ]


def test_an_evaluation_without_floors_is_a_failure(tmp_path: Path) -> None:
    result = validation_result_pb2.ValidationResult(validation_ok=False, missing_thresholds=True)
    assert read_failures(write_validation(tmp_path, result)) == ["no floor was checked: at least accuracy needs one"]


def test_a_verdict_without_reasons_is_a_failure(tmp_path: Path) -> None:
    result = validation_result_pb2.ValidationResult(validation_ok=False)
    (sentence,) = read_failures(write_validation(tmp_path, result))
    assert "not valid" in sentence


def test_a_missing_evaluation_is_an_error_and_not_a_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="validations"):
        read_failures(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="metrics"):
        read_slices(str(tmp_path), CLASSES)


def test_the_code_digest_is_part_of_the_configuration() -> None:
    first, second = (make_eval_config(4, FLOORS, digest) for digest in ("one", "two"))
    assert first != second
    assert first == make_eval_config(4, FLOORS, "one")
