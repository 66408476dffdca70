"""ModelGate stops the run where a floor is missed, or where the candidate may be worse than the champion."""

import importlib.util
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_model_analysis.proto import metrics_for_slice_pb2, validation_result_pb2
from tfx.types import standard_artifacts

from components import comparison as comparison_module
from components.artifacts import Answers, Baseline, Champion, Verdict
from components.baseline import BaselineRecord, write_baseline
from components.champion import CHAMPION_FILE, MODEL_DIR, PREDICTIONS_FILE, ChampionRecord
from components.comparison import compare_answers
from components.errors import BadInputError, GateRejectedError
from components.evaluation_result import SliceMetrics
from components.gates import model as gate_module
from components.gates.config import ModelGateConfig
from components.gates.model import (
    BETTER,
    NOT_WORSE,
    WORSE,
    check_baseline,
    check_champion,
    check_floors,
    check_slices,
    judge,
)
from components.gates.verdict import VERDICT_FILE
from components.predictions import Predictions, load, save

CLASSES = ("World", "Sports")
ROWS = 2_000
# The number of test rows of AG News: what a share of a point means there.
NEWS_ROWS = 7_600
ACCURACY_SENTENCE = "accuracy is 0.8500, below the floor of 0.9000"
CALIBRATION_SENTENCE = "calibration_error is 0.2000, above the ceiling of 0.1000"
SERVES = ChampionRecord("3", "7", "run7", "version 3 of ag_news serves")
NOBODY = ChampionRecord(None, None, None, "ag_news has no champion yet")
Counts = tuple[int, int]


def answers_of(wrong: slice, rows: int = ROWS, sure: float = 0.75) -> Predictions:
    """Returns answers to numbered rows: wrong in one range, and in the last tenth, which nobody gets right."""
    labels = np.arange(rows) % 2
    label_ids = labels.copy()
    for places in (wrong, slice(rows - rows // 10, rows)):
        label_ids[places] = 1 - label_ids[places]
    probabilities = np.full((rows, 2), 1 - sure, np.float32)
    probabilities[np.arange(rows), label_ids] = sure
    return Predictions([f"row {number:05}".encode() for number in range(rows)], labels, label_ids, probabilities)


def both(counts: Counts, rows: int = ROWS) -> tuple[Predictions, Predictions]:
    """Returns champion and candidate; ``counts`` are rows that the one alone and the other alone gets right."""
    only_champion, only_candidate = counts
    champion = answers_of(slice(0, only_candidate), rows)
    # They are never equally sure, so that equal answers are not the same model.
    return champion, answers_of(slice(only_candidate, only_candidate + only_champion), rows, sure=0.8)


def linear_beside(candidate: Predictions, counts: Counts) -> tuple[BaselineRecord, np.ndarray]:
    """Returns a linear model that gets so many rows right alone, and so many wrong alone."""
    only_linear, only_candidate = counts
    label_ids = candidate.label_ids.copy()
    right = label_ids == candidate.labels
    for places in (np.flatnonzero(~right)[:only_linear], np.flatnonzero(right)[:only_candidate]):
        label_ids[places] = 1 - label_ids[places]
    accuracy = float((label_ids == candidate.labels).mean())
    rows = len(label_ids)
    return BaselineRecord(900, 900, 50, rows, accuracy, accuracy, (accuracy, accuracy)), label_ids


# What can be claimed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "verdict", "passes", "passes_if_better_is_asked_for"),
    [
        pytest.param((136, 60), WORSE, False, False, id="worse by a point"),
        pytest.param((98, 98), NOT_WORSE, True, False, id="equal"),
        pytest.param((94, 102), NOT_WORSE, True, False, id="better by a tenth of a point"),
        pytest.param((60, 136), BETTER, True, True, id="better by a point"),
        pytest.param((300, 270), WORSE, False, False, id="perhaps worse by more than the margin"),
        pytest.param((0, 0), NOT_WORSE, True, False, id="never apart"),
    ],
)
def test_the_verdict_follows_the_interval(
    counts: Counts, verdict: str, passes: bool, passes_if_better_is_asked_for: bool
) -> None:
    compared = compare_answers(*both(counts, NEWS_ROWS), CLASSES)
    assert judge(compared, ModelGateConfig()) == verdict
    for require, expected in (("not worse", passes), ("better", passes_if_better_is_asked_for)):
        check, said = check_champion(SERVES, compared, False, ModelGateConfig(require=require))
        assert (said, check.passed, check.severity) == (verdict, expected, "fail")
        assert check.value == (counts[1] - counts[0]) / NEWS_ROWS


def test_rows_are_paired() -> None:
    """All four have one accuracy: only where two err on the same rows can a loss be ruled out."""
    alike = compare_answers(*both((5, 5), 1_000), CLASSES)
    apart = compare_answers(*both((100, 100), 1_000), CLASSES)
    assert judge(alike, ModelGateConfig()) == NOT_WORSE
    assert judge(apart, ModelGateConfig()) == WORSE


@settings(max_examples=200, deadline=None)
@given(
    counts=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    margin=st.floats(0, 0.1),
    wider=st.floats(0, 0.1),
    confidence=st.floats(0.5, 0.99),
)
def test_a_wider_margin_and_less_confidence_never_forbid_more(
    counts: Counts, margin: float, wider: float, confidence: float
) -> None:
    ranks = [WORSE, NOT_WORSE, BETTER]

    def rank(margin: float, confidence: float, counts: Counts = counts) -> int:
        return ranks.index(judge(interval_only(counts, confidence), ModelGateConfig(margin=margin)))

    assert rank(margin + wider, confidence) >= rank(margin, confidence)
    assert rank(margin, confidence / 2) >= rank(margin, confidence)
    assert rank(margin, confidence, (counts[0], counts[1] + 1)) >= rank(margin, confidence)
    # No two models are each better than the other.
    assert {rank(0, confidence), rank(0, confidence, counts[::-1])} != {ranks.index(BETTER)}


def interval_only(counts: Counts, confidence: float, rows: int = 500) -> Any:
    """Returns as much of a comparison as the verdict needs, without resampling anything."""
    gain = comparison_module.paired_difference_interval(*counts, rows, confidence)
    estimate = comparison_module.Estimate((counts[1] - counts[0]) / rows, gain.low, gain.high)
    nothing = comparison_module.Estimate(0.5)
    test = comparison_module.mcnemar(*counts)
    metric = comparison_module.Metric(nothing, nothing, estimate)
    return comparison_module.Comparison(
        "neither", "", rows, confidence, CLASSES, {"accuracy": metric}, test, 0, [], []
    )  # fmt: skip


def test_a_difference_without_an_interval_is_not_judged() -> None:
    compared = interval_only((1, 2), 0.95)
    bare = replace(compared.metrics["accuracy"], difference=comparison_module.Estimate(0.002))
    with pytest.raises(ValueError, match="without an interval"):
        judge(replace(compared, metrics={"accuracy": bare}), ModelGateConfig())


# What is said ------------------------------------------------------------------------------------------------------


def test_the_check_says_how_much_and_how_sure() -> None:
    compared = compare_answers(*both((136, 60), NEWS_ROWS), CLASSES)
    check, _ = check_champion(SERVES, compared, False, ModelGateConfig())
    gain = compared.metrics["accuracy"].difference
    assert check.sentence == (
        f"the candidate may be worse than version 3: accuracy -1.00 points, 95% interval {100 * gain.low:+.2f} to "
        f"{100 * gain.high:+.2f}, on 7,600 rows; a loss of 1 points or more (model_gate.margin) must be ruled out"
    )
    assert check.limit == -0.01


def test_the_check_says_what_is_asked_for() -> None:
    compared = compare_answers(*both((98, 98), NEWS_ROWS), CLASSES)
    check, _ = check_champion(SERVES, compared, False, ModelGateConfig(require="better"))
    assert check.sentence.startswith("the candidate is not worse than version 3: accuracy +0.00 points")
    assert check.sentence.endswith("; model_gate.require asks for better")


def test_that_nobody_serves_is_said() -> None:
    check, verdict = check_champion(NOBODY, None, False, ModelGateConfig(require="better"))
    assert (check.passed, verdict) == (True, None)
    assert check.sentence == "ag_news has no champion yet: the floors alone decide"


def test_the_same_model_is_not_worse_whatever_the_rows_could_tell() -> None:
    champion, _ = both((3, 3), 50)
    compared = compare_answers(champion, champion, CLASSES)
    assert judge(compared, ModelGateConfig(margin=0)) == WORSE
    check, verdict = check_champion(SERVES, compared, True, ModelGateConfig(margin=0))
    assert (check.passed, verdict) == (True, NOT_WORSE)
    assert check.sentence.endswith("; both give the same answers")
    assert not check_champion(SERVES, compared, True, ModelGateConfig(require="better"))[0].passed


def test_floors_are_checks_of_their_own() -> None:
    assert [(check.passed, check.sentence) for check in check_floors(["one", "two"], True)] == [
        (False, "one"),
        (False, "two"),
    ]
    (passed,) = check_floors([], True)
    assert (passed.passed, passed.sentence) == (True, "no floor missed")
    (unblessed,) = check_floors([], False)
    assert (unblessed.passed, unblessed.sentence) == (False, "the Evaluator did not bless the model")


@pytest.mark.parametrize(
    ("accuracy", "rows", "passed", "said"),
    [
        (0.8, 100, True, "accuracy in slice length=short is 0.8000 on 100 rows"),
        (0.7999, 100, False, "accuracy in slice length=short is 0.7999 on 100 rows, below the floor of 0.8000"),
        (0.1, 99, True, "accuracy in slice length=short is 0.1000 on 99 rows, too few to judge"),
    ],
)
def test_slices_of_length_have_a_floor(accuracy: float, rows: int, passed: bool, said: str) -> None:
    measured = [("", "", 0.1, 999), ("label", "World", 0.1, 999), ("length", "short", accuracy, rows)]
    slices = [
        SliceMetrics(feature, value, {"accuracy": share, "example_count": float(count)})
        for feature, value, share, count in measured
    ]
    (check,) = check_slices(slices, ModelGateConfig(length_accuracy=0.8))
    assert (check.name, check.severity, check.passed, check.value) == ("length=short", "fail", passed, accuracy)
    assert check.sentence.startswith(said)
    assert check_slices(slices, ModelGateConfig()) == []


# The node ----------------------------------------------------------------------------------------------------------


def test_the_baseline_is_told_with_both_accuracies_and_the_interval() -> None:
    candidate = both((1, 1))[1]
    record, linear = linear_beside(candidate, (40, 10))
    (check,) = check_baseline(record, linear, candidate, ModelGateConfig())
    assert (check.severity, check.passed, check.value) == ("warn", False, pytest.approx(-30 / ROWS))
    assert check.sentence == (
        "the candidate is not more accurate than a linear model, 0.8995 against 0.9145: -1.50 points, "
        "95% interval -2.26 to -0.84 (model_gate.baseline)"
    )


def test_answers_to_other_rows_are_no_baseline() -> None:
    candidate = both((1, 1))[1]
    record, linear = linear_beside(candidate, (40, 10))
    for other in (linear[:-1], np.roll(linear, 1)):
        with pytest.raises(ValueError, match="other rows"):
            check_baseline(record, other, candidate, ModelGateConfig())


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
    """

    counts: Counts | None = None
    settings: dict[str, Any] | None = None
    missed: tuple[str, ...] = ()
    blessed: int | None = 1
    lengths: tuple[tuple[str, float, int], ...] = ()
    kept: str = "answers"
    classes: tuple[str, ...] = CLASSES
    same: bool = False
    # Rows that the linear baseline alone and the candidate alone gets right.
    linear: Counts = (0, 40)


@dataclass(frozen=True)
class Outcome:
    """What became of it; ``counts`` are those that the gate found."""

    passed: bool
    verdict: str | None = None
    counts: Counts | None = None


STRICT = {"length_accuracy": 0.8, "slice_rows": 100}
CASES: dict[str, tuple[Case, Outcome]] = {
    "first run": (Case(), Outcome(True)),
    "first run, floor missed": (Case(missed=("accuracy",)), Outcome(False)),
    "first run, not blessed": (Case(blessed=0), Outcome(False)),
    "first run, no word": (Case(blessed=None), Outcome(False)),
    "better, floor missed": (Case((0, 80), missed=("accuracy",)), Outcome(False, BETTER, (0, 80))),
    "better, not blessed": (Case((0, 80), blessed=0), Outcome(False, BETTER, (0, 80))),
    "equal": (Case((10, 10)), Outcome(True, NOT_WORSE, (10, 10))),
    "better": (Case((0, 80)), Outcome(True, BETTER, (0, 80))),
    "worse": (Case((80, 0)), Outcome(False, WORSE, (80, 0))),
    "a little worse": (Case((12, 4)), Outcome(True, NOT_WORSE, (12, 4))),
    "a little worse, small margin": (Case((12, 4), {"margin": 0.005}), Outcome(False, WORSE, (12, 4))),
    "nobody knows": (Case((110, 100)), Outcome(False, WORSE, (110, 100))),
    "nobody minds": (Case((110, 100), {"confidence": 0.1}), Outcome(True, NOT_WORSE, (110, 100))),
    "a little better": (Case((4, 6)), Outcome(True, NOT_WORSE, (4, 6))),
    "not good enough": (Case((10, 10), {"require": "better"}), Outcome(False, NOT_WORSE, (10, 10))),
    "good enough": (Case((0, 80), {"require": "better"}), Outcome(True, BETTER, (0, 80))),
    "same model": (Case((0, 5), {"margin": 0}, same=True), Outcome(True, NOT_WORSE, (0, 0))),
    "equal, no margin": (Case((10, 10), {"margin": 0}), Outcome(False, WORSE, (10, 10))),
    "another order": (Case((10, 10), kept="order"), Outcome(True, NOT_WORSE, (10, 10))),
    "other rows": (Case((10, 10), kept="other rows"), Outcome(True, NOT_WORSE, (10, 10))),
    "nothing kept": (Case((80, 0), kept="nothing"), Outcome(False, WORSE, (80, 0))),
    "damaged": (Case((80, 0), kept="damaged"), Outcome(False, WORSE, (80, 0))),
    "other classes": (Case((0, 80), classes=("World", "Sports", "Business")), Outcome(False)),
    "classes exchanged": (Case((0, 80), classes=("Sports", "World")), Outcome(False)),
    "slice below its floor": (Case(settings=STRICT, lengths=(("short", 0.7, 100),)), Outcome(False)),
    "slice above its floor": (Case(settings=STRICT, lengths=(("short", 0.9, 100),)), Outcome(True)),
    "linear model better": (Case(linear=(40, 0)), Outcome(True)),
    "linear model better, and that counts": (Case(settings={"baseline": "fail"}, linear=(40, 0)), Outcome(False)),
    "as good as a linear model": (Case(settings={"baseline": "fail"}, linear=(3, 3)), Outcome(False)),
    "a row better than a linear model": (Case(settings={"baseline": "fail"}, linear=(3, 4)), Outcome(True)),
    "linear model better, nobody looks": (Case(settings={"baseline": "off"}, linear=(40, 0)), Outcome(True)),
    "slice of few rows": (Case(settings=STRICT, lengths=(("short", 0.7, 99),)), Outcome(True)),
}


class Bench:
    """Runs a gate on what the nodes before it wrote."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch):
        self._directory = directory
        self._monkeypatch = monkeypatch
        self.asked: list[tuple[str, str, str]] = []
        self.error: GateRejectedError | None = None
        self.written: dict[str, Any] = {}
        self.kept = Path()

    def run(self, case: Case, module: ModuleType = gate_module) -> Outcome:
        """Returns what the gate decides; its verdict is in ``written``, its error in ``error``."""
        at = {
            name: self._artifact(kind)
            for name, kind in (
                ("evaluation", standard_artifacts.ModelEvaluation), ("blessing", standard_artifacts.ModelBlessing),
                ("answers", Answers), ("baseline", Baseline), ("champion", Champion),
                ("examples", standard_artifacts.Examples), ("verdict", Verdict),
            )
        }  # fmt: skip
        self.kept = Path(at["verdict"].uri)
        write_evaluation(Path(at["evaluation"].uri), case)
        if case.blessed is not None:
            at["blessing"].set_int_custom_property("blessed", case.blessed)
        champion, candidate = both(case.counts or (1, 1))
        candidate = champion if case.same else candidate
        save(candidate, Path(at["answers"].uri) / PREDICTIONS_FILE)
        write_baseline(Path(at["baseline"].uri), *linear_beside(candidate, case.linear))
        write_champion(Path(at["champion"].uri), case, champion)

        def score(model: Path, examples: str, split: str) -> Predictions:
            self.asked.append((model.name, examples, split))
            return champion

        self._monkeypatch.setattr(module, "score", score)
        config = ModelGateConfig(**(case.settings or {}))
        self.error = None
        try:
            module.ModelGate.test_call(
                **at, classes=json.dumps(CLASSES), settings=config.model_dump_json(), code_digest="x"
            )
        except GateRejectedError as error:
            self.error = error
        self.written = json.loads((self.kept / VERDICT_FILE).read_text(encoding="utf-8"))
        numbers = self.written["numbers"]
        counts = (numbers["only_champion_right"], numbers["only_candidate_right"]) if "rows" in numbers else None
        assert self.written["passed"] == (self.error is None)
        return Outcome(self.error is None, numbers["verdict"], counts)

    def _artifact(self, kind: type) -> Any:
        made = kind()
        made.uri = tempfile.mkdtemp(dir=self._directory)
        return made


def write_champion(directory: Path, case: Case, champion: Predictions) -> None:
    record = SERVES if case.counts else NOBODY
    (directory / CHAMPION_FILE).write_text(json.dumps(asdict(record)))
    if not case.counts:
        return
    extra = directory / MODEL_DIR / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "classes.txt").write_text("".join(f"{name}\n" for name in case.classes))
    path = directory / PREDICTIONS_FILE
    if case.kept == "damaged":
        path.write_bytes(b"PK, or so it begins")
    elif case.kept != "nothing":
        texts = champion.texts
        if case.kept == "other rows":
            texts = [b"another " + text for text in texts]
        places = np.arange(ROWS)[:: -1 if case.kept == "order" else 1]
        save(
            Predictions([texts[place] for place in places], champion.labels[places], champion.label_ids[places],
                        champion.probabilities[places]),
            path,
        )  # fmt: skip


def write_evaluation(directory: Path, case: Case) -> None:
    """Writes what the Evaluator writes: its metrics per slice, and which of them miss their floor."""
    result = validation_result_pb2.ValidationResult(validation_ok=not case.missed)
    if case.missed:
        group = result.metric_validations_per_slice.add()
        group.slice_key.SetInParent()
    for name in case.missed:
        failure = group.failures.add()
        failure.metric_key.name = name
        if name == "calibration_error":
            failure.metric_value.double_value.value = 0.2
            failure.metric_threshold.value_threshold.upper_bound.value = 0.1
        else:
            failure.metric_value.double_value.value = 0.85
            failure.metric_threshold.value_threshold.lower_bound.value = 0.9
    write_records(directory / "validations.tfrecord", [result])
    slices = []
    for value, accuracy, rows in (("", 0.9, ROWS), *case.lengths):
        item = metrics_for_slice_pb2.MetricsForSlice()
        item.slice_key.SetInParent()
        if value:
            item.slice_key.single_slice_keys.add(column="length", bytes_value=value.encode())
        for name, number in (("accuracy", accuracy), ("example_count", float(rows))):
            metric = item.metric_keys_and_values.add()
            metric.key.name = name
            metric.value.double_value.value = number
        slices.append(item)
    write_records(directory / "metrics-00000-of-00001.tfrecord", slices)


def write_records(path: Path, messages: list[Any]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message.SerializeToString())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.mark.parametrize(("case", "expected"), CASES.values(), ids=CASES)
def test_the_gate_decides(bench: Bench, case: Case, expected: Outcome) -> None:
    assert bench.run(case) == expected


def test_every_missed_floor_is_a_reason_and_so_is_the_champion(bench: Bench) -> None:
    bench.run(Case((80, 0), missed=("accuracy", "calibration_error")))
    assert bench.error is not None
    assert bench.error.gate == "ModelGate"
    assert bench.error.reasons[:2] == [ACCURACY_SENTENCE, CALIBRATION_SENTENCE]
    assert bench.error.reasons[2].startswith("the candidate may be worse than version 3: accuracy -4.00 points")
    assert len(bench.error.reasons) == 3
    assert bench.written["reasons"] == bench.error.reasons


def test_a_floor_is_enforced_where_there_is_nobody_to_compare_with(bench: Bench) -> None:
    bench.run(Case(missed=("accuracy",)))
    assert bench.error is not None
    assert bench.error.reasons == [ACCURACY_SENTENCE]
    assert bench.written["numbers"] == {"champion": None, "verdict": None}
    assert bench.written["checks"][-1]["sentence"] == "ag_news has no champion yet: the floors alone decide"


def test_the_verdict_keeps_the_numbers(bench: Bench) -> None:
    bench.run(Case((12, 4), {"confidence": 0.9}))
    numbers = bench.written["numbers"]
    assert (numbers["champion"], numbers["rows"], numbers["confidence"]) == ("3", ROWS, 0.9)
    assert numbers["difference"] == -8 / ROWS
    assert numbers["low"] < numbers["difference"] < numbers["high"]
    assert 0 < numbers["mcnemar_p"] < 0.1


def test_what_the_champion_answered_is_not_asked_again(bench: Bench) -> None:
    for kept in ("answers", "order"):
        bench.run(Case((10, 10), kept=kept))
        assert bench.asked == []
        assert not (bench.kept / PREDICTIONS_FILE).exists()


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self._path,)


def test_a_pickle_among_what_the_champion_kept_is_not_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = write_champion

    def plant(directory: Path, case: Case, champion: Predictions) -> None:
        write(directory, case, champion)
        planted = np.array([Canary(tmp_path / "canary")], dtype=object)
        names = ("text", "ends", "labels", "label_ids", "probabilities")
        np.savez(directory / PREDICTIONS_FILE, **dict.fromkeys(names, planted))

    monkeypatch.setitem(Bench.run.__globals__, "write_champion", plant)
    assert bench.run(Case((80, 0))) == Outcome(False, WORSE, (80, 0))
    assert len(bench.asked) == 1
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kept", ["nothing", "other rows", "damaged"])
def test_a_champion_that_was_tested_on_other_rows_answers_these(bench: Bench, kept: str) -> None:
    bench.run(Case((10, 10), kept=kept))
    ((model, _, split),) = bench.asked
    assert (model, split) == (MODEL_DIR, "test")
    # The report shows them.
    assert load(bench.kept / PREDICTIONS_FILE).texts == both((10, 10))[0].texts


def test_other_classes_are_named(bench: Bench) -> None:
    bench.run(Case((0, 80), classes=("World", "Sports", "Business")))
    assert bench.error is not None
    assert bench.error.reasons == [
        "the champion tells other classes apart (World, Sports, Business; the candidate World, Sports): "
        "promote the candidate by hand, or give this model another name"
    ]
    assert bench.asked == []


def test_an_evaluation_that_checked_no_floor_stops_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = write_evaluation

    def unchecked(directory: Path, case: Case) -> None:
        write(directory, case)
        result = validation_result_pb2.ValidationResult(validation_ok=True, missing_thresholds=True)
        write_records(directory / "validations.tfrecord", [result])

    monkeypatch.setitem(Bench.run.__globals__, "write_evaluation", unchecked)
    assert not bench.run(Case()).passed
    assert bench.error is not None
    assert "no floor was checked" in str(bench.error)


def test_an_evaluation_without_a_verdict_does_not_pass(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Bench.run.__globals__, "write_evaluation", lambda *_: None)
    with pytest.raises(FileNotFoundError, match="validations"):
        bench.run(Case())


def test_a_champion_without_classes_does_not_pass(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "read_classes", lambda _: (_ for _ in ()).throw(BadInputError("no classes")))
    with pytest.raises(BadInputError, match="no classes"):
        bench.run(Case((0, 80)))


# Mutants -----------------------------------------------------------------------------------------------------------

KEPT = "align(load(champion / PREDICTIONS_FILE), candidate)"
MUTANTS = {
    "sign of the margin": ("low > -settings.margin", "low > settings.margin", "equal"),
    "no margin": ("low > -settings.margin", "low > 0", "a little worse"),
    "other end of the interval": ("    _, low, _ = _gain", "    _, _, low = _gain", "nobody knows"),
    "bare difference": ("    _, low, _ = _gain(comparison)", "    low, _, _ = _gain(comparison)", "nobody knows"),
    "bare claim": ("    if low > 0:", "    if _gain(comparison)[0] > 0:", "a little better"),
    "confidence ignored": ("_FLIPPED_ROWS, confidence)", "_FLIPPED_ROWS)", "nobody minds"),
    "confidence turned round": ("_FLIPPED_ROWS, confidence)", "_FLIPPED_ROWS, 1 - confidence)", "nobody knows"),
    "models exchanged": ("compare_answers(answers, candidate,", "compare_answers(candidate, answers,", "worse"),
    "candidate with itself": ("compare_answers(answers, candidate,", "compare_answers(candidate, candidate,", "worse"),
    "champion with itself": ("compare_answers(answers, candidate,", "compare_answers(answers, answers,", "worse"),
    "rows not paired": (
        KEPT,
        f"__import__('dataclasses').replace(load{KEPT.removeprefix('align(load').removesuffix(', candidate)')}, "
        "texts=candidate.texts, labels=candidate.labels)",
        "another order",
    ),
    "everything is the same": ("NOT_WORSE if same else", "NOT_WORSE if True else", "worse"),
    "nothing is the same": ("NOT_WORSE if same else", "NOT_WORSE if False else", "same model"),
    "require ignored": ("settings.require == NOT_WORSE)", "True)", "not good enough"),
    "worse is only told": ('Check("champion", "fail", passed', 'Check("champion", "warn", passed', "worse"),
    "champion ignored": ("if record.registry_version is not None:", "if False:", "worse"),
    "other classes pass": ('"champion", "fail", False, why', '"champion", "fail", True, why', "other classes"),
    "classes in any order": ("if theirs != classes:", "if {*theirs} != {*classes}:", "classes exchanged"),
    "floors ignored": ("check_floors(read_failures(evaluation.uri),", "check_floors([],", "first run, floor missed"),
    "floors for challengers only": (
        "check_floors(read_failures(evaluation.uri),",
        "check_floors(read_failures(evaluation.uri) if read_champion(champion.uri).registry_version else [],",
        "first run, floor missed",
    ),
    "floors for the first only": (
        "check_floors(read_failures(evaluation.uri),",
        "check_floors([] if read_champion(champion.uri).registry_version else read_failures(evaluation.uri),",
        "better, floor missed",
    ),
    "blessing ignored": ('blessing.get_int_custom_property("blessed") == 1', "True", "better, not blessed"),
    "any word is a blessing": ('get_int_custom_property("blessed") == 1', 'get_int_custom_property("blessed") != 2',
                               "first run, no word"),
    "blessing outweighs floors": ("    if failures:", "    if failures and not blessed:", "first run, floor missed"),
    "floor of slices turned round": ("accuracy >= settings.length_accuracy", "accuracy <= settings.length_accuracy",
                                     "slice above its floor"),
    "no floor of slices": ("accuracy >= settings.length_accuracy", "True", "slice below its floor"),
    "few rows are judged": ("rows >= settings.slice_rows", "True", "slice of few rows"),
    "many rows are not": ("rows >= settings.slice_rows", "rows > settings.slice_rows", "slice below its floor"),
    "slices forgotten": ("    checks += check_slices", "    _ = check_slices", "slice below its floor"),
}  # fmt: skip
"""What is replaced, by what, and the case that sees it."""


@pytest.fixture
def mutate(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Imports a copy of a module with one piece of its source replaced."""
    made = []

    def load_copy(old: str, new: str, module: ModuleType = gate_module) -> ModuleType:
        source = inspect.getsource(module)
        assert source.count(old) == 1
        name = f"mutated_{module.__name__.replace('.', '_')}"
        path = tmp_path / f"{name}.py"
        path.write_text(source.replace(old, new))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        copy = importlib.util.module_from_spec(spec)
        sys.modules[name] = copy
        made.append(name)
        spec.loader.exec_module(copy)
        return copy

    yield load_copy
    for name in made:
        del sys.modules[name]


@pytest.mark.parametrize(("old", "new", "seen_by"), MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_of_the_gate_is_caught(
    bench: Bench, mutate: Callable[..., ModuleType], old: str, new: str, seen_by: str
) -> None:
    case, expected = CASES[seen_by]
    assert bench.run(case, mutate(old, new)) != expected


UNPAIRED = """type(
        "Unpaired", (), dict(zip(("low", "high"), (
            lambda p, q: (q - p - 1.96 * ((p * (1 - p) + q * (1 - q)) / n) ** 0.5,
                          q - p + 1.96 * ((p * (1 - p) + q * (1 - q)) / n) ** 0.5)
        )(right_a.mean(), right_b.mean()))))"""
COMPARISON_MUTANTS = {
    "unpaired interval": ("paired_difference_interval(only_a, only_b, n, confidence)", UNPAIRED, "equal"),
    "interval of the other side": ("paired_difference_interval(only_a, only_b,",
                                   "paired_difference_interval(only_b, only_a,", "worse"),
    "counts exchanged": ("mcnemar(int(only_a.sum()), int(only_b.sum()))",
                         "mcnemar(int(only_b.sum()), int(only_a.sum()))", "worse"),
    "other confidence": ("(only_a, only_b, n, confidence)", "(only_a, only_b, n)", "nobody minds"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "seen_by"), COMPARISON_MUTANTS.values(), ids=COMPARISON_MUTANTS)
def test_a_mutant_of_the_comparison_is_caught(
    bench: Bench,
    mutate: Callable[..., ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    seen_by: str,
) -> None:
    case, expected = CASES[seen_by]
    monkeypatch.setattr(gate_module, "compare_answers", mutate(old, new, comparison_module).compare_answers)
    assert bench.run(case) != expected
