"""One run around its nodes: what MLflow is told, what waits for it, and what becomes of a refused candidate."""

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order

from components.errors import BadInputError, GateRejectedError
from components.example_gen.source import Source
from components.file_names import REGISTRATION_FILE
from components.gates.verdict import Check, write_verdict
from components.outcomes import NodeState, Standing
from components.push.aliases import ALIASES_FILE
from components.records import RegistrationRecord
from components.registry import tracking
from components.registry.registry import CHAMPION, STATUS
from components.registry.spool import Spool
from components.registry.tracking import Store, TrackedRun, start_run
from pipeline.config.presets import make_config
from pipeline.run import execute as module
from pipeline.run import track
from pipeline.run.execute import execute
from pipeline.run.launch import judge
from pipeline.run.record import NodeRun, Request, RunResult
from pipeline.workspace.place import open_workspace

NAME = "ag_news"
Script = Callable[["Runner"], None]


class Runner:
    """Stands in for the runner: a script says what the nodes do."""

    script: Script

    def __init__(self, pipeline: object, place: object, run_id: str, on_change: Callable[[list[NodeRun]], None]):
        self.run_id = run_id
        self.nodes: list[NodeRun] = []
        self._on_change = on_change

    def run(self) -> None:
        type(self).script(self)
        self._on_change(self.nodes)


class World:
    """A workspace with a registry of its own, and an experiment in which version 1 was registered by ``run-0``."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.root = root
        self._monkeypatch = monkeypatch
        self.workspace = open_workspace(root / "workspace")
        self.store: Store = make_store(self.workspace.root)
        self.client = MlflowClient(tracking_uri=self.store.uri, registry_uri=self.store.uri)
        self.spool = Spool(self.workspace.spool)
        with start_run(self.store, NAME, "run-0", self.spool) as first:
            pass
        self.client.create_registered_model(NAME)
        self.register("run-0", first.id)
        source = Source(root, "train.csv", "test.csv", ("World", "Sports"), "d1g")
        self.request = Request(make_config("sample"), source, self.workspace, self.store, {})
        self.reported: list[RunResult] = []
        monkeypatch.setattr(module, "create_pipeline", lambda *_: None)
        monkeypatch.setattr(module, "LocalRunner", Runner)
        monkeypatch.setattr(module, "annotate_run", lambda *_, **__: 7)
        monkeypatch.setattr(track, "collect", lambda result, *_: result)
        monkeypatch.setattr(track, "write_report", self._report)

    def _report(self, result: RunResult, _: object) -> Path:
        self.reported.append(result)
        return self.root / "index.html"

    def register(self, run: str, run_id: str, **tags: str) -> str:
        """Registers a candidate as ``Register`` does; returns its version."""
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        tags = {STATUS: "pending", "run": run, **tags}
        return str(self.client.create_model_version(NAME, source, run_id, tags=tags).version)

    def run(self, script: Script, run_id: str = "run-1") -> RunResult:
        self._monkeypatch.setattr(Runner, "script", script, raising=False)
        return execute(self.request, run_id, lambda _: None)

    def output(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def registered(self, version: str = "2", status: str = "pending") -> NodeRun:
        """Returns ``Register`` as it is when it has run."""
        record = RegistrationRecord(version, "r", "digest", status, None)
        place = self.output(f"registration{version}")
        (place / REGISTRATION_FILE).write_text(json.dumps(asdict(record)))
        return NodeRun("Register", NodeState.RAN, outputs={"registration": artifact(place)})

    def gate(self, name: str, *failed: str) -> NodeRun:
        """Returns a gate that has come to its verdict."""
        place = self.output(f"verdict-{name}")
        checks = [Check("seen", "fail", True, "fine"), *(Check("bad", "fail", False, reason) for reason in failed)]
        write_verdict(str(place), name, checks)
        node, _ = judge(NodeRun(name, NodeState.RAN, outputs={"verdict": artifact(place)}))
        assert (node.state is NodeState.FAILED) is bool(failed)
        return node

    def run_of(self, result: RunResult) -> Any:
        assert result.mlflow_run_id is not None
        return self.client.get_run(result.mlflow_run_id)

    def tags(self, version: str) -> dict[str, str]:
        return self.client.get_model_version(NAME, version).tags


def artifact(place: Path) -> metadata_store_pb2.Artifact:
    return metadata_store_pb2.Artifact(uri=str(place))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def rejecting(world: World, version: str = "1", status: str = "pending") -> Script:
    """A run whose candidate misses two floors."""

    def script(runner: Runner) -> None:
        runner.nodes = [
            world.gate("DataGate"),
            world.registered(version, status),
            world.gate("ModelGate", "accuracy is low", "f1 too"),
            NodeRun("Pusher", NodeState.SKIPPED),
        ]
        raise GateRejectedError("ModelGate", ["accuracy is low", "f1 too"])

    return script


def test_the_next_run_closes_what_a_killed_one_left_open(world: World) -> None:
    class KilledError(BaseException):
        """The process is gone: nothing after this is written."""

    def kill(_: Runner) -> None:
        (run,) = world.client.search_runs(
            [world.client.get_experiment_by_name(NAME).experiment_id], "status = 'RUNNING'"
        )
        left.append(run.info.run_id)
        raise KilledError

    left: list[str] = []
    with world._monkeypatch.context() as patch:
        patch.setattr(TrackedRun, "end", lambda *_: None)
        with pytest.raises(KilledError):
            world.run(kill)
    assert world.client.get_run(left[0]).info.status == "RUNNING"
    world.run(lambda _: None, "run-2")
    assert world.client.get_run(left[0]).info.status == "KILLED"


@pytest.mark.parametrize("full", ["the directory of temporary files", "the disk"])
def test_a_full_disk_fails_no_run_whose_nodes_succeeded(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, full: str
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def script(runner: Runner) -> None:
        runner.nodes = [world.gate("DataGate"), world.gate("ModelGate")]
        # From here on: the nodes have done their work.
        if full == "the disk":
            monkeypatch.setattr(tracking, "deliver", no_space)
            monkeypatch.setattr(Spool, "add", no_space)
        monkeypatch.setattr(tempfile, "tempdir", "/dev/full")

    result = world.run(script)
    assert (result.outcome, result.reasons) == ("pushed", [])
    if full == "the disk":
        assert (
            "MLflow was not told of the metrics of this run, nor can they wait (No space left on device)" in caplog.text
        )
    else:
        run = world.run_of(result)
        assert run.info.status == "FINISHED"
        assert {item.path for item in world.client.list_artifacts(run.info.run_id)} == {
            "DataGate.json",
            "ModelGate.json",
        }


def test_a_model_of_another_workspace_is_not_touched(world: World, tmp_path: Path) -> None:
    """At the first contact, before anything is recorded."""
    world.request = replace(world.request, tracking=Store(world.store.uri, None))
    assert world.run(lambda _: None).outcome == "pushed"
    mine = world.client.get_registered_model(NAME).tags
    first = world.request
    world.request = replace(first, workspace=open_workspace(tmp_path / "another"))
    runs = len(world.client.search_runs([world.client.get_experiment_by_name(NAME).experiment_id]))
    with pytest.raises(BadInputError, match=f"is that of workspace {first.workspace.root}: set another name"):
        world.run(lambda _: pytest.fail("a node ran"), "run-2")
    assert world.client.get_registered_model(NAME).tags == mine
    assert len(world.client.search_runs([world.client.get_experiment_by_name(NAME).experiment_id])) == runs
    world.request = first
    assert world.run(lambda _: None, "run-3").outcome == "pushed"


def test_without_the_champion_that_serves_nothing_is_run(world: World) -> None:
    """A new store in the place of a lost one would disarm the ModelGate."""
    base = world.workspace.model_base(NAME)
    base.mkdir()
    (base / ALIASES_FILE).write_text('{"champion": 3}')
    with pytest.raises(
        BadInputError, match=rf"version 3 of {NAME} serves, but MLflow at {world.store.uri} has no champ"
    ):
        world.run(lambda _: pytest.fail("a node ran"))
    (base / ALIASES_FILE).unlink()
    assert world.run(lambda _: None).outcome == "pushed"
    (base / ALIASES_FILE).write_text('{"champion": 3}')
    world.client.set_registered_model_alias(NAME, CHAMPION, "1")
    assert world.run(lambda _: None).outcome == "pushed"


def test_a_rejected_candidate_is_marked_and_nothing_moves(world: World) -> None:
    result = world.run(rejecting(world))
    assert (result.outcome, result.outcome.exit_code) == ("rejected", 3)
    assert result.reasons == ["accuracy is low", "f1 too"]
    tags = world.tags("1")
    assert tags[STATUS] == "rejected"
    assert tags["verdict.DataGate"] == "passed"
    assert tags["verdict.ModelGate"] == "accuracy is low; f1 too"
    assert world.client.get_registered_model(NAME).aliases == {}
    run = world.run_of(result)
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "ModelGate: accuracy is low; f1 too")
    assert run.data.tags["node.ModelGate"] == "failed"
    assert {item.path for item in world.client.list_artifacts(run.info.run_id)} == {"DataGate.json", "ModelGate.json"}
    assert world.reported == [result]
    assert result.report == str(world.root / "index.html")


@pytest.mark.parametrize("known", ["approved", Standing.ROLLED_BACK, "rejected"])
def test_what_is_known_of_a_model_is_not_overwritten(world: World, known: str) -> None:
    """The same model again: what serves does not become a rejected one because a later run asked for more."""
    world.client.set_model_version_tag(NAME, "1", STATUS, known)
    world.client.set_registered_model_alias(NAME, CHAMPION, "1")
    world.run(rejecting(world, status=known))
    assert world.tags("1")[STATUS] == known
    assert str(world.client.get_model_version_by_alias(NAME, CHAMPION).version) == "1"


def test_a_run_that_fails_is_no_verdict_on_its_candidate(world: World) -> None:
    def script(runner: Runner) -> None:
        runner.nodes = [world.gate("DataGate"), world.registered("1"), NodeRun("ServingGate", NodeState.FAILED)]
        raise RuntimeError("out of memory")

    result = world.run(script)
    assert (result.outcome, result.outcome.exit_code, result.reasons) == ("failed", 1, ["out of memory"])
    assert world.tags("1")[STATUS] == "pending"
    assert world.tags("1")["verdict.DataGate"] == "passed"


def test_a_run_without_a_candidate_marks_none(world: World) -> None:
    def script(runner: Runner) -> None:
        runner.nodes = [world.gate("DataGate", "a class is missing"), NodeRun("Register", NodeState.SKIPPED)]
        raise GateRejectedError("DataGate", ["a class is missing"])

    result = world.run(script)
    assert (result.outcome, result.outcome.exit_code) == ("rejected", 3)
    assert set(world.tags("1")) == {STATUS, "run"}
    assert world.tags("1")[STATUS] == "pending"


def test_bad_input_ends_with_its_own_code(world: World) -> None:
    def script(_: Runner) -> None:
        raise BadInputError("the encoder is not here: newsdesk fetch encoder")

    result = world.run(script)
    assert (result.outcome.status, result.outcome.exit_code) == ("failed", 2)
    assert result.reasons == ["the encoder is not here: newsdesk fetch encoder"]


def test_what_was_pushed_is_told(world: World) -> None:
    def script(runner: Runner) -> None:
        pushed = metadata_store_pb2.Artifact()
        pushed.custom_properties["pushed_version"].string_value = "4"
        pushed.custom_properties["pushed_destination"].string_value = "/serving/ag_news/4"
        runner.nodes = [
            world.registered("1", "approved"),
            world.gate("ModelGate"),
            NodeRun("Pusher", NodeState.RAN, outputs={"pushed_model": pushed}),
        ]

    result = world.run(script)
    assert (result.outcome, result.outcome.exit_code, result.model_version) == ("pushed", 0, "4")
    assert world.run_of(result).data.tags["serving_version"] == "4"
    assert world.tags("1")["verdict.ModelGate"] == "passed"


def test_a_store_that_goes_away_costs_no_measurement_and_is_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = "MLflow does not answer or refuses: start it"
    away = out_of_order(world.workspace.root)

    def script(runner: Runner) -> None:
        runner.nodes = [NodeRun("Transform", NodeState.RAN, seconds=9.5), NodeRun("Register", NodeState.FAILED)]
        away.__enter__()
        raise BadInputError(sentence)

    with caplog.at_level(logging.WARNING, "newsdesk"):
        result = world.run(script)
    assert (result.outcome.status, result.outcome.exit_code, result.reasons) == ("failed", 2, [sentence])
    warnings = [record.message for record in caplog.records if record.name.startswith("newsdesk")]
    assert [said.startswith("MLflow does not answer") for said in warnings] == [True]
    assert result.mlflow_run_id is not None
    assert world.spool.entries(result.mlflow_run_id)
    # The page is written all the same.
    assert world.reported == [result]
    away.__exit__(None, None, None)
    assert world.run_of(result).info.status == "RUNNING"
    world.run(lambda _: None, "run-2")
    late = world.run_of(result)
    assert (late.info.status, late.data.tags["reason"]) == ("FAILED", sentence)
    assert late.data.metrics["seconds/Transform"] == 9.5
    assert late.data.tags["node.Register"] == "failed"
    assert list(world.workspace.spool.iterdir()) == []


def test_a_rejection_that_mlflow_does_not_hear_is_delivered_later(world: World) -> None:
    away = out_of_order(world.workspace.root)
    reject = rejecting(world)

    def script(runner: Runner) -> None:
        away.__enter__()
        reject(runner)

    result = world.run(script)
    away.__exit__(None, None, None)
    assert (result.outcome, result.outcome.exit_code) == ("rejected", 3)
    assert world.tags("1")[STATUS] == "pending"
    world.run(lambda _: None, "run-2")
    assert world.tags("1")[STATUS] == "rejected"
    assert world.tags("1")["verdict.ModelGate"] == "accuracy is low; f1 too"


def test_without_a_registry_no_run_begins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LocalRunner", lambda *_: pytest.fail("a run began"))
    with out_of_order(world.workspace.root), pytest.raises(BadInputError, match="does not answer or refuses"):
        world.run(lambda _: None)


def test_a_page_that_cannot_be_written_changes_no_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(track, "write_report", full)
    with caplog.at_level(logging.WARNING, "newsdesk"):
        result = world.run(rejecting(world))
    assert (result.outcome, result.outcome.exit_code, result.report) == ("rejected", 3, None)
    assert "the report could not be written" in caplog.text
    assert "No space left on device" in capsys.readouterr().err
