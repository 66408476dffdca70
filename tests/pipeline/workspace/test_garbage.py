"""Garbage collection: what is old goes, what is in use stays, and nobody is told that it is still there."""

import contextlib
import copy
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click.testing
import filelock
import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from mlflow_stores import make_store

from components.errors import BadInputError
from components.file_names import LEASES, VERDICT_FILE
from components.files import size_of
from components.push import model_base
from components.push.aliases import ALIASES_FILE
from components.push.model_base import given_versions, present_versions
from components.registry.registry import COLLECTED, SERVING_VERSION, Registry
from components.registry.spool import Spool
from components.registry.tracking import start_run
from pipeline.cli.commands.models import gc_ as gc
from pipeline.workspace import garbage
from pipeline.workspace.garbage import REGISTERED, Collection, collect
from pipeline.workspace.lineage import Lineage, parse_place
from pipeline.workspace.place import Workspace, exclusive, open_workspace

pytestmark = pytest.mark.stack

NAME = "ag_news"
COMPLETE, CACHED, FAILED, RUNNING = (
    pb.Execution.COMPLETE,
    pb.Execution.CACHED,
    pb.Execution.FAILED,
    pb.Execution.RUNNING,
)
REFUSED = -1


class World:
    """A workspace with runs as TFX leaves them: files on disk, and what ML Metadata says of them."""

    def __init__(self, root: Path):
        self.workspace: Workspace = open_workspace(root)
        self.base = self.workspace.model_base(NAME)
        self.base.mkdir(exist_ok=True)
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(self.workspace.metadata)
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = metadata_store.MetadataStore(config)

    def run(self, run_id: str, pipeline: str = NAME) -> "Run":
        return Run(self, run_id, pipeline)

    def whole_run(self, run_id: str, version: int | None = None, pipeline: str = NAME) -> "Run":
        """A run of three nodes; with a version it pushed that."""
        run = self.run(run_id, pipeline)
        run.node("ExampleGen", "examples")
        run.node("Trainer", "model")
        if version is not None:
            run.push(version)
        return run

    def version(self, number: int) -> Path:
        place = self.base / str(number)
        place.mkdir()
        (place / "saved_model.pb").write_bytes(b"x" * 2**20)
        (place / "MANIFEST.json").write_text('{"files": {}}')
        return place

    def context(self, kind: str, name: str) -> int:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found:
            return found.id
        kind_id = self.store.put_context_type(pb.ContextType(name=kind))
        return self.store.put_contexts([pb.Context(type_id=kind_id, name=name)])[0]

    def state(self, artifact_id: int) -> int:
        return self.store.get_artifacts_by_id([artifact_id])[0].state

    def collect(self, keep: int, dry_run: bool = False, name: str = NAME) -> Collection:
        return collect(self.workspace, name, keep, dry_run)


class Run:
    def __init__(self, world: World, run_id: str, pipeline: str):
        self.world, self.id = world, run_id
        self.contexts = [world.context("pipeline", pipeline), world.context("pipeline_run", run_id)]
        self.artifacts: dict[str, int] = {}
        self.places: dict[str, Path] = {}

    def moved(self, world: World) -> "Run":
        """The same run in a copy of its world."""
        run = copy.copy(self)
        here = self.world.workspace.root
        run.world, run.artifacts = world, dict(self.artifacts)
        run.places = {node: world.workspace.root / place.relative_to(here) for node, place in self.places.items()}
        return run

    def node(
        self, node: str, output: str, state: int = COMPLETE, files: tuple[str, ...] = ("file",), cache: str = ""
    ) -> Path:
        """An execution with one output; a failed one has its files and no artifact, unless a gate says no.

        Then its state is ``REFUSED`` here.
        """
        execution = self._execution(node, FAILED if state == REFUSED else state, cache)
        place = self.world.workspace.artifacts / node / output / str(execution)
        place.mkdir(parents=True)
        (self.world.workspace.artifacts / node / ".system" / "executor_execution" / str(execution)).mkdir(parents=True)
        for name in files:
            (place / name).write_bytes(b"x" * 1000)
        if state in (COMPLETE, REFUSED):
            self._artifact(node, output, execution, place)
        self.places[node] = place
        return place

    def cached(self, node: str, source: "Run") -> None:
        """An execution that was answered from another run's."""
        execution = self._execution(node, CACHED, "")
        self._event(execution, source.artifacts[node], node)
        self.artifacts[node] = source.artifacts[node]

    def reads(self, node: str, artifact_id: int) -> None:
        self._event(self._execution(node, COMPLETE, ""), artifact_id, "input", pb.Event.INPUT)

    def push(self, version: int) -> None:
        execution = self._execution("Pusher", COMPLETE, "")
        place = self.world.workspace.artifacts / "Pusher" / "pushed_model" / str(execution)
        place.mkdir(parents=True)
        self._artifact("Pusher", "pushed_model", execution, place, str(version))
        self.places["Pusher"] = place

    def _execution(self, node: str, state: int, cache: str) -> int:
        store = self.world.store
        kind = store.put_execution_type(pb.ExecutionType(name=node))
        (execution,) = store.put_executions([pb.Execution(type_id=kind, last_known_state=state)])
        contexts = [*self.contexts, *([self.world.context("execution_cache", cache)] if cache else [])]
        store.put_attributions_and_associations(
            [], [pb.Association(execution_id=execution, context_id=context) for context in contexts]
        )
        return execution

    def _artifact(self, node: str, output: str, execution: int, place: Path, version: str = "") -> None:
        kind = self.world.store.put_artifact_type(pb.ArtifactType(name=f"{node}{output}"))
        artifact = pb.Artifact(type_id=kind, uri=str(place), state=pb.Artifact.LIVE)
        if version:
            artifact.custom_properties["pushed_version"].string_value = version
        (self.artifacts[node],) = self.world.store.put_artifacts([artifact])
        self._event(execution, self.artifacts[node], output)

    def _event(self, execution: int, artifact: int, key: str, kind: int = pb.Event.OUTPUT) -> None:
        path = pb.Event.Path(steps=[pb.Event.Path.Step(key=key), pb.Event.Path.Step(index=0)])
        event = pb.Event(execution_id=execution, artifact_id=artifact, type=kind, path=path)
        self.world.store.put_events([event])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "workspace")


@pytest.fixture(scope="session")
def five_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Run]]:
    """Made once: every write to a metadata store waits for the disk."""
    world = World(tmp_path_factory.mktemp("five") / "workspace")
    runs = []
    for number in range(1, 6):
        world.version(number)
        runs.append(world.whole_run(f"run-{number}", number))
    return world, runs


@pytest.fixture
def five(five_template: tuple[World, list[Run]], tmp_path: Path) -> tuple[World, list[Run]]:
    """Five runs, each of which pushed the version of its number; a copy, so the store's addresses are the first's."""
    made, runs = five_template
    shutil.copytree(made.workspace.root, tmp_path / "workspace")
    world = World(tmp_path / "workspace")
    return world, [run.moved(world) for run in runs]


def tree(root: Path) -> set[str]:
    """Every path below a directory but locks and the stores' own files."""
    found = (str(path.relative_to(root)) for path in root.rglob("*"))
    return {name for name in found if not name.endswith(".lock") and "sqlite" not in name and name != ".run.json"}


def names(found: Collection, kind: str) -> list[str]:
    return [item.name for item in found.items if item.kind == kind]


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_lease(base: Path, pid: int, versions: list[int], host: str = "") -> Path:
    path = base / LEASES / f"{host or socket.gethostname()}-{pid}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"versions": versions, "at": datetime.now(UTC).isoformat()}))
    return path


def test_old_versions_and_old_runs_go(five: tuple[World, list[Run]]) -> None:
    world, runs = five
    found = world.collect(keep=2)
    assert names(found, "version") == ["1", "2", "3"]
    assert names(found, "run") == ["run-1", "run-2", "run-3"]
    assert found.kept == {4: "among the newest 2", 5: "among the newest 2"}
    assert present_versions(world.base) == [4, 5]
    for run in runs[:3]:
        assert not any(place.exists() for place in run.places.values())
        assert all(world.state(number) == pb.Artifact.DELETED for number in run.artifacts.values())
    for run in runs[3:]:
        assert all(place.is_dir() for place in run.places.values())
        assert all(world.state(number) == pb.Artifact.LIVE for number in run.artifacts.values())
    assert not list(world.workspace.root.rglob(".tmp-*"))


def test_the_size_is_of_what_goes(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    before = size_of(world.workspace.artifacts) + size_of(world.workspace.serving)
    found = world.collect(keep=3)
    after = size_of(world.workspace.artifacts) + size_of(world.workspace.serving)
    ledger = (world.base / "versions.json").stat().st_size
    assert found.size == before - after + ledger
    assert found.size > 2 * 2**20


def test_a_second_collection_finds_nothing(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    world.collect(keep=2)
    again = world.collect(keep=2)
    assert (again.items, again.marks) == ([], ())


def test_a_dry_run_says_the_same_and_deletes_nothing(five: tuple[World, list[Run]]) -> None:
    world, runs = five
    (world.base / ".tmp-6-0123").mkdir()
    write_lease(world.base, dead_pid(), [1])
    runs[-1].node("Evaluator", "evaluation", FAILED)
    before = tree(world.workspace.root)
    told = world.collect(keep=2, dry_run=True)
    assert tree(world.workspace.root) == before
    assert all(world.state(number) == pb.Artifact.LIVE for run in runs for number in run.artifacts.values())
    done = world.collect(keep=2)
    assert told.to_dict(world.workspace.root) | {"dry_run": False} == done.to_dict(world.workspace.root)
    gone = {str(path.relative_to(world.workspace.root)) for item in told.items for path in item.paths}
    # The ledger of this made-up base is written for the first time.
    left = tree(world.workspace.root) - {f"serving/{NAME}/versions.json"}
    assert left == {name for name in before if not any(name == path or name.startswith(f"{path}/") for path in gone)}


def test_a_number_that_went_is_not_given_out_again(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    world.collect(keep=1)
    assert given_versions(world.base) == [1, 2, 3, 4, 5]


def test_aliases_and_leases_hold_versions_and_the_runs_behind_them(five: tuple[World, list[Run]]) -> None:
    world, runs = five
    (world.base / ALIASES_FILE).write_text('{"champion": 2, "previous": 1}')
    write_lease(world.base, os.getpid(), [3])
    found = world.collect(keep=1)
    assert names(found, "version") == ["4"]
    assert names(found, "run") == ["run-4"]
    assert set(found.kept) == {1, 2, 3, 5}
    assert all(place.is_dir() for run in (*runs[:3], runs[4]) for place in run.places.values())


def test_a_dead_server_holds_nothing_and_its_lease_goes(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    dead = write_lease(world.base, dead_pid(), [1])
    foreign = write_lease(world.base, 7, [2], host="elsewhere")
    found = world.collect(keep=1)
    assert names(found, "lease") == [str(dead.relative_to(world.workspace.root))]
    assert present_versions(world.base) == [2, 5]
    assert not dead.exists()
    assert foreign.exists()


def test_a_version_that_is_loaded_meanwhile_stays(
    five: tuple[World, list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = five
    plan = garbage._plan

    def load(*arguments: Any) -> Collection:
        found = plan(*arguments)
        write_lease(world.base, os.getpid(), [1])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(garbage, "_plan", load)
        with pytest.raises(BadInputError, match=f"version 1 has just been loaded by process {os.getpid()}"):
            world.collect(keep=1)
    assert present_versions(world.base) == [1, 2, 3, 4, 5]
    world.collect(keep=1)
    assert present_versions(world.base) == [1, 5]


def test_what_a_newer_run_was_answered_with_stays(world: World) -> None:
    first = world.whole_run("run-1")
    second = world.run("run-2")
    second.cached("ExampleGen", first)
    second.node("Trainer", "model")
    found = world.collect(keep=1)
    (run,) = [item for item in found.items if item.kind == "run"]
    assert run.name == "run-1"
    assert first.places["Trainer"] in run.paths
    assert first.places["ExampleGen"].is_dir()
    assert world.state(first.artifacts["ExampleGen"]) == pb.Artifact.LIVE
    assert not first.places["Trainer"].exists()
    assert world.state(first.artifacts["Trainer"]) == pb.Artifact.DELETED


def test_what_a_newer_run_only_read_stays(world: World) -> None:
    first = world.whole_run("run-1")
    world.run("run-2").reads("Evaluator", first.artifacts["Trainer"])
    world.collect(keep=1)
    assert first.places["Trainer"].is_dir()
    assert not first.places["ExampleGen"].exists()


def test_what_stays_is_not_written_to(world: World) -> None:
    """The key of the cache holds the time at which an input was last written."""
    first = world.whole_run("run-1")
    second = world.run("run-2")
    second.cached("ExampleGen", first)
    second.node("Trainer", "model")
    before = world.store.get_artifacts_by_id([first.artifacts["ExampleGen"], second.artifacts["Trainer"]])
    world.collect(keep=1)
    after = world.store.get_artifacts_by_id([first.artifacts["ExampleGen"], second.artifacts["Trainer"]])
    assert [item.SerializeToString() for item in before] == [item.SerializeToString() for item in after]


def test_runs_are_counted_by_their_order_and_whatever_their_end(world: World) -> None:
    world.version(1)
    good = world.whole_run("z-first", 1)
    bad = [world.run(f"rejected-{number}") for number in range(2)]
    for run in bad:
        run.node("DataGate", "verdict", FAILED, files=(VERDICT_FILE,))
    old = world.whole_run("y")
    last = world.whole_run("a-last")
    found = world.collect(keep=1)
    assert names(found, "run") == ["rejected-0", "rejected-1", "y"]
    assert all(place.is_dir() for place in (*good.places.values(), *last.places.values()))
    assert not any(place.exists() for place in old.places.values())


def test_another_models_runs_and_versions_stay(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    others = [world.whole_run(f"other-{number}", pipeline="sports") for number in range(3)]
    half = others[0].node("Evaluator", "evaluation", FAILED)
    other_base = world.workspace.model_base("sports")
    shutil.copytree(world.base, other_base)
    world.collect(keep=1)
    assert all(place.is_dir() for run in others for place in run.places.values())
    assert half.is_dir()
    assert all(world.state(number) == pb.Artifact.LIVE for run in others for number in run.artifacts.values())
    assert present_versions(other_base) == [1, 2, 3, 4, 5]
    world.collect(keep=1, name="sports")
    assert not others[0].places["Trainer"].exists()
    assert present_versions(other_base) == [5]


def test_what_a_failed_node_left_goes_and_its_verdict_stays(world: World) -> None:
    run = world.whole_run("run-1")
    verdict = run.node("ModelGate", "verdict", FAILED, files=(VERDICT_FILE,))
    profile = run.node("DataGate", "profile", REFUSED)
    half = run.node("Evaluator", "evaluation", FAILED)
    killed = run.node("Pusher", "pushed_model", RUNNING)
    working = world.workspace.artifacts / "Trainer" / ".system" / "stateful_working_dir" / "0123-4567"
    working.mkdir(parents=True)
    system = world.workspace.artifacts / "Evaluator" / ".system" / "executor_execution" / half.name
    found = world.collect(keep=3)
    gone = {half, killed, working, system}
    assert gone <= {path for item in found.items for path in item.paths}
    assert {item.kind for item in found.items} == {"leftover"}
    assert not any(path.exists() for path in gone)
    assert (verdict / VERDICT_FILE).exists()
    assert profile.is_dir()
    assert all(run.places[node].is_dir() for node in ("ExampleGen", "Trainer"))


def test_an_output_of_no_known_run_goes(world: World) -> None:
    world.whole_run("run-1")
    stray = world.workspace.artifacts / "Trainer" / "model" / "999"
    stray.mkdir()
    assert names(world.collect(keep=1), "leftover") == ["artifacts/Trainer/model/999"]
    assert not stray.exists()


def test_what_gc_does_not_know_stays(world: World) -> None:
    world.whole_run("run-1")
    strange = [
        world.workspace.artifacts / "notes.txt",
        world.workspace.artifacts / "Trainer" / "notes.txt",
        world.workspace.artifacts / "Trainer" / "model" / "notes",
        world.base / "notes.txt",
        world.workspace.root / "reports" / "run-0" / "index.html",
        world.workspace.root / ".tmp-mine",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (world.base / "v9").mkdir()
    assert world.collect(keep=1).items == []
    assert all(path.exists() for path in strange)


def test_temporaries_go_wherever_pushes_and_collections_leave_them(world: World) -> None:
    world.whole_run("run-1")
    places = [
        world.base / ".tmp-3-0123",
        world.workspace.artifacts / ".tmp-gc-1",
        world.workspace.artifacts / "Trainer" / "model" / ".tmp-gc-2",
        world.workspace.artifacts / "Trainer" / ".system" / "executor_execution" / ".tmp-gc-3",
    ]
    for place in places:
        (place / "variables").mkdir(parents=True)
    found = world.collect(keep=1)
    assert {path for item in found.items for path in item.paths} == set(places)
    assert not any(place.exists() for place in places)


def test_temporaries_of_killed_runs_go_once_nobody_can_be_writing_them(world: World, tmp_path: Path) -> None:
    world.whole_run("run-1")
    places = [
        world.workspace.root / ".tmp-mlflow-1",
        world.workspace.root / "reports" / "run-1" / ".tmp-index.html-2",
        world.workspace.root / "retrain" / ".tmp-notes.json-3",
        world.workspace.serving / ".tmp-models.config-4",
    ]
    young = world.workspace.root / "reports" / ".tmp-young"
    for place in (*places, young):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    for place in places:
        os.utime(place, (1, 1))
    (tmp_path / "elsewhere").mkdir()
    outside = tmp_path / "elsewhere" / ".tmp-5"
    outside.touch()
    os.utime(outside, (1, 1))
    (world.workspace.root / "reports" / "link").symlink_to(tmp_path / "elsewhere")
    (world.workspace.root / "link").symlink_to(tmp_path / "elsewhere")
    found = world.collect(keep=1)
    assert {path for item in found.items for path in item.paths} == set(places)
    assert not any(place.exists() for place in places)
    assert young.exists()
    assert outside.exists()


def test_half_a_lease_goes_once_nobody_can_be_writing_it(world: World) -> None:
    world.whole_run("run-1")
    young, old = (world.base / LEASES / f".tmp-host-7.json-{name}" for name in ("young", "old"))
    young.parent.mkdir()
    for path in (young, old):
        path.touch()
    os.utime(old, (1, 1))
    assert names(world.collect(keep=1), "leftover") == [str(old.relative_to(world.workspace.root))]
    assert (young.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize("age", [-9_999, 9_999], ids=["of the future", "old"])
@pytest.mark.parametrize(
    ("name", "stays_behind", "stays_otherwise"),
    [("a.checkpoint", True, False), ("a.checkpoint.part", False, False), ("a.notes", True, True)],
)
@pytest.mark.parametrize("end", ["killed", "killed of another model", "whole", "killed and repeated"])
def test_a_checkpoint_stays_as_long_as_a_new_run_has_not_ended_well(
    world: World, age: int, name: str, stays_behind: bool, stays_otherwise: bool, end: str
) -> None:
    """Whatever the clock says: it may have been set while a run was going."""
    run = world.run("run-1", "another" if "another" in end else NAME)
    run.node("ExampleGen", "examples")
    run.node("Trainer", "model", COMPLETE if end == "whole" else RUNNING)
    if end == "killed and repeated":
        world.whole_run("run-2")
    if "another" in end:
        world.whole_run("run-2")
    path = world.workspace.artifacts / "Trainer" / "checkpoints" / name
    path.parent.mkdir()
    path.touch()
    then = datetime.now(UTC).timestamp() - age
    os.utime(path, (then, then))
    world.collect(keep=1)
    assert path.exists() == (stays_behind if end in ("killed", "killed of another model") else stays_otherwise)


def test_no_link_is_followed(five: tuple[World, list[Run]], tmp_path: Path) -> None:
    world, runs = five
    outside = tmp_path / "outside"
    for place in ("1", "model/1", "examples"):
        (outside / place).mkdir(parents=True)
        (outside / place / "precious").touch()
    before = tree(outside)
    artifacts = world.workspace.artifacts
    (artifacts / "Linked").symlink_to(outside)
    (artifacts / "Trainer" / "linked").symlink_to(outside)
    (world.base / ".tmp-linked").symlink_to(outside)
    (world.base / LEASES).symlink_to(outside / "examples")
    (outside / "examples" / "precious").rename(outside / "precious")
    before = tree(outside)
    shutil.rmtree(runs[0].places["ExampleGen"])
    runs[0].places["ExampleGen"].symlink_to(outside / "examples")
    (runs[0].places["Trainer"] / "linked").symlink_to(outside)
    (world.base / "7").symlink_to(outside)
    world.collect(keep=1)
    assert tree(outside) == before
    assert (artifacts / "Linked").is_symlink()
    assert (artifacts / "Trainer" / "linked").is_symlink()
    assert not (world.base / ".tmp-linked").is_symlink()
    assert not runs[0].places["ExampleGen"].is_symlink()
    assert present_versions(world.base) == [7]


@pytest.mark.parametrize("place", ["artifacts", "serving", f"serving/{NAME}"])
def test_a_part_of_the_workspace_that_is_elsewhere_is_refused(
    five: tuple[World, list[Run]], tmp_path: Path, place: str
) -> None:
    world, _ = five
    (world.workspace.root / place).rename(tmp_path / "elsewhere")
    (world.workspace.root / place).symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(BadInputError, match="is a link, and gc touches nothing outside the workspace"):
        world.collect(keep=1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["", "..", ".", "../serving", "a/b", "/etc", ".hidden", "a b", "x" * 64, "a\n"])
def test_a_name_that_is_a_path_is_refused(world: World, name: str) -> None:
    with pytest.raises(BadInputError, match="is no name of a model"):
        world.collect(keep=1, name=name)


def test_an_unknown_model_or_workspace_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no model sports: name another with --name"):
        world.collect(keep=1, name="sports")
    with pytest.raises(BadInputError, match=r"there is no workspace .*nowhere: name another with --workspace"):
        collect(Workspace(tmp_path / "nowhere"), NAME, 1)
    (tmp_path / "other").mkdir()
    with pytest.raises(BadInputError, match="holds no model"):
        collect(Workspace(tmp_path / "other"), NAME, 1)
    assert tree(tmp_path / "other") == set()
    assert not (tmp_path / "nowhere").exists()


def test_versions_without_a_metadata_store_are_collected_and_artifacts_stay(world: World) -> None:
    for number in (1, 2):
        world.version(number)
    place = world.whole_run("run-1").places["Trainer"]
    world.workspace.metadata.unlink()
    assert names(world.collect(keep=1), "version") == ["1"]
    assert place.is_dir()
    assert not world.workspace.metadata.exists()


def test_runs_without_a_model_base_are_collected(world: World) -> None:
    runs = [world.whole_run(f"run-{number}") for number in range(2)]
    world.base.rmdir()
    assert names(world.collect(keep=1), "run") == ["run-0"]
    assert not runs[0].places["Trainer"].exists()
    assert not world.base.exists()


def test_a_damaged_metadata_store_is_one_sentence(world: World) -> None:
    world.version(1)
    world.workspace.metadata.write_text("not a database")
    with pytest.raises(
        BadInputError,
        match=r"the metadata store .+ cannot be read or written .+: free space if it is full, or restore it",
    ):
        world.collect(keep=1)
    assert present_versions(world.base) == [1]


def test_damaged_aliases_delete_nothing(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    (world.base / ALIASES_FILE).write_text("{half")
    before = tree(world.workspace.root)
    with pytest.raises(BadInputError, match=r"aliases\.json"):
        world.collect(keep=1)
    assert tree(world.workspace.root) == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_gc_waits_for_no_run(five: tuple[World, list[Run]], dry_run: bool) -> None:
    world, _ = five
    before = tree(world.workspace.root)
    with (
        exclusive(world.workspace, "20300102-030405-abcd"),
        pytest.raises(BadInputError, match="is in use by run 20300102-030405-abcd"),
    ):
        world.collect(keep=1, dry_run=dry_run)
    assert tree(world.workspace.root) == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_gc_waits_for_an_orchestrator(five: tuple[World, list[Run]], dry_run: bool) -> None:
    """Its steps are processes of their own, which hold no lock."""
    world, _ = five
    job = world.workspace.root / "runs" / "job-1"
    job.mkdir(parents=True)
    (job / "run-id").write_text("run-6")
    before = tree(world.workspace.root)
    with pytest.raises(BadInputError, match=f"run run-6 of an orchestrator has not finished.* delete {job} if"):
        world.collect(1, dry_run)
    assert tree(world.workspace.root) == before
    (job / "result.json").write_text("{}")
    assert world.collect(1, dry_run).items


@pytest.mark.parametrize("lock", [".run.lock", f"serving/{NAME}/.lock", f"serving/{NAME}/.aliases.lock"])
def test_runs_pushes_and_promotions_are_locked_out_while_it_deletes(
    five: tuple[World, list[Run]], monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    world, _ = five
    seen = []
    apply = garbage._apply

    def probe(*arguments: Any) -> None:
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(world.workspace.root / lock, timeout=0, is_singleton=False).acquire()
        seen.append(lock)
        apply(*arguments)

    monkeypatch.setattr(garbage, "_apply", probe)
    world.collect(keep=1)
    assert seen == [lock]


@pytest.mark.parametrize("stop_at", range(8))
def test_a_collection_that_is_stopped_anywhere_is_finished_by_the_next(
    five: tuple[World, list[Run]], monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """What still stands under its own name after the stop is whole, and what is half gone is called deleted."""
    world, runs = five
    count = 0
    rmtree = shutil.rmtree

    def stop(path: Path) -> None:
        nonlocal count
        count += 1
        if count > stop_at:
            for file in Path(path).rglob("saved_model.pb"):
                file.unlink()
            raise KeyboardInterrupt
        rmtree(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            world.collect(keep=2)
    for version in present_versions(world.base):
        assert (world.base / str(version) / "saved_model.pb").exists()
    for run in runs:
        for node, number in run.artifacts.items():
            live = world.state(number) == pb.Artifact.LIVE
            assert live == (run in runs[3:])
            assert not live or run.places[node].is_dir()
    world.collect(keep=2)
    assert present_versions(world.base) == [4, 5]
    assert not list(world.workspace.root.rglob(".tmp-*"))
    assert not any(place.exists() for run in runs[:3] for place in run.places.values())
    assert all(place.is_dir() for run in runs[3:] for place in run.places.values())


def test_marks_come_before_files_go(five: tuple[World, list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    world, _ = five

    def stop(self: Lineage, _: Any) -> None:
        raise KeyboardInterrupt

    before = tree(world.workspace.root)
    monkeypatch.setattr(Lineage, "mark_deleted", stop)
    with pytest.raises(KeyboardInterrupt):
        world.collect(keep=1)
    assert tree(world.workspace.root) == before


@pytest.fixture
def registered(five: tuple[World, list[Run]], tmp_path: Path) -> tuple[World, Registry, list[Path]]:
    """Five runs with their models in the workspace's own registry, which were pushed to 1 to 5."""
    world, runs = five
    store = make_store(world.workspace.root)
    registry, places = Registry(store, NAME), []
    for number, run in enumerate(runs, 1):
        (model := tmp_path / "models" / str(number)).mkdir(parents=True)
        (model / "saved_model.pb").write_text(f"graph {number}")
        with start_run(store, NAME, run.id, Spool(tmp_path / "spool")):
            pass
        version = registry.register(run.id, model, f"digest {number}", f"learnt {number}", {})
        registry.tag(version.version, {SERVING_VERSION: str(number)})
        (own,) = world.workspace.mlflow_artifacts.rglob(version.run_id)
        places.append(own / "artifacts" / "model")
    return world, registry, places


def test_registered_models_go_with_their_runs_and_what_is_known_of_them_stays(
    registered: tuple[World, Registry, list[Path]],
) -> None:
    world, registry, places = registered
    registry.point("champion", "2")
    told = world.collect(keep=2, dry_run=True)
    assert [item.name for item in told.items if item.kind == REGISTERED] == ["3", "1"]
    assert all(place.is_dir() for place in places)
    found = world.collect(keep=2)
    assert found.size == told.size
    assert [place.is_dir() for place in places] == [False, True, False, True, True]
    known = {item.version: item.tags for item in registry.versions()}
    assert known["1"]["model_identity"] == "learnt 1"
    assert [number for number, tags in known.items() if COLLECTED in tags] == ["3", "1"]
    assert not [item for item in world.collect(keep=2).items if item.kind == REGISTERED]


def test_a_model_that_went_and_is_trained_again_is_kept_again(
    registered: tuple[World, Registry, list[Path]], tmp_path: Path
) -> None:
    world, registry, places = registered
    world.collect(keep=2)
    assert not places[0].exists()
    again = registry.register("run-6", tmp_path / "models" / "1", "digest 1", "learnt 1", {})
    assert again.version == "1"
    assert list(places[0].glob("artifacts/*/saved_model.pb"))
    assert COLLECTED not in {item.version: item.tags for item in registry.versions()}["1"]


def test_models_on_a_server_or_elsewhere_stay(
    registered: tuple[World, Registry, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, registry, places = registered
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", registry.store.uri)
        world.collect(keep=1)
    assert all(place.is_dir() for place in places)
    shutil.copytree(world.workspace.root, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy")
    assert not [item for item in collect(copy, NAME, 1).items if item.kind == REGISTERED]
    assert all(place.is_dir() for place in places)


def test_without_a_metadata_store_registered_models_stay(registered: tuple[World, Registry, list[Path]]) -> None:
    world, _, places = registered
    world.workspace.metadata.unlink()
    world.collect(keep=1)
    assert all(place.is_dir() for place in places)


def test_models_of_runs_that_mlflow_has_lost_go_too(registered: tuple[World, Registry, list[Path]]) -> None:
    world, _, places = registered
    with contextlib.closing(sqlite3.connect(world.workspace.mlflow_store)) as store, store:
        # As MLflow's own garbage collection leaves them.
        store.execute("DELETE FROM tags")
        store.execute("DELETE FROM runs")
    world.collect(keep=2)
    assert [place.is_dir() for place in places] == [False, False, False, True, True]


def test_a_full_disk_is_freed_of_what_was_never_whole(
    five: tuple[World, list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room for the lock's holder, the ledger and a mark."""
    world, _ = five
    world.collect(keep=5)
    half = world.base / ".tmp-6-0123"
    half.mkdir()
    (half / "saved_model.pb").write_bytes(b"x" * 1000)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    def full_store(self: Lineage, _: Any) -> None:
        assert not half.exists()
        raise BadInputError("the metadata store cannot be written: free space")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(model_base, "write_whole", full)
    monkeypatch.setattr(Lineage, "mark_deleted", full_store)
    with pytest.raises(BadInputError, match="free space"):
        world.collect(keep=1)
    assert not half.exists()
    monkeypatch.setattr(Lineage, "mark_deleted", lambda *_: None)
    world.collect(keep=1)
    assert present_versions(world.base) == [5]


def test_the_push_of_a_version_that_goes_is_called_deleted_though_its_run_stays(world: World) -> None:
    """A run that was answered with an older version is new, and the version is not."""
    for number in (1, 2):
        world.version(number)
    first = world.whole_run("run-1", 1)
    world.whole_run("run-2", 2)
    third = world.run("run-3")
    for node in ("ExampleGen", "Trainer", "Pusher"):
        third.cached(node, first)
    found = world.collect(keep=1)
    assert names(found, "version") == ["1"]
    assert world.state(first.artifacts["Pusher"]) == pb.Artifact.DELETED
    assert world.state(first.artifacts["Trainer"]) == pb.Artifact.LIVE
    assert first.places["Trainer"].is_dir()
    assert world.collect(keep=1).items == []


def test_a_workspace_that_was_moved_keeps_what_it_uses(five: tuple[World, list[Run]], tmp_path: Path) -> None:
    world, _ = five
    world.workspace.root.rename(tmp_path / "moved")
    moved = open_workspace(tmp_path / "moved")
    found = collect(moved, NAME, 2)
    assert names(found, "run") == ["run-1", "run-2", "run-3"]
    assert sorted(path.name for path in (moved.artifacts / "Trainer" / "model").iterdir()) == ["11", "14"]


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/w/artifacts/Trainer/model/7", ("Trainer", "model", 7)),
        ("/w/artifacts/Trainer/model/7/", ("Trainer", "model", 7)),
        ("/w/artifacts/Trainer/number/7/value", ("Trainer", "number", 7)),
        ("gs://bucket/Trainer/model/7", ("Trainer", "model", 7)),
        ("/somewhere/else", None),
        ("7", None),
        ("", None),
    ],
)
def test_the_place_of_an_artifact_is_the_end_of_its_address(uri: str, place: Any) -> None:
    assert parse_place(uri) == place


def test_the_cache_never_answers_with_what_is_gone(world: World) -> None:
    """TFX's own lookup, before and after: of two equal executions the older one's outputs go, then both."""
    from tfx.orchestration import metadata
    from tfx.orchestration.portable import cache_utils

    def answer() -> list[str]:
        connection = metadata.sqlite_metadata_connection_config(str(world.workspace.metadata))
        with metadata.Metadata(connection) as handle:
            (context,) = handle.store.get_contexts_by_type("execution_cache")
            found = cache_utils.get_cached_outputs(handle, context)
        return [artifact.uri for artifact in found["model"]] if found else []

    runs = [world.run(f"run-{number}") for number in range(3)]
    for run in runs[:2]:
        run.node("Trainer", "model", cache="key")
    runs[2].node("ExampleGen", "examples")
    assert answer() == [str(runs[1].places["Trainer"])]
    world.collect(keep=2)
    assert answer() == [str(runs[1].places["Trainer"])]
    # The mark alone is enough, should the directory come back or a crash have left it.
    world.collect(keep=1)
    runs[1].places["Trainer"].mkdir()
    assert answer() == []


def run_gc(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(gc, arguments, catch_exceptions=False)


def test_the_command_prints_what_goes(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    (world.base / ALIASES_FILE).write_text('{"champion": 2}')
    workspace = str(world.workspace.root)
    told = run_gc("--keep", "2", "--dry-run", "--workspace", workspace)
    assert told.exit_code == 0
    assert "would go" in told.output
    for word in ("version 1", "version 3", "run run-1", "MB", "Version 2 stays: champion"):
        assert word in told.output
    done = run_gc("--keep", "2", "--workspace", workspace)
    assert told.output.replace("would go", "gone    ").replace("would be", "were") == done.output
    assert present_versions(world.base) == [2, 4, 5]
    nothing = run_gc("--keep", "2", "--workspace", workspace)
    assert "0 things, 0.0 MB" in nothing.output


def test_the_command_prints_json(five: tuple[World, list[Run]]) -> None:
    world, _ = five
    done = json.loads(run_gc("--keep", "4", "--json", "--workspace", str(world.workspace.root)).stdout)
    assert (done["model_name"], done["dry_run"], done["artifacts_marked"]) == (NAME, False, 3)
    assert done["items"][0] == {
        "kind": "version",
        "name": "1",
        "why": "not new, in no alias, not loaded",
        "mb": 1.0,
        "paths": [f"serving/{NAME}/1"],
    }
    assert done["items"][1]["kind"] == "run"
    assert "artifacts/Trainer/model/2" in done["items"][1]["paths"]
    assert list(done["kept"]) == ["2", "3", "4", "5"]
    assert done["mb"] == pytest.approx(sum(item["mb"] for item in done["items"]), abs=0.01)


@pytest.mark.parametrize("arguments", [[], ["--keep", "0"], ["--keep", "-1"], ["--keep", "many"]])
def test_the_command_wants_to_know_how_many_stay(arguments: list[str]) -> None:
    result = run_gc(*arguments)
    assert result.exit_code == 2
    assert "--keep" in result.output


def test_the_command_answers_without_the_stack() -> None:
    code = (
        "import sys; import pipeline.cli.commands.models; "
        "print([name for name in ('tensorflow', 'tfx', 'ml_metadata', 'rich', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
