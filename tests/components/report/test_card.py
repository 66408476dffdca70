"""The node that writes the model card reads what the run's nodes left, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_facts
import yaml
from tfx.types import standard_artifacts

from components.artifacts import Answers, Baseline, IngestReport, ModelCard, Registration, Verdict
from components.errors import BadInputError
from components.evaluation.predictions import save
from components.file_names import CARD_FILE, HISTORY_FILE, PREDICTIONS_FILE, REGISTRATION_FILE
from components.gates.table import GATES
from components.gates.verdict import Check, write_verdict
from components.records import BaselineRecord, RegistrationRecord, write_baseline
from components.report import card as module
from components.report.card import CardSpec, Executor
from components.report.left_behind import LeftBehind
from components.report.tables import evaluation_tables

ROWS = 400


@pytest.fixture
def write_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the node on the outputs of a run; returns the card: ``write_card(summary="A fine-tuned encoder")``."""
    answers = run_facts.make_answers(ROWS)
    asked: dict[str, Any] = {}

    def read_evaluation(directory: LeftBehind, classes: tuple[str, ...], bounds: dict[str, float], given: Any) -> Any:
        asked.update(
            directory=directory.of("Evaluator", "evaluation").name, classes=classes, bounds=bounds, texts=given.texts
        )
        return evaluation_tables(run_facts.make_slices(answers), classes, bounds, given)

    monkeypatch.setattr(module, "read_evaluation", read_evaluation)

    def run(**changed: Any) -> str:
        kinds = {
            "ingest": IngestReport, "model_run": standard_artifacts.ModelRun,
            "evaluation": standard_artifacts.ModelEvaluation, "answers": Answers, "baseline": Baseline,
            "registration": Registration, "card": ModelCard, **{gate.verdict_input: Verdict for gate in GATES},
        }  # fmt: skip
        at: dict[str, Any] = {}
        for name, kind in kinds.items():
            at[name] = kind()
            at[name].uri = str(tmp_path / name)
            if name != "card":
                Path(at[name].uri).mkdir(exist_ok=True)
        write_outputs(tmp_path)
        save(answers, tmp_path / "answers" / PREDICTIONS_FILE)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "test.csv").write_text('"1","a","b"\n')
        source = {
            "directory": str(tmp_path / "data"), "test": "test.csv", "digest": "d1g", "classes": run_facts.CLASSES
        }  # fmt: skip
        settings = {
            "source": json.dumps(source), "name": "ag_news", "family": "transformer",
            "floors": json.dumps(run_facts.BOUNDS), "summary": "A transformer trained from scratch",
            "code_version": "c0de", "code_digest": "x",
        }  # fmt: skip
        assert set(kinds) == {*CardSpec.INPUTS, *CardSpec.OUTPUTS}
        assert set(settings) == set(CardSpec.PARAMETERS)
        card = at.pop("card")
        Executor().Do({name: [item] for name, item in at.items()}, {"card": [card]}, settings | changed)
        assert asked == {
            "directory": "evaluation", "classes": run_facts.CLASSES, "bounds": run_facts.BOUNDS, "texts": answers.texts
        }  # fmt: skip
        return (tmp_path / "card" / CARD_FILE).read_text(encoding="utf-8")

    return run


def write_outputs(root: Path) -> None:
    """Writes what ExampleGen, the Trainer, Register and the gates write."""
    splits = {split: dict.fromkeys(run_facts.CLASSES, 100) for split in ("train", "eval", "test")}
    report = {"rows": 1_200, "splits": splits, "malformed": 3, "unknown_labels": [], "digest": "d1g"}
    (root / "ingest" / "report.json").write_text(json.dumps(report))
    (root / "ingest" / "quarantine.jsonl").write_text('{"file": "train.csv", "line": 1, "reason": "too few fields"}\n')
    facts = run_facts.make_facts(ROWS)
    assert facts.training is not None
    (root / "model_run" / HISTORY_FILE).write_text(json.dumps(asdict(facts.training)))
    record = RegistrationRecord("9", "0c1f5c2ab0f94b2c9c1b8f6e2d7a4c11", "digest", "pending", None)
    (root / "registration" / REGISTRATION_FILE).write_text(json.dumps(asdict(record)))
    labels = run_facts.make_answers(ROWS).labels
    linear = BaselineRecord(900, 1_000, 50, ROWS, 0.75, 0.74, (0.7, 0.8, 0.7, 0.76))
    write_baseline(root / "baseline", linear, np.where(np.arange(ROWS) % 4, labels, (labels + 1) % 4))
    for gate in GATES:
        checks = [Check("seen", "fail", True, "nothing bad"), Check("told", "warn", False, f"{gate.name} wondered")]
        write_verdict(str(root / gate.verdict_input), gate.name, checks)


def test_the_card_says_where_the_model_is_from(write_card: Callable[..., str]) -> None:
    card = write_card()
    front = yaml.safe_load(card.split("---")[1])
    metrics = {item["name"]: item["value"] for item in front["model-index"][0]["results"][0]["metrics"]}
    answers = run_facts.make_answers(ROWS)
    assert metrics["Accuracy"] == pytest.approx((answers.labels == answers.label_ids).mean(), abs=1e-6)
    for said in ("0c1f5c2ab0f94b2c9c1b8f6e2d7a4c11", "c0de", "ag_news", *run_facts.CLASSES):
        assert said in card


def test_the_card_sets_a_linear_model_beside_it(write_card: Callable[..., str]) -> None:
    told = " ".join(write_card().split())
    assert (
        "fitted on 900 of the 1,000 rows, has an accuracy of 0.7500 (0.705 to 0.790) and a macro-F1 of 0.7400" in told
    )


def test_the_family_says_what_the_model_is(write_card: Callable[..., str]) -> None:
    assert ". A transformer trained from scratch, " in write_card()
    assert ". A heap of words (no. 7), " in write_card(family="heap", summary="A heap of words (no. 7)")


def test_the_card_says_what_every_gate_checked(write_card: Callable[..., str]) -> None:
    card = write_card()
    for gate in GATES:
        assert f"| {gate.name}: {gate.purpose} | 2 | 1 |" in card
        assert f"- Told by a gate when it was pushed: {gate.name} wondered." in card


def test_a_gate_without_a_verdict_makes_no_card(
    write_card: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = write_outputs

    def without(root: Path) -> None:
        write(root)
        (root / "serving_gate_verdict" / "verdict.json").unlink()

    monkeypatch.setitem(globals(), "write_outputs", without)
    with pytest.raises(BadInputError, match=r"verdict\.json is missing"):
        write_card()
    assert not (tmp_path / "card" / CARD_FILE).exists()
