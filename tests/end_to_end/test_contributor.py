"""A third family and a fourth gate are a folder and a line each: a copy of the project gets both, and nothing else.

A whole run, a no of the gate, both compiled files, and a retrain that begins with the champion.
"""

import html
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from project_copy import ROOT, add_package, call_copy, copy_project, insert_line
from span_world import rows, write_span
from tiny_settings import to_options

pytestmark = pytest.mark.e2e

SUPPORT = ROOT / "tests" / "support"
FAMILY = '"toy": "trainers.toy.family",'
GATE = '"components.gates.toy.gate",'
CHOSEN = {
    "toy.passes": "4",
    "model_gate.margin": "0.5",
    "floors.accuracy": "0.5",
    "floors.macro_f1": "0.4",
    "floors.worst_class_f1": "0.1",
    "floors.calibration_error": "1",
}
FEED = {
    "data.spans": "last 2",
    "data.eval_fraction": "0.1",
    "retrain.least_rows": "50",
    "retrain.new_spans": "1",
    "retrain.warm_start": "true",
}


class World:
    """A copy of the project with the family and the gate in it, a feed of spans, and a workspace."""

    def __init__(self, root: Path):
        self.root, self.spans, self.workspace = root, root / "spans", root / "ws"
        self.project = copy_project(root)
        add_package(SUPPORT / "toy_family", self.project / "trainers" / "toy", "Character trigrams and a linear layer.")
        insert_line(self.project / "trainers" / "families.py", '"bert": "trainers.bert.family",', FAMILY)
        add_package(SUPPORT / "toy_gate", self.project / "components" / "gates" / "toy", "A contributor's gate.")
        insert_line(self.project / "components" / "gates" / "table.py", '"components.gates.serving.gate",', GATE)

    def arrive(self, day: int) -> None:
        own, test = rows(200, day * 1000), rows(60, day * 1000 + 500)
        write_span(self.spans / f"span-202603{day:02}", own, test, now=datetime.now(UTC))

    def newsdesk(self, *arguments: str | Path) -> Any:
        return call_copy(self.project, *arguments)

    def call(self, command: str, *more: str, **settings: str) -> Any:
        options = ["--data", self.spans, "--workspace", self.workspace, *to_options(CHOSEN | FEED | settings)]
        return self.newsdesk(command, "--json", "--model", "toy", *options, *more)

    def told(self, result: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, str]]:
        """Returns a run's page, the gate's verdict that MLflow keeps, and the tags of the candidate."""
        kept = self.mlflow().download_artifacts(result["mlflow_run_id"], "ToyGate.json", str(self.root))
        page = html.unescape(Path(result["report"]).read_text(encoding="utf-8"))
        return page, json.loads(Path(kept).read_text()), self.tags()

    def tags(self) -> dict[str, str]:
        """Returns the tags of the newest candidate."""
        found = self.mlflow().search_model_versions("name='ag_news'")
        return max(found, key=lambda item: int(item.version)).tags

    def mlflow(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.workspace}/mlflow.db")

    def versions(self) -> list[str]:
        return sorted(path.name for path in (self.workspace / "serving" / "ag_news").glob("[0-9]*"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Any]:
    """The copy and its first run."""
    world = World(tmp_path_factory.mktemp("contributor"))
    world.spans.mkdir()
    world.arrive(1)
    return world, world.call("run")


def test_a_family_is_a_folder_and_a_line(ran: tuple[World, Any]) -> None:
    world, first = ran
    assert first.code == 0, first.err
    result = first.result
    assert (result["status"], result["model_family"], result["model_version"]) == ("pushed", "toy", "1")
    assert set(first.states().values()) == {"ran"}
    run = world.mlflow().get_run(result["mlflow_run_id"])
    assert run.data.params["toy.passes"] == "4"
    assert run.data.tags["prepared.hash"] == "farm64 modulo 5000"
    for page in (Path(result["report"]), Path(result["model_dir"]) / "MODEL_CARD.md"):
        assert "A toy of 5000 buckets" in page.read_text(encoding="utf-8")


def test_a_gate_is_a_folder_and_a_line(ran: tuple[World, Any]) -> None:
    world, first = ran
    nodes = list(first.states())
    assert nodes[nodes.index("ServingGate") + 1] == "ToyGate"
    page, kept, tags = world.told(first.result)
    assert kept["passed"]
    assert tags["verdict.ToyGate"] == "passed"
    (said,) = (check["sentence"] for check in kept["checks"])
    for shown in ("How sure the candidate is", 'id="toy"', said, "Answers by label id", "toy_gate.confidence"):
        assert shown in page
    card = (world.workspace / "serving" / "ag_news" / "1" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "ToyGate: stops the run if the candidate is unsure of itself" in card


def test_the_gates_no_stops_the_run_and_is_told_everywhere(ran: tuple[World, Any]) -> None:
    world, _ = ran
    rejected = world.call("run", **{"toy_gate.confidence": "1"})
    assert rejected.code == 3, rejected.err
    assert rejected.states()["ToyGate"] == "failed"
    assert rejected.states()["Pusher"] == "skipped"
    (reason,) = rejected.result["reasons"]
    assert "1 asked for (toy_gate.confidence)" in reason
    page, kept, tags = world.told(rejected.result)
    assert kept["reasons"] == [reason]
    assert tags["verdict.ToyGate"] == reason
    assert reason in page
    assert reason in rejected.err
    assert world.versions() == ["1"]


def test_the_familys_model_answers(ran: tuple[World, Any]) -> None:
    world, _ = ran
    done = world.newsdesk("predict", "--json", "--workspace", world.workspace, "The striker scored twice")
    assert done.code == 0, done.err
    assert len(json.loads(done.out)[0]["probabilities"]) == 4


def test_the_command_line_knows_the_family(ran: tuple[World, Any]) -> None:
    world, _ = ran
    assert "transformer or bert or toy" in " ".join(world.newsdesk("run", "--help").out.split())
    wrong = world.newsdesk("run", "--workspace", world.root / "none", "--set", "toy.passe=1")
    assert (wrong.code, "did you mean 'toy.passes'?" in wrong.err) == (2, True)


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_the_file_for_an_orchestrator_has_both(ran: tuple[World, Any], target: str) -> None:
    world, _ = ran
    places = {
        "orchestrator.image": "registry.example/newsdesk@sha256:" + "0" * 64, "orchestrator.claim": "newsdesk",
        "orchestrator.workspace": "/gcs/bucket/workspace", "orchestrator.cache": "/gcs/bucket/cache",
        "orchestrator.data": "/gcs/bucket/feed", "orchestrator.bucket": "gs://bucket/pipelines",
        "orchestrator.project": "p1",
    }  # fmt: skip
    if target == "kubeflow":
        places = {name: value for name, value in places.items() if name.split(".")[1] in ("image", "claim")}
    output = world.root / f"{target}.yaml"
    options = ["--model", "toy", *to_options(CHOSEN | places)]
    done = world.newsdesk("compile", "--target", target, "--output", output, *options)
    assert done.code == 0, done.err
    graph = next(yaml.safe_load_all(output.read_text(encoding="utf-8")))
    assert graph["root"]["inputDefinitions"]["parameters"]["model"]["defaultValue"] == "toy"
    tasks: dict[str, Any] = {}
    for component in graph["components"].values():
        tasks |= component.get("dag", {}).get("tasks", {})
    gate, pusher = ("toygate", "pusher") if target == "kubeflow" else ("ToyGate", "Pusher")
    assert gate in tasks
    assert gate in tasks[pusher]["dependentTasks"]


def test_a_retrain_begins_with_the_champion_and_asks_the_gate(ran: tuple[World, Any]) -> None:
    world, first = ran
    world.arrive(2)
    done = world.call("retrain")
    assert done.code == 0, done.err
    assert f"begins with the weights of {first.result['model_dir']}" in done.err
    assert (done.result["status"], done.result["model_version"]) == ("pushed", "2")
    assert world.tags()["verdict.ToyGate"] == "passed"
    assert world.versions() == ["1", "2"]
