"""ServingGate stops the run unless the exported model serves, in a clean process, what was evaluated."""

import importlib
import io
import json
import os
import shutil
import signal
import sys
import textwrap
import types
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components import features
from components.artifacts import Answers, Verdict
from components.evaluation.predictions import Predictions, save
from components.file_names import CLASSES_FILE
from components.gates.serving import component as serving
from components.gates.serving import probe as serving_probe
from components.gates.serving import process as serving_process
from components.gates.serving.checks import check_serving
from components.gates.serving.component import ServingGate, check_directory, examine_model
from components.gates.serving.gate import ServingGateConfig
from components.gates.serving.process import Answer, Probe, clean_environment, make_request, probe
from components.gates.serving.requests import EVALUATED_ROWS, GOLDEN, ODD, make_requests
from components.gates.verdict import MOST_ROWS, Check, read_verdict

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
# Of a machine that does much else at the same time.
PATIENT = ServingGateConfig(p50_ms=10_000, p95_ms=10_000, load_seconds=300, process_seconds=300, requests=10)
TEXT = [tf.TensorSpec([None], tf.string, name=features.TEXT)]
EXAMPLES = [tf.TensorSpec([None], tf.string, name=features.EXAMPLES_INPUT)]


class Tiny(tf.Module):
    """A linear model over 32 hashed words; what is wrong with it, its children say."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(seed).normal(size=(32, 4)).astype(np.float32))
        self.classes = tf.constant(CLASSES)

    def logits(self, text: tf.Tensor) -> tf.Tensor:
        words = tf.strings.to_hash_bucket_fast(tf.strings.split(text), 32)
        return tf.reduce_sum(tf.gather(self.weights, words), axis=1)

    def probabilities(self, text: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self.logits(text))

    def label_id(self, probabilities: tf.Tensor) -> tf.Tensor:
        return tf.argmax(probabilities, axis=1)

    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.ensure_shape(self.probabilities(text), [None, 4])
        label_id = self.label_id(probabilities)
        return {
            features.OUTPUT_LABEL: tf.gather(self.classes, label_id),
            features.OUTPUT_LABEL_ID: label_id,
            features.OUTPUT_PROBABILITIES: probabilities,
        }

    def classify_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {features.TEXT: tf.io.FixedLenFeature([], tf.string)}
        return self.classify(tf.io.parse_example(examples, spec)[features.TEXT])

    def signatures(self) -> dict[str, Any]:
        return {
            features.SERVING_SIGNATURE: tf.function(self.classify, TEXT),
            features.EXAMPLES_SIGNATURE: tf.function(self.classify_examples, EXAMPLES),
        }


class NamesOthers(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = super().classify(text)
        return answer | {features.OUTPUT_LABEL: tf.gather(tf.roll(self.classes, 1, 0), answer["label_id"])}


class NamesLeastLikely(Tiny):
    def label_id(self, probabilities: tf.Tensor) -> tf.Tensor:
        return tf.argmin(probabilities, axis=1)


class SumsToMore(Tiny):
    def probabilities(self, text: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.logits(text))


class SumsAlmost(Tiny):
    def probabilities(self, text: tf.Tensor) -> tf.Tensor:
        return super().probabilities(text) * 1.0001


class IsNegative(Tiny):
    def probabilities(self, text: tf.Tensor) -> tf.Tensor:
        return super().probabilities(text) + tf.constant([[0.5, -0.5, 0.0, 0.0]])


class DividesByNoWords(Tiny):
    def logits(self, text: tf.Tensor) -> tf.Tensor:
        words = tf.strings.to_hash_bucket_fast(tf.strings.split(text), 32)
        return tf.reduce_mean(tf.gather(self.weights, words), axis=1)


class LooksAtTheBatch(Tiny):
    def logits(self, text: tf.Tensor) -> tf.Tensor:
        return super().logits(text) + 0.01 * tf.cast(tf.size(text) - 1, tf.float32) * tf.constant([[1.0, 0, 0, 0]])


class ReadsExamplesOtherwise(Tiny):
    def classify_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {features.TEXT: tf.io.FixedLenFeature([], tf.string)}
        return self.classify(tf.strings.upper(tf.io.parse_example(examples, spec)[features.TEXT]))


class RefusesLongTexts(Tiny):
    def logits(self, text: tf.Tensor) -> tf.Tensor:
        fits = tf.debugging.assert_less(tf.strings.length(text), 2_000, "too long for me\nand more")
        with tf.control_dependencies([fits]):
            return super().logits(text)


class WasNotEvaluated(Tiny):
    def __init__(self) -> None:
        super().__init__(seed=1)


class LacksExamples(Tiny):
    def signatures(self) -> dict[str, Any]:
        return {features.SERVING_SIGNATURE: tf.function(self.classify, TEXT)}


class HasAThird(Tiny):
    def signatures(self) -> dict[str, Any]:
        return super().signatures() | {"explain": tf.function(self.classify, TEXT)}


class TakesSentences(Tiny):
    def signatures(self) -> dict[str, Any]:
        other = tf.function(lambda sentence: self.classify(sentence), [tf.TensorSpec([None], tf.string, "sentence")])
        return super().signatures() | {features.SERVING_SIGNATURE: other}


class TakesEight(Tiny):
    def signatures(self) -> dict[str, Any]:
        eight = tf.function(self.classify, [tf.TensorSpec([8], tf.string, features.TEXT)])
        return super().signatures() | {features.SERVING_SIGNATURE: eight}


class IsDouble(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = super().classify(text)
        return answer | {features.OUTPUT_PROBABILITIES: tf.cast(answer[features.OUTPUT_PROBABILITIES], tf.float64)}


class CountsInThirtyTwo(Tiny):
    def label_id(self, probabilities: tf.Tensor) -> tf.Tensor:
        return tf.argmax(probabilities, axis=1, output_type=tf.int32)


class AnswersMore(Tiny):
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return super().classify(text) | {"logits": self.logits(text)}


class RunsPython(Tiny):
    def logits(self, text: tf.Tensor) -> tf.Tensor:
        return super().logits(tf.numpy_function(lambda value: value, [text], tf.string))


class ReadsFiles(Tiny):
    def logits(self, text: tf.Tensor) -> tf.Tensor:
        return super().logits(tf.map_fn(tf.io.read_file, text))


def export(module: Tiny, directory: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    tf.saved_model.save(module, str(directory), signatures=module.signatures())
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / CLASSES_FILE).write_text("\n".join(classes) + "\n")
    return directory


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Tiny(), tmp_path_factory.mktemp("honest") / "model")


@pytest.fixture(scope="module")
def answers() -> Predictions:
    texts = [f"report {number} on word{number % 7} and word{number % 11}".encode() for number in range(200)]
    answer = Tiny().classify(tf.constant(texts))
    label_ids = answer[features.OUTPUT_LABEL_ID].numpy()
    return Predictions(texts, label_ids, label_ids, answer[features.OUTPUT_PROBABILITIES].numpy())


def ask_here(model: Path, answers: Predictions, settings: ServingGateConfig = PATIENT) -> Probe:
    """What the process would reply, without the seconds that it takes to start."""
    request = make_request(model, [request.text for request in make_requests(answers)], settings)
    return Probe.model_validate_json(json.dumps(serving_probe.examine(request)))


def judge(model: Path, answers: Predictions) -> list[Check]:
    return check_serving(ask_here(model, answers), PATIENT, CLASSES, answers)


def failed(checks: list[Check]) -> dict[str, Check]:
    assert all(check.severity == "fail" and "\n" not in check.sentence for check in checks)
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks if not check.passed}


def never(*args: object) -> None:
    raise AssertionError("the model was run")


@pytest.fixture(scope="module")
def sound(honest: Path, answers: Predictions) -> Probe:
    return ask_here(honest, answers)


def test_the_requests_are_golden_odd_and_rows_from_the_first_to_the_last(answers: Predictions) -> None:
    requests = make_requests(answers)
    rows = [request.row for request in requests if request.row is not None]
    assert len(requests) == len(GOLDEN) + len(ODD) + EVALUATED_ROWS
    assert (rows[0], rows[-1], len(set(rows))) == (0, 199, EVALUATED_ROWS)
    assert [request.text for request in requests if request.row == rows[5]] == [answers.texts[rows[5]]]
    assert {b"", b"goal " * 10_000} <= {request.text for request in requests}
    assert any(b"\0" in request.text for request in requests)
    few = replace(answers, texts=answers.texts[:3])
    assert [request.row for request in make_requests(few) if request.row is not None] == [0, 1, 2]


def test_an_honest_model_passes(sound: Probe, answers: Predictions) -> None:
    checks = check_serving(sound, PATIENT, CLASSES, answers)
    assert failed(checks) == {}
    assert [check.name for check in checks] == [
        "process",
        "load_seconds",
        "memory_mb",
        "signatures",
        "p50_ms",
        "p95_ms",
        "answered",
        "probabilities",
        "labels",
        "batch",
        "agreement",
        "evaluated",
    ]
    assert sound.memory_mb > 100
    assert len(sound.latencies_ms) == PATIENT.requests


@pytest.mark.parametrize(
    ("mutant", "check", "words"),
    [
        (NamesOthers, "labels", ["'Business' with label_id 3, not 'Sci/Tech' with 3"]),
        (SumsToMore, "probabilities", ["not probabilities that sum to 1"]),
        (SumsAlmost, "probabilities", ["not probabilities that sum to 1"]),
        (IsNegative, "probabilities", ["not probabilities that sum to 1"]),
        (DividesByNoWords, "probabilities", ["the empty text", "nan"]),
        (LooksAtTheBatch, "batch", ["alone and in a batch"]),
        (ReadsExamplesOtherwise, "agreement", ["through both signatures"]),
        (RefusesLongTexts, "answered", ["one token 10,000 times: InvalidArgumentError", "too long for me"]),
        (WasNotEvaluated, "evaluated", ["as served and as evaluated", "row 0 of the test split"]),
        (LacksExamples, "signatures", ["signature serve_examples is missing"]),
        (HasAThird, "signatures", ["signature explain is in no contract"]),
        (
            TakesSentences,
            "signatures",
            [
                "sentence of serving_default is string [N] and should be absent",
                "text of serving_default is absent and should be string [N]",
            ],
        ),
        (TakesEight, "signatures", ["text of serving_default is string [8] and should be string [N]"]),
        (
            IsDouble,
            "signatures",
            ["probabilities of serving_default is float64 [N, 4] and should be float32 [N, 4]", "of serve_examples is"],
        ),
        (CountsInThirtyTwo, "signatures", ["label_id of serve_examples is int32 [N] and should be int64 [N]"]),
        (AnswersMore, "signatures", ["logits of serving_default is float32 [N, 4] and should be absent"]),
    ],
)
def test_a_mutant_is_caught_by_the_check_for_it(
    tmp_path: Path, answers: Predictions, mutant: type[Tiny], check: str, words: list[str]
) -> None:
    found = failed(judge(export(mutant(), tmp_path / "model"), answers))
    assert list(found) == [check]
    for word in words:
        assert word in found[check].sentence
    assert len(found[check].rows) <= MOST_ROWS


def test_a_label_id_that_is_not_the_likeliest_is_not_as_evaluated_either(tmp_path: Path, answers: Predictions) -> None:
    found = failed(judge(export(NamesLeastLikely(), tmp_path / "model"), answers))
    assert list(found) == ["labels", "evaluated"]
    assert "labels are not the class of the largest probability" in found["labels"].sentence
    assert "apart where 1e-05 is allowed" in found["evaluated"].sentence
    assert found["evaluated"].value <= 1e-5


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"load_seconds": 300.5}, "load_seconds"),
        ({"load_seconds": float("nan")}, "load_seconds"),
        ({"memory_mb": 2_000.5}, "memory_mb"),
        ({"latencies_ms": (1.0,) * 4 + (10_001.0,) * 6}, "p50_ms"),
        ({"latencies_ms": (1.0,) * 18 + (10_001.0,) * 2}, "p95_ms"),
    ],
)
def test_a_limit_is_held(sound: Probe, answers: Predictions, change: dict[str, Any], check: str) -> None:
    found = failed(check_serving(sound.model_copy(update=change), PATIENT, CLASSES, answers))
    assert check in found
    assert set(found) <= {check, "p95_ms"}
    assert f"above the limit of {getattr(PATIENT, check):,g}" in found[check].sentence
    assert found[check].limit == getattr(PATIENT, check)


def test_a_limit_may_be_reached(sound: Probe, answers: Predictions) -> None:
    change = {"load_seconds": 300.0, "memory_mb": 2_000.0, "latencies_ms": (10_000.0,) * 10}
    assert failed(check_serving(sound.model_copy(update=change), PATIENT, CLASSES, answers)) == {}


@pytest.mark.parametrize(("shift", "passes"), [(0.8e-5, True), (1.2e-5, False)])
def test_probabilities_may_differ_by_the_tolerance(
    sound: Probe, answers: Predictions, shift: float, passes: bool
) -> None:
    shifted = answers.probabilities.astype(float) + shift
    found = failed(check_serving(sound, PATIENT, CLASSES, replace(answers, probabilities=shifted)))
    assert list(found) == ([] if passes else ["evaluated"])


def test_one_other_label_among_the_evaluated_rows_is_enough(sound: Probe, answers: Predictions) -> None:
    label_ids = answers.label_ids.copy()
    label_ids[199] = (label_ids[199] + 1) % 4
    found = failed(check_serving(sound, PATIENT, CLASSES, replace(answers, label_ids=label_ids)))
    assert list(found) == ["evaluated"]
    assert "1 of 64 texts" in found["evaluated"].sentence
    assert "row 199 of the test split" in found["evaluated"].rows[0]


def test_answers_of_another_number_of_classes_are_not_the_same(sound: Probe, answers: Predictions) -> None:
    found = failed(check_serving(sound, PATIENT, CLASSES, replace(answers, probabilities=np.ones((200, 3)) / 3)))
    assert "4 classes and 3" in found["evaluated"].sentence


def test_a_batch_that_fails_is_named(sound: Probe, answers: Predictions) -> None:
    together = sound.together | {features.EXAMPLES_SIGNATURE: Answer(error="ResourceExhaustedError: out of memory")}
    found = failed(check_serving(sound.model_copy(update={"together": together}), PATIENT, CLASSES, answers))
    assert list(found) == ["answered"]
    assert "all texts in a batch of serve_examples: ResourceExhaustedError" in found["answered"].sentence


def test_a_process_without_a_reply_fails_and_nothing_else_is_judged(answers: Predictions) -> None:
    checks = check_serving(Probe(failure="the model's process was ended by signal 11"), PATIENT, CLASSES, answers)
    assert [(check.name, check.passed, check.sentence) for check in checks] == [
        ("process", False, "the model's process was ended by signal 11")
    ]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: (model / "hook.py").write_text("x"), "'hook.py' has no place in a SavedModel"),
        (lambda model: (model / "assets" / "link.txt").symlink_to("/etc/passwd"), "is a link"),
        (lambda model: (model / "saved_model.pb").write_bytes(b"\xff" * 9), "damaged saved_model.pb"),
        (lambda model: (model / "assets.extra" / "classes.txt").unlink(), "no assets.extra/classes.txt"),
        (
            lambda model: (model / "assets.extra" / "classes.txt").write_bytes(b"\xff\n"),
            "no assets.extra/classes.txt that can be read",
        ),
        (lambda model: (model / "assets.extra" / "classes.txt").write_text("World\n"), "not two or more names"),
        (lambda model: (model / "assets.extra" / "classes.txt").write_text("World\n\nWorld\n"), "each once"),
    ],
)
def test_a_model_that_is_not_plain_is_never_run(
    tmp_path: Path,
    honest: Path,
    answers: Predictions,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], Any],
    words: str,
) -> None:
    monkeypatch.setattr(serving, "probe", never)
    shutil.copytree(honest, tmp_path / "model")
    (tmp_path / "model" / "assets").mkdir(exist_ok=True)
    spoil(tmp_path / "model")
    checks, _ = examine_model(tmp_path / "model", answers, PATIENT)
    (check,) = failed(checks).values()
    assert words in check.sentence


@pytest.mark.parametrize(("module", "op"), [(RunsPython, "PyFunc"), (ReadsFiles, "ReadFile")])
def test_a_graph_that_reaches_outside_is_never_run(
    tmp_path: Path, answers: Predictions, monkeypatch: pytest.MonkeyPatch, module: type[Tiny], op: str
) -> None:
    monkeypatch.setattr(serving, "probe", never)
    checks, _ = examine_model(export(module(), tmp_path / "model"), answers, PATIENT)
    assert f"uses the operation {op}" in failed(checks)["files"].sentence


def test_a_model_that_is_too_large_is_never_run(
    honest: Path, answers: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "probe", never)
    small = PATIENT.model_copy(update={"size_mb": 0.001})
    checks, numbers = examine_model(honest, answers, small)
    assert list(failed(checks)) == ["size_mb"]
    assert numbers["size_mb"] > 0.001
    assert failed(check_directory(honest, PATIENT)) == {}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another program in the place of the probe."""

    def put(source: str) -> None:
        path = tmp_path / "script.py"
        path.write_text(
            "import json, os, signal, sys, time\nrequest = json.load(sys.stdin)\n" + textwrap.dedent(source)
        )
        monkeypatch.setattr(serving_probe, "__file__", str(path))

    return put


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("sys.exit('first\\nlast   words\\n\\n')", "the model's process ended with code 1: last words"),
        ("sys.exit(3)", "the model's process ended with code 3: it said nothing"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the model's process was ended by signal 11: it said nothing"),
        ("sys.exit('x' * 100_000)", "the model's process ended with code 1: " + "x" * 300),
        ("print('fine')", "the model's process ended without a reply"),
        ("open(request['reply'], 'w').write('fine')", "replied with something else than agreed, at the start"),
        (
            "open(request['reply'], 'w').write('{\"alone\": [{\"labels\": 7}]}')",
            "replied with something else than agreed, at alone.0.labels",
        ),
    ],
)
def test_a_process_that_goes_wrong_is_told_in_one_sentence(
    script: Callable[[str], None], tmp_path: Path, source: str, failure: str
) -> None:
    script(source)
    found = probe(tmp_path, [b"a"], PATIENT).failure
    assert found is not None
    assert failure in found
    assert "\n" not in found
    assert len(found) < 400


def test_a_reply_that_is_too_long_is_not_read(
    script: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_process, "_MOST_REPLY_BYTES", 10)
    script("open(request['reply'], 'w').write(' ' * 11)")
    assert "replied with 11 bytes, more than 10" in str(probe(tmp_path, [b"a"], PATIENT).failure)


def test_chatter_does_not_disturb_the_reply(script: Callable[[str], None], tmp_path: Path) -> None:
    script(
        """
        print("{" * 1_000_000)
        print("W0000 something\\n" * 100_000, file=sys.stderr)
        open(request["reply"], "w").write('{"memory_mb": 7, "alone": [{"probabilities": [[NaN, 1]]}]}')
        """
    )
    found = probe(tmp_path, [b"a"], PATIENT)
    assert (found.failure, found.memory_mb) == (None, 7)
    assert np.isnan(found.alone[0].probabilities[0][0])
    assert found.process_seconds > 0


def test_a_process_that_takes_too_long_is_killed(script: Callable[[str], None], tmp_path: Path) -> None:
    mark, end = tmp_path / "pid", tmp_path / "end"
    script(f"open({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\nopen({str(end)!r}, 'w')")
    found = probe(tmp_path, [b"a"], PATIENT.model_copy(update={"process_seconds": 3.0}))
    assert found.failure == "the model's process was not done after 3 s"
    assert not end.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_the_process_is_handed_no_password_and_leaves_nothing(script: Callable[[str], None], tmp_path: Path) -> None:
    script(
        """
        open("canary", "w").write("x")
        found = {"environment": dict(os.environ), "place": os.getcwd(), "path": sys.path, "argv": sys.orig_argv}
        open(request["model"] + "/found.json", "w").write(json.dumps(found))
        """
    )
    environment = {
        "TF_USE_LEGACY_KERAS": "1",
        "MLFLOW_TRACKING_URI": "http://user:hunter2@host",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "PYTHONPATH": "/hunter2",
        "OMP_NUM_THREADS": "2",
    }
    probe(tmp_path, [b"a"], PATIENT, environment=environment)
    found = json.loads((tmp_path / "found.json").read_text())
    assert "hunter2" not in json.dumps(found)
    assert "-I" in found["argv"]
    assert found["environment"] == clean_environment(environment, found["place"])
    assert set(found["environment"]) == {"OMP_NUM_THREADS", "HOME", "TMPDIR", "LANG", "TF_CPP_MIN_LOG_LEVEL"}
    assert not Path(found["place"]).exists()


@pytest.mark.parametrize(
    "name", ["tf_keras", "tfx.v1", "mlflow", "components.text.words", "apache_beam", "tensorflow_hub"]
)
def test_what_a_server_does_not_have_is_absent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    top = name.partition(".")[0]
    for module in [module for module in sys.modules if module.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [serving_probe.Absence(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="a server has TensorFlow and tensorflow-text only"):
        importlib.import_module(name)


def test_a_model_that_needs_more_than_tensorflow_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(directory: str) -> None:
        importlib.import_module("tf_keras")

    stub = types.ModuleType("tensorflow")
    stub.__dict__.update(__version__="0", saved_model=types.SimpleNamespace(load=load))
    for module in [module for module in sys.modules if module.partition(".")[0] == "tf_keras"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorflow", stub)
    monkeypatch.setitem(sys.modules, "tensorflow_text", types.ModuleType("tensorflow_text"))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    alarms: list[int] = []
    monkeypatch.setattr(signal, "alarm", alarms.append)
    request = make_request(tmp_path, [b"a"], PATIENT) | {"reply": str(tmp_path / "reply")}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    with pytest.raises(SystemExit, match="ModuleNotFoundError: No module named 'tf_keras'"):
        serving_probe.main()
    assert alarms == [301]
    assert not (tmp_path / "reply").exists()


@pytest.fixture
def run_gate(tmp_path: Path, answers: Predictions) -> Callable[..., dict]:
    """Runs the node's function on a model; returns the verdict, of a model that is rejected too."""

    def run(directory: Path, settings: ServingGateConfig = PATIENT) -> dict:
        model, held, verdict = standard_artifacts.Model(), Answers(), Verdict()
        for artifact in (model, held, verdict):
            artifact.uri = str(tmp_path / type(artifact).__name__)
            Path(artifact.uri).mkdir()
        shutil.copytree(directory, Path(model.uri, "Format-Serving"))
        save(answers, Path(held.uri, "predictions.npz"))
        ServingGate.test_call(
            model=model, answers=held, verdict=verdict, settings=settings.model_dump_json(), code_digest="x"
        )
        return asdict(read_verdict(verdict.uri))

    return run


def test_the_gate_lets_an_honest_model_pass_and_keeps_the_numbers(run_gate: Callable[..., dict], honest: Path) -> None:
    verdict = run_gate(honest)
    assert verdict["reasons"] == []
    assert verdict["passed"]
    numbers = verdict["numbers"]
    assert 0 < numbers["p50_ms"] <= numbers["p95_ms"] < PATIENT.p95_ms
    assert numbers["tensorflow"] == tf.__version__
    assert numbers["timed"] == PATIENT.requests
    assert numbers["process_seconds"] > numbers["import_seconds"] + numbers["load_seconds"] > 0
    # Of the process itself, not of this one, which holds far more.
    assert 100 < numbers["memory_mb"] < 1_500
    for name in ("batch", "agreement", "evaluated"):
        assert 0 <= numbers[name] <= PATIENT.tolerance


def test_the_gate_stops_a_model_that_does_not_load(run_gate: Callable[..., dict], honest: Path, tmp_path: Path) -> None:
    shutil.copytree(honest, tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "variables" / "variables.data-00000-of-00001", 9)
    verdict = run_gate(tmp_path / "cut")
    assert not verdict["passed"]
    (reason,) = verdict["reasons"]
    assert reason.startswith("the model's process ended with code 1: ")
    assert "Error" in reason
