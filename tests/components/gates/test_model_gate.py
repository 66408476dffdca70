"""ModelGate stops the run where a floor is missed, or where the candidate may be worse than the champion."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_model_analysis.proto import metrics_for_slice_pb2, validation_result_pb2
from tfx.types import standard_artifacts

from components.artifacts import Answers, Baseline, Champion, Verdict
from components.errors import BadInputError, GateRejectedError
from components.evaluation.predictions import Predictions, load, save
from components.file_names import CHAMPION_FILE, PREDICTIONS_FILE, VERDICT_FILE
from components.gates.model import component as gate_module
from components.gates.model.component import BETTER, NOT_WORSE, WORSE
from components.gates.model.gate import ModelGateConfig
from components.gates.verdict import check_verdict, read_verdict
from components.records import BaselineRecord, ChampionRecord, write_baseline
from components.registry.champion import MODEL_DIR

CLASSES = ("World", "Sports")
ROWS = 2_000
ACCURACY_SENTENCE = "accuracy is 0.8500, below the floor of 0.9000"
# What a metric that misses its floor is, and its bound.
MISSED = {"accuracy": (0.85, "lower_bound", 0.9), "calibration_error": (0.2, "upper_bound", 0.1)}
SERVES = ChampionRecord("3", "7", "run7", "version 3 of ag_news serves")
NOBODY = ChampionRecord(None, None, None, "ag_news has no champion yet")
ARTIFACTS = {
    "evaluation": standard_artifacts.ModelEvaluation, "blessing": standard_artifacts.ModelBlessing,
    "answers": Answers, "baseline": Baseline, "champion": Champion, "examples": standard_artifacts.Examples,
    "verdict": Verdict,
}  # fmt: skip
Counts = tuple[int, int]


def answers_of(wrong: slice, sure: float = 0.75) -> Predictions:
    """Returns answers to numbered rows: wrong in one range, and in the last tenth, which nobody gets right."""
    labels = np.arange(ROWS) % 2
    label_ids = labels.copy()
    for places in (wrong, slice(ROWS - ROWS // 10, ROWS)):
        label_ids[places] = 1 - label_ids[places]
    probabilities = np.full((ROWS, 2), 1 - sure, np.float32)
    probabilities[np.arange(ROWS), label_ids] = sure
    return Predictions([f"row {number:05}".encode() for number in range(ROWS)], labels, label_ids, probabilities)


def both(counts: Counts) -> tuple[Predictions, Predictions]:
    """Returns champion and candidate; ``counts`` are rows that the one alone and the other alone gets right."""
    only_champion, only_candidate = counts
    # They are never equally sure, so that equal answers are not the same model.
    candidate = answers_of(slice(only_candidate, only_candidate + only_champion), sure=0.8)
    return answers_of(slice(0, only_candidate)), candidate


def linear_beside(candidate: Predictions, counts: Counts) -> tuple[BaselineRecord, np.ndarray]:
    """Returns a linear model that gets so many rows right alone, and so many wrong alone."""
    only_linear, only_candidate = counts
    label_ids = candidate.label_ids.copy()
    right = label_ids == candidate.labels
    for places in (np.flatnonzero(~right)[:only_linear], np.flatnonzero(right)[:only_candidate]):
        label_ids[places] = 1 - label_ids[places]
    accuracy = float((label_ids == candidate.labels).mean())
    return BaselineRecord(900, 900, 50, ROWS, accuracy, accuracy, (accuracy, accuracy)), label_ids


@dataclass(frozen=True)
class Case:
    """What the gate is handed.

    Attributes:
        counts: Rows that the champion alone and the candidate alone gets right; None where nobody serves.
        settings: Of the gate.
        missed: Metrics that miss their floor.
        blessed: The Evaluator's word; None where there is none.
        lengths: Slice of length to accuracy and rows.
        kept: What the champion's run kept: ``answers``, those in another ``order``, those to ``other rows``,
            ``nothing``, or a file that is ``damaged``.
        classes: That the champion tells apart.
        same: Whether the candidate is the champion, trained again.
        linear: Rows that the linear baseline alone and the candidate alone gets right.
    """

    counts: Counts | None = None
    settings: dict[str, Any] | None = None
    missed: tuple[str, ...] = ()
    blessed: int | None = 1
    lengths: tuple[tuple[str, float, int], ...] = ()
    kept: str = "answers"
    classes: tuple[str, ...] = CLASSES
    same: bool = False
    linear: Counts = (0, 40)


@dataclass(frozen=True)
class Outcome:
    """What became of it; ``counts`` are those that the gate found."""

    passed: bool
    verdict: str | None = None
    counts: Counts | None = None


STRICT = {"length_accuracy": 0.8, "slice_rows": 100}
COUNTS = {"baseline": "fail"}
# The id of a case names the fault that it sees; a comment names those that the id does not.
CASES: dict[str, tuple[Case, Outcome]] = {
    "first run": (Case(), Outcome(True)),
    "first run, floor missed": (Case(missed=("accuracy",)), Outcome(False)),
    "first run, not blessed": (Case(blessed=0), Outcome(False)),
    "first run, no word": (Case(blessed=None), Outcome(False)),
    "first run, another word": (Case(blessed=2), Outcome(False)),
    "better, floor missed": (Case((0, 80), missed=("accuracy",)), Outcome(False, BETTER, (0, 80))),
    "better, not blessed": (Case((0, 80), blessed=0), Outcome(False, BETTER, (0, 80))),
    # An interval that ignores the pairing would not rule a loss out.
    "equal": (Case((10, 10)), Outcome(True, NOT_WORSE, (10, 10))),
    # Exchanged models, or one compared with itself, would give these two another verdict.
    "better": (Case((0, 80)), Outcome(True, BETTER, (0, 80))),
    "worse": (Case((80, 0)), Outcome(False, WORSE, (80, 0))),
    "a little worse": (Case((12, 4)), Outcome(True, NOT_WORSE, (12, 4))),
    "a little worse, small margin": (Case((12, 4), {"margin": 0.005}), Outcome(False, WORSE, (12, 4))),
    # The bare difference, or the upper end of the interval, would pass.
    "nobody knows": (Case((110, 100)), Outcome(False, WORSE, (110, 100))),
    "nobody minds": (Case((110, 100), {"confidence": 0.1}), Outcome(True, NOT_WORSE, (110, 100))),
    # The bare difference would be called better.
    "a little better": (Case((4, 6)), Outcome(True, NOT_WORSE, (4, 6))),
    "not good enough": (Case((10, 10), {"require": "better"}), Outcome(False, NOT_WORSE, (10, 10))),
    "good enough": (Case((0, 80), {"require": "better"}), Outcome(True, BETTER, (0, 80))),
    "same model": (Case((0, 5), {"margin": 0}, same=True), Outcome(True, NOT_WORSE, (0, 0))),
    "same answers, less sure": (Case((0, 0), {"margin": 0}), Outcome(False, WORSE, (0, 0))),
    "equal, no margin": (Case((10, 10), {"margin": 0}), Outcome(False, WORSE, (10, 10))),
    # Rows that are paired by their place would not be the same rows.
    "another order": (Case((10, 10), kept="order"), Outcome(True, NOT_WORSE, (10, 10))),
    "other rows": (Case((10, 10), kept="other rows"), Outcome(True, NOT_WORSE, (10, 10))),
    "nothing kept": (Case((80, 0), kept="nothing"), Outcome(False, WORSE, (80, 0))),
    "damaged": (Case((80, 0), kept="damaged"), Outcome(False, WORSE, (80, 0))),
    "other classes": (Case((0, 80), classes=("World", "Sports", "Business")), Outcome(False)),
    "classes exchanged": (Case((0, 80), classes=("Sports", "World")), Outcome(False)),
    "slice below its floor": (Case(settings=STRICT, lengths=(("short", 0.7, 100),)), Outcome(False)),
    "slice above its floor": (Case(settings=STRICT, lengths=(("short", 0.9, 100),)), Outcome(True)),
    "slice of few rows": (Case(settings=STRICT, lengths=(("short", 0.7, 99),)), Outcome(True)),
    "linear model better": (Case(linear=(40, 0)), Outcome(True)),
    "linear model better, and that counts": (Case(settings=COUNTS, linear=(40, 0)), Outcome(False)),
    "as good as a linear model": (Case(settings=COUNTS, linear=(3, 3)), Outcome(False)),
    "a row better than a linear model": (Case(settings=COUNTS, linear=(3, 4)), Outcome(True)),
    "linear model better, nobody looks": (Case(settings={"baseline": "off"}, linear=(40, 0)), Outcome(True)),
}


class Bench:
    """Runs the gate on what the nodes before it wrote, and on what ``plant`` made of that."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch):
        self._directory = directory
        self.plant: Callable[[Path], Any] = lambda root: None
        self.asked: list[tuple[str, str, str]] = []
        self.reasons: list[str] = []
        self.written: dict[str, Any] = {}
        self.kept = Path()
        self._champion = answers_of(slice(0))
        monkeypatch.setattr(gate_module, "score", self._score)

    def run(self, case: Case) -> Outcome:
        """Returns what the gate decides; its verdict is in ``written``, why it stopped the run in ``reasons``."""
        root = Path(tempfile.mkdtemp(dir=self._directory))
        artifacts = {name: kind() for name, kind in ARTIFACTS.items()}
        for name, artifact in artifacts.items():
            artifact.uri = str(root / name)
            (root / name).mkdir()
        self._champion, candidate = both(case.counts or (1, 1))
        candidate = self._champion if case.same else candidate
        write_evaluation(root / "evaluation", case)
        if case.blessed is not None:
            artifacts["blessing"].set_int_custom_property("blessed", case.blessed)
        save(candidate, root / "answers" / PREDICTIONS_FILE)
        write_baseline(root / "baseline", *linear_beside(candidate, case.linear))
        write_champion(root / "champion", case, self._champion)
        self.plant(root)
        config = ModelGateConfig(**(case.settings or {}))
        gate_module.ModelGate.test_call(
            **artifacts, classes=json.dumps(CLASSES), settings=config.model_dump_json(), code_digest="x"
        )
        self.kept = root / "verdict"
        self.reasons = []
        try:
            check_verdict(read_verdict(self.kept))
        except GateRejectedError as error:
            self.reasons = error.reasons
        self.written = json.loads((self.kept / VERDICT_FILE).read_text(encoding="utf-8"))
        numbers = self.written["numbers"]
        counts = (numbers["only_champion_right"], numbers["only_candidate_right"]) if "rows" in numbers else None
        assert (self.written["passed"], self.written["reasons"]) == (not self.reasons, self.reasons)
        return Outcome(not self.reasons, numbers["verdict"], counts)

    def _score(self, model: Path, examples: str, split: str) -> Predictions:
        self.asked.append((f"{model.parent.name}/{model.name}", Path(examples).name, split))
        return self._champion


def write_champion(directory: Path, case: Case, champion: Predictions) -> None:
    (directory / CHAMPION_FILE).write_text(json.dumps(asdict(SERVES if case.counts else NOBODY)))
    if not case.counts:
        return
    extra = directory / MODEL_DIR / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "classes.txt").write_text("".join(f"{name}\n" for name in case.classes))
    path = directory / PREDICTIONS_FILE
    if case.kept == "damaged":
        path.write_bytes(b"PK, or so it begins")
    elif case.kept != "nothing":
        places = np.arange(ROWS)[:: -1 if case.kept == "order" else 1]
        texts = [(b"another " if case.kept == "other rows" else b"") + champion.texts[place] for place in places]
        columns = (champion.labels, champion.label_ids, champion.probabilities)
        save(Predictions(texts, *(column[places] for column in columns)), path)


def write_evaluation(directory: Path, case: Case) -> None:
    """Writes what the Evaluator writes: its metrics per slice, and which of them miss their floor."""
    failures = [
        {
            "metric_key": {"name": name},
            "metric_value": {"double_value": {"value": value}},
            "metric_threshold": {"value_threshold": {bound: {"value": limit}}},
        }
        for name, (value, bound, limit) in MISSED.items()
        if name in case.missed
    ]
    groups = [{"slice_key": {}, "failures": failures}] if failures else []
    result = validation_result_pb2.ValidationResult(validation_ok=not failures, metric_validations_per_slice=groups)
    write_records(directory / "validations.tfrecord", result)
    slices = []
    for value, accuracy, rows in (("", 0.9, ROWS), *case.lengths):
        key = {"single_slice_keys": [{"column": "length", "bytes_value": value.encode()}] if value else []}
        metrics = [
            {"key": {"name": name}, "value": {"double_value": {"value": number}}}
            for name, number in (("accuracy", accuracy), ("example_count", float(rows)))
        ]
        slices.append(metrics_for_slice_pb2.MetricsForSlice(slice_key=key, metric_keys_and_values=metrics))
    write_records(directory / "metrics-00000-of-00001.tfrecord", *slices)


def write_records(path: Path, *messages: Any) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message.SerializeToString())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.mark.parametrize(("case", "expected"), CASES.values(), ids=CASES)
def test_the_gate_decides(bench: Bench, case: Case, expected: Outcome) -> None:
    assert bench.run(case) == expected


def test_every_failed_check_is_a_reason_or_a_warning(bench: Bench) -> None:
    missed = ("accuracy", "calibration_error")
    bench.run(Case((80, 0), STRICT, missed, lengths=(("short", 0.7, 100),), linear=(40, 0)))
    checks = bench.written["checks"]
    assert [check["name"] for check in checks] == ["floors", "floors", "length=short", "baseline", "champion"]
    assert [check["severity"] for check in checks] == ["fail", "fail", "fail", "warn", "fail"]
    assert not any(check["passed"] for check in checks)
    *floors, warning, champion = [check["sentence"] for check in checks]
    assert (bench.reasons, bench.written["warnings"]) == ([*floors, champion], [warning])
    assert floors[:2] == [ACCURACY_SENTENCE, "calibration_error is 0.2000, above the ceiling of 0.1000"]
    assert champion.startswith("the candidate may be worse than version 3: accuracy -4.00 points")
    assert bench.written["gate"] == "ModelGate"


def test_a_floor_is_enforced_where_there_is_nobody_to_compare_with(bench: Bench) -> None:
    bench.run(Case(missed=("accuracy",)))
    assert bench.reasons == [ACCURACY_SENTENCE]
    assert bench.written["numbers"] == {"champion": None, "verdict": None}
    assert bench.written["checks"][-1]["sentence"] == "ag_news has no champion yet: the floors alone decide"


def test_the_verdict_keeps_the_numbers(bench: Bench) -> None:
    bench.run(Case((12, 4), {"confidence": 0.9}))
    numbers = bench.written["numbers"]
    assert (numbers["champion"], numbers["rows"], numbers["confidence"]) == ("3", ROWS, 0.9)
    assert numbers["difference"] == -8 / ROWS
    assert numbers["low"] < numbers["difference"] < numbers["high"]
    assert 0 < numbers["mcnemar_p"] < 0.1


@pytest.mark.parametrize(
    ("kept", "anew"), [("answers", False), ("order", False), ("nothing", True), ("other rows", True), ("damaged", True)]
)
def test_a_champion_answers_anew_where_it_was_tested_on_other_rows(bench: Bench, kept: str, anew: bool) -> None:
    bench.run(Case((10, 10), kept=kept))
    assert bench.asked == [(f"champion/{MODEL_DIR}", "examples", "test")] * anew
    # The report shows them.
    path = bench.kept / PREDICTIONS_FILE
    assert (load(path).texts if path.exists() else None) == (both((10, 10))[0].texts if anew else None)


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self._path,)


def test_a_pickle_among_what_the_champion_kept_is_not_run(bench: Bench, tmp_path: Path) -> None:
    planted = np.array([Canary(tmp_path / "canary")], dtype=object)
    names = ("text", "ends", "labels", "label_ids", "probabilities")
    bench.plant = lambda root: np.savez(root / "champion" / PREDICTIONS_FILE, **dict.fromkeys(names, planted))
    assert bench.run(Case((80, 0))) == Outcome(False, WORSE, (80, 0))
    assert len(bench.asked) == 1
    assert not (tmp_path / "canary").exists()


def test_other_classes_are_named(bench: Bench) -> None:
    bench.run(Case((0, 80), classes=("World", "Sports", "Business")))
    assert bench.reasons == [
        "the champion tells other classes apart (World, Sports, Business; the candidate World, Sports): "
        "promote the candidate by hand, or give this model another name"
    ]
    assert bench.asked == []


def test_an_evaluation_that_checked_no_floor_stops_the_run(bench: Bench) -> None:
    unchecked = validation_result_pb2.ValidationResult(validation_ok=True, missing_thresholds=True)
    bench.plant = lambda root: write_records(root / "evaluation" / "validations.tfrecord", unchecked)
    assert not bench.run(Case()).passed
    assert "no floor was checked" in bench.reasons[0]


def test_an_evaluation_without_a_verdict_does_not_pass(bench: Bench) -> None:
    bench.plant = lambda root: (root / "evaluation" / "validations.tfrecord").unlink()
    with pytest.raises(FileNotFoundError, match="validations"):
        bench.run(Case())


def test_a_champion_without_classes_does_not_pass(bench: Bench) -> None:
    bench.plant = lambda root: (root / "champion" / MODEL_DIR / "assets.extra" / "classes.txt").unlink()
    with pytest.raises(BadInputError, match=r"no assets\.extra/classes\.txt"):
        bench.run(Case((0, 80)))
