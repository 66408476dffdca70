"""ModelGate stops the run unless the Evaluator blessed the model and no floor is missed."""

import importlib.util
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_model_analysis.proto import validation_result_pb2
from tfx.types import standard_artifacts

from components.artifacts import Verdict
from components.errors import GateRejectedError
from components.gates import model as gate_module
from components.gates.verdict import VERDICT_FILE

ACCURACY_SENTENCE = "accuracy is 0.8500, below the floor of 0.9000"
CALIBRATION_SENTENCE = "calibration_error is 0.2000, above the ceiling of 0.1000"


def validation(*failures: str) -> validation_result_pb2.ValidationResult:
    """Returns a verdict of the Evaluator in which the named metrics miss their floors."""
    result = validation_result_pb2.ValidationResult(validation_ok=not failures)
    if failures:
        group = result.metric_validations_per_slice.add()
        group.slice_key.SetInParent()
    for name in failures:
        failure = group.failures.add()
        failure.metric_key.name = name
        if name == "calibration_error":
            failure.metric_value.double_value.value = 0.2
            failure.metric_threshold.value_threshold.upper_bound.value = 0.1
        else:
            failure.metric_value.double_value.value = 0.85
            failure.metric_threshold.value_threshold.lower_bound.value = 0.9
    return result


@pytest.fixture
def run_gate(tmp_path: Path) -> Callable[..., dict]:
    """Runs a gate on what an Evaluator wrote; returns the verdict: ``run_gate(validation(), blessed=1)``."""

    def run(
        result: validation_result_pb2.ValidationResult | None, blessed: int | None, gate: Any = gate_module.ModelGate
    ) -> dict:
        evaluation, blessing, verdict = (
            standard_artifacts.ModelEvaluation(),
            standard_artifacts.ModelBlessing(),
            Verdict(),
        )
        for artifact in (evaluation, blessing, verdict):
            artifact.uri = tempfile.mkdtemp(dir=tmp_path)
        if result is not None:
            with tf.io.TFRecordWriter(str(Path(evaluation.uri, "validations.tfrecord"))) as writer:
                writer.write(result.SerializeToString())
        if blessed is not None:
            blessing.set_int_custom_property("blessed", blessed)
        verdict_file = Path(verdict.uri, VERDICT_FILE)
        try:
            gate.test_call(evaluation=evaluation, blessing=blessing, verdict=verdict, code_digest="x")
        except GateRejectedError:
            assert not verdict_file.exists()
            raise
        return json.loads(verdict_file.read_text())

    return run


def test_a_blessed_model_passes_with_a_verdict(run_gate: Callable[..., dict]) -> None:
    assert run_gate(validation(), blessed=1) == {"gate": "ModelGate", "passed": True, "reasons": [], "numbers": {}}


@pytest.mark.parametrize("blessed", [0, None], ids=["not_blessed", "no_word"])
def test_a_model_that_is_not_blessed_stops_the_run(run_gate: Callable[..., dict], blessed: int | None) -> None:
    with pytest.raises(GateRejectedError) as caught:
        run_gate(validation(), blessed=blessed)
    assert caught.value.gate == "ModelGate"
    assert caught.value.reasons == ["the Evaluator did not bless the model"]


@pytest.mark.parametrize("blessed", [0, 1, None])
def test_a_missed_floor_stops_the_run_whatever_the_blessing(run_gate: Callable[..., dict], blessed: int | None) -> None:
    with pytest.raises(GateRejectedError) as caught:
        run_gate(validation("accuracy"), blessed=blessed)
    assert caught.value.reasons == [ACCURACY_SENTENCE]
    assert str(caught.value) == f"ModelGate: {ACCURACY_SENTENCE}"


def test_every_missed_floor_is_a_reason(run_gate: Callable[..., dict]) -> None:
    with pytest.raises(GateRejectedError) as caught:
        run_gate(validation("accuracy", "calibration_error"), blessed=0)
    assert caught.value.reasons == [ACCURACY_SENTENCE, CALIBRATION_SENTENCE]


def test_an_evaluation_that_checked_no_floor_stops_the_run(run_gate: Callable[..., dict]) -> None:
    unchecked = validation_result_pb2.ValidationResult(validation_ok=True, missing_thresholds=True)
    with pytest.raises(GateRejectedError, match="no floor was checked"):
        run_gate(unchecked, blessed=1)


def test_an_evaluation_without_a_verdict_does_not_pass(run_gate: Callable[..., dict]) -> None:
    with pytest.raises(FileNotFoundError, match="validations"):
        run_gate(None, blessed=1)


MUTANTS = {
    "ignores_reasons": ("if reasons:", "if False:"),
    "ignores_missed_floors": ("read_failures(evaluation.uri)", "[]"),
    "ignores_the_blessing": ('blessing.get_int_custom_property("blessed") != 1', "False"),
    "takes_any_word_for_a_blessing": (
        'get_int_custom_property("blessed") != 1',
        'get_int_custom_property("blessed") == 2',
    ),
    "blessing_outweighs_floors": (
        "    if reasons:",
        '    if reasons and blessing.get_int_custom_property("blessed") != 1:',
    ),
}
CHECKS = (
    (validation(), 0),
    (validation("accuracy"), 0),
    (validation("accuracy"), 1),
    (validation("accuracy", "calibration_error"), 1),
)
"""What must never pass: a verdict of the Evaluator, and its blessing."""


@pytest.fixture
def mutate(tmp_path: Path) -> Iterator[Callable[[str, str], ModuleType]]:
    """Imports a copy of the gate with one piece of its source replaced."""
    name = "mutated_model_gate"

    def load(old: str, new: str) -> ModuleType:
        source = inspect.getsource(gate_module)
        assert source.count(old) == 1
        path = tmp_path / f"{name}.py"
        path.write_text(source.replace(old, new))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop(name, None)


def lets_pass(run_gate: Callable[..., dict], gate: Any) -> list[int]:
    """Returns which of ``CHECKS`` a gate lets pass."""
    passed = []
    for number, (result, blessed) in enumerate(CHECKS):
        try:
            run_gate(result, blessed, gate)
        except GateRejectedError:
            continue
        passed.append(number)
    return passed


def test_the_gate_lets_none_of_the_checks_pass(run_gate: Callable[..., dict]) -> None:
    assert lets_pass(run_gate, gate_module.ModelGate) == []


@pytest.mark.parametrize(("old", "new"), MUTANTS.values(), ids=MUTANTS)
def test_a_gate_that_does_not_do_its_work_is_seen(
    run_gate: Callable[..., dict], mutate: Callable[[str, str], ModuleType], old: str, new: str
) -> None:
    assert lets_pass(run_gate, mutate(old, new).ModelGate) != []
