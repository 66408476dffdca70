"""What a run leaves behind becomes its report: artifacts on disk, no TFX, no MLflow."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import run_facts
from click.testing import CliRunner

from components.errors import BadInputError
from components.evaluation.predictions import Predictions, save
from components.example_gen.source import Source
from components.outcomes import NodeState, Outcome
from components.records import RegistrationRecord, write_record
from components.registry.tracking import Store
from components.report.facts import RunFacts
from pipeline.cli.commands import report as cli
from pipeline.config.presets import make_config
from pipeline.run.record import NodeRun, RunResult
from pipeline.run.report import collect, read_facts, write_report
from pipeline.workspace.place import Workspace, open_workspace

ORDER = (
    "ExampleGen", "Champion", "DataGate", "Trainer", "Evaluator", "Answers", "Register", "ModelGate", "ServingGate",
    "Pusher",
)  # fmt: skip
NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
CLASSES = run_facts.CLASSES


RESULT = RunResult(
    Outcome.PUSHED, "20260314-092653-5f3a", "0c1f", model_version="7", model_dir="/somewhere/7", seconds=12.5
)


def test_a_result_has_null_for_a_number_that_is_not_finite() -> None:
    text = replace(RESULT, metrics={"accuracy": 0.9, "log_loss": float("inf")}).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {"accuracy": 0.9, "log_loss": None}


class World:
    """A workspace with what the nodes of one run wrote, and the run's nodes."""

    def __init__(self, root: Path):
        self.workspace = open_workspace(root / "workspace")
        data = root / "data"
        data.mkdir()
        (data / "test.csv").write_text("rows")
        self.request: Any = SimpleNamespace(
            config=make_config("sample"),
            source=Source(data, "train.csv", "test.csv", CLASSES, "d1935t"),
            workspace=self.workspace,
            tracking=Store("https://someone:hunter2@mlflow.example", None),
        )
        self.answers = run_facts.make_answers(400)
        self.nodes = {name: self._ran(name, number) for number, name in enumerate(ORDER, 1)}

    def place(self, name: str, output: str) -> Path:
        return Path(self.nodes[name].outputs[output].uri)

    def stop(self, name: str) -> None:
        """The node failed, and those behind it were skipped; only a gate that said no keeps its outputs."""
        at = ORDER.index(name)
        kept = self.nodes[name].outputs if name.endswith("Gate") else {}
        self.nodes[name] = replace(self.nodes[name], state=NodeState.FAILED, outputs=kept)
        for later in ORDER[at + 1 :]:
            self.nodes[later] = NodeRun(later, NodeState.SKIPPED)

    def collect(self, **result: Any) -> RunFacts:
        return collect(replace(RESULT, **result), list(self.nodes.values()), self.request, NOW)

    def _ran(self, name: str, number: int) -> NodeRun:
        outputs = {}
        for output in {
            "ExampleGen": ["examples", "report"], "Trainer": ["model", "model_run"], "Evaluator": ["evaluation"],
            "Champion": ["champion"], "Answers": ["answers"], "Register": ["registration"], "Pusher": ["pushed_model"],
        }.get(name, ["verdict"]):  # fmt: skip
            directory = self.workspace.artifacts / name / output / str(number)
            directory.mkdir(parents=True)
            outputs[output] = SimpleNamespace(uri=str(directory))
            getattr(self, f"_write_{output}", lambda *_: None)(directory, name)
        return NodeRun(
            name,
            NodeState.CACHED if name == "ExampleGen" else NodeState.RAN,
            number + 0.111,
            500.4 + number,
            number,
            outputs,
        )

    def _write_report(self, directory: Path, name: str) -> None:
        splits = {split: dict.fromkeys(CLASSES, 100) for split in ("train", "eval", "test")}
        report = {"rows": 1_201, "splits": splits, "malformed": 1, "unknown_labels": []}
        (directory / "report.json").write_text(json.dumps(report))
        (directory / "quarantine.jsonl").write_text(json.dumps({"file": "a", "line": 1, "reason": "2 fields"}) + "\n")

    def _write_verdict(self, directory: Path, name: str) -> None:
        numbers = {"ModelGate": {"verdict": "not worse"}}.get(name, {})
        if name == "DataGate":
            numbers = {"length_edges": [0, 9], "data": {"length_counts": [1, 2]}, "champion": {"length_counts": [2, 1]}}
        verdict = {"gate": name, "passed": True, "reasons": [], "warnings": [], "checks": [], "numbers": numbers}
        (directory / "verdict.json").write_text(json.dumps(verdict))

    def _write_champion(self, directory: Path, name: str) -> None:
        record = {"serving_version": "6", "registry_version": "8", "mlflow_run_id": "x", "reason": "version 6 serves"}
        (directory / "champion.json").write_text(json.dumps(record))
        save(run_facts.make_answers(400, 0.8, seed=5), directory / "predictions.npz")

    def _write_answers(self, directory: Path, name: str) -> None:
        save(self.answers, directory / "predictions.npz")

    def _write_registration(self, directory: Path, name: str) -> None:
        write_record(directory, "registration.json", RegistrationRecord("9", "0c1f", "d", "pending", None))

    def _write_model_run(self, directory: Path, name: str) -> None:
        epoch = {"epoch": 1, "loss": 0.5, "accuracy": 0.8, "eval_loss": 0.4, "eval_accuracy": 0.9, "seconds": 3.0}
        history = {"epochs": [epoch], "best_epoch": 1, "parameters": 10, "steps": 20}
        (directory / "history.json").write_text(json.dumps(history))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The Evaluator's own files need TensorFlow to be written and read; here its numbers come from the answers."""
    made = World(tmp_path)

    def read_slices(uri: str, classes: tuple[str, ...]) -> Any:
        assert uri == str(made.place("Evaluator", "evaluation"))
        return run_facts.make_slices(made.answers)

    monkeypatch.setattr("components.evaluation.result.read_slices", read_slices)
    return made


def test_a_pushed_run_has_everything(world: World) -> None:
    facts = world.collect()
    assert (facts.status, facts.model_version, facts.pushed_as, facts.reasons) == ("pushed", "7", "champion", [])
    assert (facts.preset, facts.model_family, facts.model_name) == ("sample", "transformer", "ag_news")
    assert facts.finished_at == "2026-03-14T09:26:53+00:00"
    assert [verdict.gate for verdict in facts.gates] == ["DataGate", "ModelGate", "ServingGate"]
    assert facts.registry_version == "9"
    first = facts.nodes[0]
    assert (first.id, first.state, first.seconds, first.peak_mb) == ("ExampleGen", "cached", 1.11, 501)
    assert first.outputs["report"] == str(world.place("ExampleGen", "report"))
    assert facts.training.best_epoch == 1
    assert facts.evaluation.rows == 400
    assert {item.name: item.bound for item in facts.evaluation.headlines}["accuracy"] == 0.7
    assert facts.settings["floors.accuracy"] == "0.7"
    assert facts.settings["model_gate.margin"] == str(world.request.config.model_gate.margin)
    wrong = world.answers.labels != world.answers.label_ids
    assert len(facts.mistakes) == min(20, wrong.sum())
    assert (facts.data.rows, facts.data.malformed, facts.data.quarantine) == (1_201, 1, {"2 fields": 1})
    assert [item.name for item in facts.data.lengths] == ["this run", "the champion's data"]
    assert RunFacts.from_json(facts.to_json()) == facts


def test_the_champion_is_a_and_the_candidate_b(world: World) -> None:
    champion = world.collect().champion
    found = champion.comparison
    ours = (world.answers.labels == world.answers.label_ids).mean()
    assert found.metrics["accuracy"].b.value == pytest.approx(ours)
    assert found.metrics["accuracy"].a.value < ours
    settings = world.request.config.model_gate
    assert (champion.serving_version, champion.verdict, champion.margin) == ("6", "not worse", settings.margin)
    assert found.confidence == settings.confidence


def test_the_champions_answers_may_stand_in_another_order(world: World) -> None:
    before = world.collect().champion
    path = world.place("Champion", "champion") / "predictions.npz"
    held, order = reading_answers(path), np.random.default_rng(0).permutation(400)
    turned = Predictions(
        [held.texts[at] for at in order], held.labels[order], held.label_ids[order], held.probabilities[order]
    )
    save(turned, path)
    assert world.collect().champion == before


def reading_answers(path: Path) -> Predictions:
    from components.evaluation.predictions import load

    return load(path)


@pytest.mark.parametrize(
    ("theirs", "note"),
    [
        (None, "kept no answers"),
        (run_facts.make_answers(300), "answers to other test rows"),
        (run_facts.make_answers(400, classes=3), "tells other classes apart"),
    ],
    ids=["none", "other rows", "other classes"],
)
def test_what_cannot_be_compared_is_said(world: World, theirs: Predictions | None, note: str) -> None:
    path = world.place("Champion", "champion") / "predictions.npz"
    path.unlink()
    if theirs:
        save(theirs, path)
    champion = world.collect().champion
    assert note in champion.note
    assert champion.comparison is None


def test_answers_that_the_model_gate_asked_for_come_first(world: World) -> None:
    save(run_facts.make_answers(300), world.place("Champion", "champion") / "predictions.npz")
    save(world.answers, world.place("ModelGate", "verdict") / "predictions.npz")
    found = world.collect().champion.comparison
    assert (found.mcnemar.b, found.mcnemar.c) == (0, 0)


def test_a_first_run_has_no_champion(world: World) -> None:
    record = {"serving_version": None, "registry_version": None, "mlflow_run_id": None, "reason": "none yet"}
    directory = world.place("Champion", "champion")
    (directory / "champion.json").write_text(json.dumps(record))
    (directory / "predictions.npz").unlink()
    champion = world.collect().champion
    assert (champion.serving_version, champion.reason, champion.comparison, champion.note) == (
        None,
        "none yet",
        None,
        "",
    )


@pytest.mark.parametrize("gate", ["DataGate", "ModelGate", "ServingGate"])
def test_a_gate_that_said_no_is_in_the_report_in_its_own_words(world: World, gate: str) -> None:
    reason = 'accuracy is 0.8821, below the floor <of> "0.9"'
    path = world.place(gate, "verdict") / "verdict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"passed": False, "reasons": [reason]}))
    world.stop(gate)
    facts = world.collect(outcome=Outcome.REJECTED, reasons=[reason], model_version=None, model_dir=None)
    assert facts.stopped_at == gate
    assert facts.gates[-1].gate == gate
    assert facts.gates[-1].reasons == facts.reasons == [reason]
    assert facts.pushed_as is None
    assert (facts.evaluation is None) == (gate == "DataGate")
    page = write_report(facts, world.workspace).read_text(encoding="utf-8")
    assert "accuracy is 0.8821, below the floor &lt;of&gt; &#34;0.9&#34;" in page
    assert f"Rejected by {gate}" in page


def test_a_gate_that_broke_before_its_verdict_has_none(world: World) -> None:
    world.stop("ServingGate")
    world.nodes["ServingGate"] = replace(world.nodes["ServingGate"], outputs={})
    facts = world.collect(outcome=Outcome.FAILED, reasons=["out of memory"], model_version=None, model_dir=None)
    assert facts.gate("ServingGate") is None
    page = write_report(facts, world.workspace).read_text(encoding="utf-8")
    assert "ServingGate ended without a result" in page


def test_refused_input_is_told_and_its_quarantine_named(world: World) -> None:
    world.stop("ExampleGen")
    kept = world.workspace.quarantine / f"{RESULT.run_id}.jsonl"
    kept.parent.mkdir()
    kept.write_text("{}\n")
    facts = world.collect(
        outcome=Outcome.FAILED, reasons=["1 of 1201 rows are malformed"], model_version=None, model_dir=None
    )
    assert (facts.data.rows, facts.data.quarantine_file) == (0, str(kept))
    page = write_report(facts, world.workspace).read_text(encoding="utf-8")
    assert "Failed at ExampleGen" in page
    assert "1 of 1201 rows are malformed" in page


def test_a_run_that_ended_before_its_first_node_has_a_report(world: World) -> None:
    world.nodes = {}
    facts = world.collect(
        outcome=Outcome.FAILED, reasons=["MLflow does not answer"], mlflow_run_id=None, model_version=None
    )
    page = write_report(facts, world.workspace).read_text(encoding="utf-8")
    assert "Failed before the first node" in page
    assert "MLflow does not answer" in page


@pytest.mark.parametrize(
    ("node", "output", "file"),
    [
        ("ExampleGen", "report", "report.json"),
        ("Trainer", "model_run", "history.json"),
        ("Answers", "answers", "predictions.npz"),
        ("Champion", "champion", "champion.json"),
        ("Register", "registration", "registration.json"),
        ("DataGate", "verdict", "verdict.json"),
    ],
)
def test_what_a_finished_node_left_may_not_be_missing(world: World, node: str, output: str, file: str) -> None:
    (world.place(node, output) / file).unlink()
    with pytest.raises((FileNotFoundError, ValueError, BadInputError), match=file):
        world.collect()


def test_no_password_is_kept(world: World) -> None:
    facts = world.collect()
    assert facts.tracking == "https://mlflow.example"
    assert "hunter2" not in facts.to_json()
    world.request.tracking = Store("sqlite:////a/b@c.db", None)
    assert world.collect().tracking == "sqlite:////a/b@c.db"


def test_half_a_character_does_not_break_the_report(world: World) -> None:
    facts = world.collect(outcome=Outcome.FAILED, reasons=["file caf\udce9.csv"])
    assert facts.reasons == ["file caf\\udce9.csv"]
    write_report(facts, world.workspace)


def test_the_report_is_drawn_again_from_what_was_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(world.collect(), world.workspace)
    assert path == world.workspace.root / "reports" / RESULT.run_id / "index.html"
    first = path.read_text(encoding="utf-8")
    path.unlink()
    done = CliRunner().invoke(cli.command, ["--workspace", str(world.workspace.root)])
    assert (done.exit_code, done.output) == (0, f"{path}\n")
    assert path.read_text(encoding="utf-8") == first
    assert sorted(item.name for item in path.parent.iterdir()) == ["index.html", "run.json"]


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Workspace]:
    """A workspace with reports of the runs named."""

    def make(*names: str) -> Workspace:
        workspace = Workspace(tmp_path)
        for name in names:
            write_report(replace(run_facts.make_stopped_early(), run_id=name), workspace)
        return workspace

    return make


def test_a_run_is_found_by_the_beginning_of_its_id(kept: Callable[..., Workspace]) -> None:
    workspace = kept("20260101-000000-aaaa", "20260102-000000-bbbb", "20260102-000000-bbbbcc")
    assert read_facts(workspace).run_id == "20260102-000000-bbbbcc"
    assert read_facts(workspace, "20260101").run_id == "20260101-000000-aaaa"
    assert read_facts(workspace, "20260102-000000-bbbb").run_id == "20260102-000000-bbbb"
    with pytest.raises(BadInputError, match="any of 2 runs, 20260102-000000-bbbbcc, 20260102-000000-bbbb: give more"):
        read_facts(workspace, "20260102")


@pytest.mark.parametrize("wanted", ["2027", "../secret", "/", "*", "[0-9]*"])
def test_an_unknown_run_is_answered_with_those_there_are(kept: Callable[..., Workspace], wanted: str) -> None:
    workspace = kept("20260101-000000-aaaa")
    (workspace.root / "secret").mkdir()
    (workspace.root / "secret" / "run.json").write_text("{}")
    with pytest.raises(BadInputError, match="there is one of 20260101-000000-aaaa"):
        read_facts(workspace, wanted)


def test_a_workspace_without_reports_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no report yet"):
        read_facts(Workspace(tmp_path))


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff"])
def test_damaged_facts_are_one_sentence(kept: Callable[..., Workspace], content: bytes) -> None:
    workspace = kept("20260101-000000-aaaa")
    path = workspace.root / "reports" / "20260101-000000-aaaa" / "run.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="repeat the run"):
        read_facts(workspace)


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "/etc"])
def test_a_run_id_that_leads_elsewhere_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ValueError, match="not a name of a directory"):
        write_report(replace(run_facts.make_stopped_early(), run_id=run_id), Workspace(tmp_path))


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    kept: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = kept("20260101-000000-aaaa")
    directory = workspace.root / "reports" / "20260101-000000-aaaa"
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert set(before) == {"index.html", "run.json"}
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        write_report(replace(run_facts.make_stopped_early(), run_id=directory.name, seconds=1.0), workspace)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_the_report_names_the_spans_it_was_trained_on(world: World) -> None:
    assert world.collect().data.spans == []
    source = replace(
        world.request.source, spans=("span-20260301", "span-20260302"), left_out=("span-20260303 is empty",)
    )
    world.request.source = source
    facts = world.collect()
    assert facts.data.spans == ["span-20260301", "span-20260302"]
    assert facts.data.left_out == ["span-20260303 is empty"]
    page = write_report(facts, world.workspace).read_text(encoding="utf-8")
    assert "2 spans: span-20260301, span-20260302." in page
    assert "span-20260303 is empty" in page
    assert read_facts(world.workspace, facts.run_id) == facts
