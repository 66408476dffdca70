"""ModelGate: stops the run when the candidate misses a floor, or may be worse than the champion."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components import features
from components.artifacts import Answers, Baseline, Champion, Verdict
from components.evaluation.comparison import Comparison, accuracy_gain, align, compare_answers
from components.evaluation.paired import Estimate
from components.evaluation.predictions import Predictions, load, save, score
from components.evaluation.result import SliceMetrics, read_failures, read_slices
from components.file_names import PREDICTIONS_FILE
from components.gates.model.gate import GATE, ModelGateConfig
from components.gates.verdict import Check, write_verdict
from components.push.model_files import read_classes
from components.records import BaselineRecord, ChampionRecord, read_baseline, read_champion
from components.registry.champion import MODEL_DIR

BETTER, NOT_WORSE, WORSE = "better", "not worse", "worse"
_WORDS = {
    BETTER: "the candidate is better than version {version}",
    NOT_WORSE: "the candidate is not worse than version {version}",
    WORSE: "the candidate may be worse than version {version}",
}
_FLIPPED_ROWS = 10


def judge(comparison: Comparison, settings: ModelGateConfig) -> str:
    """Returns what can be claimed of the candidate, which is B, at the configured confidence.

    ``better`` where the whole interval of the difference of accuracy is above 0, ``not worse`` where it is above
    ``-margin``, else ``worse``: a loss beyond the margin cannot be ruled out. Never a bare difference.
    """
    _, low, _ = _gain(comparison)
    if low > 0:
        return BETTER
    return NOT_WORSE if low > -settings.margin else WORSE


def check_floors(failures: list[str], blessed: bool) -> list[Check]:
    """Returns the floors that the Evaluator found missed; one check that passed if there is none."""
    if failures:
        return [Check("floors", "fail", False, failure) for failure in failures]
    return [Check("floors", "fail", blessed, "no floor missed" if blessed else "the Evaluator did not bless the model")]


def check_slices(slices: list[SliceMetrics], settings: ModelGateConfig) -> list[Check]:
    """Returns a check of accuracy per slice of text length; slices of few rows pass, with their number."""
    checks = []
    for item in slices:
        if item.feature != features.LENGTH or not settings.length_accuracy:
            continue
        rows, accuracy = int(item.scalars["example_count"]), item.scalars["accuracy"]
        judged = rows >= settings.slice_rows
        passed = not judged or accuracy >= settings.length_accuracy
        said = f"accuracy in slice length={item.value} is {accuracy:.4f} on {rows} rows"
        if not judged:
            said += ", too few to judge"
        elif not passed:
            said += f", below the floor of {settings.length_accuracy:.4f} (model_gate.length_accuracy)"
        checks.append(Check(f"length={item.value}", "fail", passed, said, accuracy, settings.length_accuracy))
    return checks


def check_baseline(
    record: BaselineRecord, baseline: np.ndarray, candidate: Predictions, settings: ModelGateConfig
) -> list[Check]:
    """Returns the check that the candidate is more accurate than the linear baseline on the same rows, unless ``off``.

    It is a floor like the others: the difference itself decides, and its interval is told beside it.

    ``baseline`` are the label ids it answered, int64 [N] in the order of the candidate's rows.

    Raises:
        ValueError: The answers are not to as many rows.
    """
    if settings.baseline == "off":
        return []
    same_rows = len(baseline) == len(candidate.labels)
    theirs, ours = (baseline == candidate.labels if same_rows else None), candidate.label_ids == candidate.labels
    if theirs is None or not np.isclose(theirs.mean(), record.accuracy):
        raise ValueError("the baseline's answers are to other rows than the candidate's")
    gain, low, high = _ends(accuracy_gain(theirs, ours, settings.confidence))
    passed = gain > 0
    said = (
        f"the candidate is {'more' if passed else 'not more'} accurate than a linear model, {ours.mean():.4f} against "
        f"{theirs.mean():.4f}: {100 * gain:+.2f} points, {settings.confidence:.0%} interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}" + ("" if passed else " (model_gate.baseline)")
    )
    return [Check("baseline", settings.baseline, passed, said, gain, 0.0)]


def check_champion(
    champion: ChampionRecord, comparison: Comparison | None, same: bool, settings: ModelGateConfig
) -> tuple[Check, str | None]:
    """Returns the check against the champion, and the verdict; None where there is no champion to compare with.

    In ``comparison`` the champion is A and the candidate B. They are the ``same`` if both give exactly the same
    probabilities, as a model that is trained again on the same data does.
    """
    if comparison is None:
        return Check("champion", "fail", True, f"{champion.reason}: the floors alone decide"), None
    verdict = NOT_WORSE if same else judge(comparison, settings)
    gain, low, high = _gain(comparison)
    said = _WORDS[verdict].format(version=champion.serving_version) + (
        f": accuracy {100 * gain:+.2f} points, {settings.confidence:.0%} interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}, on {comparison.rows:,} rows"
    )
    passed = verdict == BETTER or (verdict == NOT_WORSE and settings.require == NOT_WORSE)
    if same:
        said += "; both give the same answers"
    if not passed:
        said += (
            "; model_gate.require asks for better"
            if verdict == NOT_WORSE
            else f"; a loss of {100 * settings.margin:g} points or more (model_gate.margin) must be ruled out"
        )
    return Check("champion", "fail", passed, said, gain, -settings.margin), verdict


def compare_with_champion(
    champion: Path, candidate: Predictions, examples_uri: str, classes: tuple[str, ...], confidence: float, kept: Path
) -> tuple[Comparison, bool] | str:
    """Returns champion (A) against candidate (B) on the candidate's rows, and whether they answer exactly alike; or
    why they cannot be compared.

    Answers that the champion must give anew, since its run was tested on other rows, are kept in the directory
    ``kept`` for the report.
    """
    theirs = read_classes(champion / MODEL_DIR)
    if theirs != classes:
        return f"the champion tells other classes apart ({', '.join(theirs)}; the candidate {', '.join(classes)})"
    answers = None
    if (champion / PREDICTIONS_FILE).is_file():
        try:
            answers = align(load(champion / PREDICTIONS_FILE), candidate)
        except ValueError:
            answers = None  # It was tested on other rows, so it answers these now.
    if answers is None:
        answers = align(score(champion / MODEL_DIR, examples_uri, features.TEST), candidate)
        save(answers, kept / PREDICTIONS_FILE)
    same = np.array_equal(answers.probabilities, candidate.probabilities)
    return compare_answers(answers, candidate, classes, _FLIPPED_ROWS, confidence), same


@component
def ModelGate(
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    blessing: InputArtifact[standard_artifacts.ModelBlessing],
    answers: InputArtifact[Answers],
    baseline: InputArtifact[Baseline],
    champion: InputArtifact[Champion],
    examples: InputArtifact[standard_artifacts.Examples],
    verdict: OutputArtifact[Verdict],
    classes: Parameter[str],
    settings: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Says no unless no floor is missed and the candidate holds its own against the champion.

    The linear baseline is one of the floors where the settings say so.
    """
    names = tuple(json.loads(classes))
    config = ModelGateConfig.model_validate_json(settings)
    checks = check_floors(read_failures(evaluation.uri), blessing.get_int_custom_property("blessed") == 1)
    checks += check_slices(read_slices(evaluation.uri, names), config)
    candidate = load(Path(answers.uri) / PREDICTIONS_FILE)
    checks += check_baseline(*read_baseline(baseline.uri), candidate, config)
    record = read_champion(champion.uri)
    compared: tuple[Comparison, bool] | str | None = None
    if record.registry_version is not None:
        compared = compare_with_champion(
            Path(champion.uri), candidate, examples.uri, names, config.confidence, Path(verdict.uri)
        )
    numbers: dict[str, Any] = {"champion": record.serving_version, "verdict": None}
    if isinstance(compared, str):
        why = f"{compared}: promote the candidate by hand, or give this model another name"
        checks.append(Check("champion", "fail", False, why))
    else:
        comparison, same = compared or (None, False)
        check, numbers["verdict"] = check_champion(record, comparison, same, config)
        checks.append(check)
        if comparison:
            numbers |= _numbers(comparison)
    write_verdict(verdict.uri, GATE.name, checks, numbers)


def _gain(comparison: Comparison) -> tuple[float, float, float]:
    """Returns the candidate's gain of accuracy and the ends of its interval."""
    return _ends(comparison.metrics["accuracy"].difference)


def _ends(gain: Estimate) -> tuple[float, float, float]:
    if gain.value is None or gain.low is None or gain.high is None:
        raise ValueError("a difference without an interval cannot be judged")
    return gain.value, gain.low, gain.high


def _numbers(compared: Comparison) -> dict[str, Any]:
    gain, low, high = _gain(compared)
    return {
        "difference": gain,
        "low": low,
        "high": high,
        "confidence": compared.confidence,
        "rows": compared.rows,
        "only_champion_right": compared.mcnemar.b,
        "only_candidate_right": compared.mcnemar.c,
        "mcnemar_p": compared.mcnemar.mid_p,
    }
