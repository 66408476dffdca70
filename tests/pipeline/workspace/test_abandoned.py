"""What killed runs leave in ML Metadata as running is named, and marked on demand."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ml_metadata.proto import metadata_store_pb2
from ml_metadata.proto.metadata_store_pb2 import Execution
from mlflow import MlflowClient
from mlflow_stores import make_store

from components.errors import BadInputError
from pipeline.cli.main import cli
from pipeline.workspace.abandoned import REASON, WORKSPACE, find_abandoned
from pipeline.workspace.doctor import Check
from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import Workspace, exclusive, open_workspace


class World:
    """A workspace whose metadata store knows executions of nodes in runs."""

    def __init__(self, root: Path):
        self.workspace: Workspace = open_workspace(root)
        self.store = MetadataPlace(f"sqlite:///{self.workspace.metadata}").open()
        kinds = [metadata_store_pb2.ContextType(name=name) for name in ("pipeline_run", "node")]
        self._run, self._node = (self.store.put_context_type(kind) for kind in kinds)
        self._kind = self.store.put_execution_type(metadata_store_pb2.ExecutionType(name="any"))

    def execution(self, run: str, node: str, state: Any) -> int:
        execution = Execution(type_id=self._kind, last_known_state=state)
        contexts = [
            metadata_store_pb2.Context(type_id=self._run, name=run),
            metadata_store_pb2.Context(type_id=self._node, name=f"ag_news.{node}"),
        ]
        number, *_ = self.store.put_execution(execution, [], contexts, reuse_context_if_already_exist=True)
        return number

    def state(self, number: int) -> tuple[int, str]:
        (item,) = self.store.get_executions_by_id([number])
        return item.last_known_state, item.custom_properties["reason"].string_value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "ws")


@pytest.fixture
def left_open(world: World) -> dict[str, str]:
    """MLflow ids of open runs by name: of this workspace, before and now; of another; of a job; and one that ended."""
    store, root = make_store(world.workspace.root), str(world.workspace.root)
    client = MlflowClient(tracking_uri=store.uri)
    job = world.workspace.root / "runs" / "job-2"
    job.mkdir(parents=True)
    (job / "run-id").write_text("of-a-job")
    tags = {
        "killed": {WORKSPACE: root, "mlmd_store": "mysql://elsewhere"},
        "killed-before": {"mlmd_store": f"{root}/metadata.sqlite"},
        "of-another": {WORKSPACE: f"{root}2", "mlmd_store": f"{root}2/metadata.sqlite"},
        "of-nobody": {},
        "of-a-job": {WORKSPACE: root},
        "ended": {WORKSPACE: root},
    }
    ids = {}
    for number, (name, given) in enumerate(tags.items()):
        experiment = client.create_experiment(f"experiment-{number}")
        ids[name] = client.create_run(experiment, tags=given, run_name=name).info.run_id
    client.set_terminated(ids["ended"])
    return ids


def statuses(world: World, left_open: dict[str, str]) -> dict[str, str]:
    client = MlflowClient(tracking_uri=make_uri(world))
    return {name: client.get_run(number).info.status for name, number in left_open.items()}


def make_uri(world: World) -> str:
    return f"sqlite:///{world.workspace.mlflow_store}"


def test_what_is_open_in_mlflow_and_runs_nowhere_is_closed(world: World, left_open: dict[str, str]) -> None:
    told = find_abandoned(world.workspace)
    assert {(item.execution_id, item.run) for item in told} == {(None, "killed"), (None, "killed-before")}
    assert told[0].sentence.startswith(f"MLflow's record of run {told[0].run} is called running since 20")
    assert set(statuses(world, left_open).values()) == {"RUNNING", "FINISHED"}
    assert find_abandoned(world.workspace, mark=True) == told
    killed = {name for name, status in statuses(world, left_open).items() if status == "KILLED"}
    assert killed == {"killed", "killed-before"}
    run = MlflowClient(tracking_uri=make_uri(world)).get_run(left_open["killed"])
    assert run.data.tags["reason"] == "run killed was killed"
    assert find_abandoned(world.workspace) == []


@pytest.fixture
def killed(world: World) -> int:
    world.execution("run-1", "ExampleGen", Execution.COMPLETE)
    world.execution("run-1", "DataGate", Execution.FAILED)
    world.execution("run-1", "Transform", Execution.CACHED)
    return world.execution("run-1", "Trainer", Execution.RUNNING)


def test_what_runs_nowhere_is_named(world: World, killed: int) -> None:
    (found,) = find_abandoned(world.workspace)
    assert (found.execution_id, found.node, found.run) == (killed, "Trainer", "run-1")
    assert found.since.endswith("+00:00")
    assert world.state(killed) == (Execution.RUNNING, "")


def test_it_is_marked_once(world: World, killed: int) -> None:
    assert len(find_abandoned(world.workspace, mark=True)) == 1
    assert world.state(killed) == (Execution.CANCELED, REASON)
    assert find_abandoned(world.workspace, mark=True) == []
    states = sorted(item.last_known_state for item in world.store.get_executions())
    assert states == sorted([Execution.COMPLETE, Execution.FAILED, Execution.CACHED, Execution.CANCELED])


def test_while_a_run_is_on_nothing_is_abandoned(world: World, killed: int) -> None:
    with exclusive(world.workspace, "run-1"), pytest.raises(BadInputError, match="in use by run run-1"):
        find_abandoned(world.workspace, mark=True)
    assert world.state(killed) == (Execution.RUNNING, "")


def test_the_steps_of_an_unfinished_job_may_still_run(world: World, killed: int) -> None:
    job = world.workspace.root / "runs" / "job-1"
    job.mkdir(parents=True)
    (job / "run-id").write_text("run-1")
    assert find_abandoned(world.workspace) == []
    (job / "result.json").write_text("{}")
    assert len(find_abandoned(world.workspace)) == 1


def test_without_a_workspace_or_a_store_nothing_is_made(tmp_path: Path) -> None:
    assert find_abandoned(Workspace(tmp_path / "none")) == []
    assert find_abandoned(Workspace(tmp_path)) == []
    assert not list(tmp_path.iterdir())


def call(world: World, *arguments: str) -> Any:
    return CliRunner().invoke(cli, ["doctor", "--workspace", str(world.workspace.root), *arguments])


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workspace.doctor.examine", lambda _: [Check("system", True, "fine", "")])


@pytest.mark.usefixtures("fit")
def test_doctor_tells_and_marks(world: World, killed: int) -> None:
    told = call(world)
    assert told.exit_code == 0
    assert "Trainer of run run-1 is called running since" in told.stdout
    assert "newsdesk doctor --mark" in told.stdout
    (item,) = json.loads(call(world, "--json").stdout)["abandoned"]
    assert (item["execution_id"], item["node"]) == (killed, "Trainer")
    assert call(world, "--mark").stdout.rstrip().endswith(": marked")
    assert world.state(killed) == (Execution.CANCELED, REASON)
    assert call(world).stdout.splitlines() == ["ok  system           fine"]


@pytest.mark.usefixtures("fit")
def test_doctor_says_when_it_cannot_know(world: World, killed: int) -> None:
    with exclusive(world.workspace, "run-1"):
        told = call(world)
        assert told.exit_code == 0
        assert "is not known: workspace" in told.stderr
        assert isinstance(call(world, "--mark").exception, BadInputError)


def test_doctor_asks_no_store_on_a_machine_that_is_not_ready(
    world: World, killed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workspace.doctor.examine", lambda _: [Check("tfx", False, "missing", "install it")])
    told = call(world, "--json")
    assert told.exit_code == 2
    assert json.loads(told.stdout)["abandoned"] == []
