"""``newsdesk models``: what was pushed, what serves, and one command back."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import pytest
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order

from components.errors import BadInputError
from components.push.aliases import ALIASES_FILE, MODELS_CONFIG, read_aliases
from components.push.manifest import MANIFEST, hash_files, make_manifest
from components.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, SERVING_VERSION, STATUS
from pipeline.cli import main as entry
from pipeline.cli.commands.doctor import command as doctor_command
from pipeline.cli.commands.models import command
from pipeline.workspace.place import Workspace, open_workspace

NAME = "ag_news"


@dataclass(frozen=True)
class Said:
    """What a command printed, or the error that becomes exit code 2."""

    out: str
    error: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class World:
    """A workspace with three candidates: two pushed as versions 1 and 2, and one that a gate rejected between them."""

    def __init__(self, root: Path):
        self.workspace: Workspace = open_workspace(root)
        self.store = make_store(root)
        self.client = MlflowClient(tracking_uri=self.store.uri, registry_uri=self.store.uri)
        self._experiment = self.client.create_experiment(NAME, self.store.artifacts)
        self.client.create_registered_model(NAME)
        self.runs = [
            self._register("run-1", "1", "pending"),
            self._register("run-2", None, "rejected", {"verdict.ModelGate": "accuracy is 0.8500, below the floor"}),
            self._register("run-3", "2", "pending"),
        ]

    def _register(self, run: str, number: str | None, status: str, tags: dict[str, str] | None = None) -> str:
        made = self.client.create_run(self._experiment, run_name=run).info
        self.client.log_metric(made.run_id, "test/accuracy", 0.9)
        tags = {"run": run, "model_family": "transformer", STATUS: status, **(tags or {})}
        if number:
            tags[SERVING_VERSION] = number
            version = self.workspace.model_base(NAME) / number
            version.mkdir(parents=True)
            (version / "saved_model.pb").write_text(f"graph {number}")
            (version / MANIFEST).write_text(make_manifest(int(number), hash_files(version), {}))
        self.client.create_model_version(NAME, f"{made.artifact_uri}/model", made.run_id, tags=tags)
        return made.run_id

    def models(self, *arguments: str) -> Said:
        """Calls ``newsdesk models ... --workspace ...``."""
        done = click.testing.CliRunner().invoke(command, [*arguments, "--workspace", str(self.workspace.root)])
        if done.exception and not isinstance(done.exception, BadInputError | SystemExit):
            raise done.exception
        return Said(done.output, str(done.exception) if done.exception else None)

    def aliases(self) -> dict[str, str]:
        """Returns alias to pushed version, as MLflow has it."""
        found = self.client.get_registered_model(NAME).aliases
        return {
            alias: self.client.get_model_version(NAME, number).tags[SERVING_VERSION] for alias, number in found.items()
        }

    def files(self) -> dict[str, bytes]:
        paths = (path for path in self.workspace.serving.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path): path.read_bytes() for path in paths}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "NEWSDESK_WORKSPACE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        # Set first, so that what a command sets itself is undone too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "workspace")


def test_a_promotion_that_was_cut_is_told_by_whoever_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that servers follow are the older ones: what serves is not what MLflow and the list say."""
    world.models("promote", "1")
    config = world.workspace.serving / MODELS_CONFIG
    older = config.read_text()
    world.models("promote", "2")
    settled = config.read_text()
    config.write_text(older)
    monkeypatch.setattr("pipeline.workspace.doctor.examine", lambda _: [])
    said = 'MLflow says {"champion": 2, "previous": 1}, aliases.json says {"champion": 2, "previous": 1}, and '
    said += "models.config something else"
    for arguments in (["list"], ["show", "2"]):
        assert said in world.models(*arguments).out
        assert "MLflow says" not in json.dumps(world.models(*arguments, "--json").out.splitlines()[-1])

    def doctor(*more: str) -> str:
        return (
            click.testing.CliRunner().invoke(doctor_command, ["--workspace", str(world.workspace.root), *more]).output
        )

    assert said in doctor()
    (sentence,) = json.loads(doctor("--json"))["apart"]
    assert said in sentence
    assert config.read_text() == older
    assert doctor("--mark").rstrip().endswith("as MLflow has it: done")
    assert config.read_text() == settled
    assert "MLflow says" not in doctor() + world.models("list").out


def test_a_second_workspace_moves_no_alias_of_the_first(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both count their versions from 1, so the registry would point each at the other's."""
    world.models("promote", "1")
    world.models("promote", "2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.store.uri)
    before = world.aliases(), world.files()
    copied = tmp_path / "copy of workspace"
    shutil.copytree(world.workspace.root, copied)
    (copied / "mlflow.db").unlink()

    def there(*arguments: str) -> Said:
        done = click.testing.CliRunner().invoke(command, [*arguments, "--workspace", str(copied)])
        return Said(done.output, str(done.exception) if done.exception else None)

    for arguments in (["promote", "1"], ["rollback"]):
        refused = there(*arguments).error
        assert refused is not None
        assert (
            f"the model ag_news of MLflow at {world.store.uri} is that of workspace {world.workspace.root}:" in refused
        )
        assert "newsdesk models adopt" in refused
    assert (world.aliases(), world.files()) == before
    assert [row["version"] for row in there("list", "--json").json] == ["2", "1"]
    assert there("adopt").out == f"the model ag_news is that of {copied} now\n"
    assert there("rollback").error is None
    assert world.aliases() == {CHAMPION: "1"}
    assert f"is that of workspace {copied}:" in str(world.models("rollback").error)


def test_a_workspace_that_was_moved_with_its_own_store_goes_on(world: World, tmp_path: Path) -> None:
    world.models("promote", "1")
    world.workspace.root.rename(tmp_path / "moved")
    world.workspace = Workspace(tmp_path / "moved")
    assert world.models("promote", "2").error is None


def test_a_move_of_a_model_that_is_not_there_makes_none(world: World) -> None:
    (world.workspace.serving / "typo").mkdir()
    assert world.models("promote", "1", "--name", "typo").error
    assert [item.name for item in world.client.search_registered_models()] == [NAME]


def test_versions_are_listed_newest_first(world: World) -> None:
    world.models("promote", "1")
    rows = world.models("list", "--json").json
    assert [(row["version"], row["aliases"], row["status"]) for row in rows] == [
        ("2", [], "pending"),
        ("1", ["champion"], "approved"),
    ]
    first = rows[1]
    assert datetime.fromisoformat(first.pop("made")).tzinfo is not None
    assert first == {
        "version": "1", "aliases": ["champion"], "status": "approved", "model_family": "transformer", "run": "run-1",
        "mlflow_run_id": world.runs[0], "registry_version": "1", "present": True,
        "directory": str(world.workspace.model_base(NAME) / "1"),
    }  # fmt: skip


def test_candidates_that_were_never_pushed_are_listed_on_demand(world: World) -> None:
    rows = world.models("list", "--all", "--json").json
    assert [(row["version"], row["registry_version"], row["status"]) for row in rows] == [
        ("2", "3", "pending"), (None, "2", "rejected"), ("1", "1", "pending")
    ]  # fmt: skip
    assert (rows[1]["directory"], rows[1]["present"]) == (None, False)


def test_the_list_is_a_table(world: World) -> None:
    world.models("promote", "2")
    shutil.rmtree(world.workspace.model_base(NAME) / "1")
    lines = world.models("list", "--all").out.splitlines()
    assert lines[0].split() == ["version", "alias", "status", "family", "made", "run"]
    assert lines[1].split()[:4] == ["2", "champion", "approved", "transformer"]
    assert lines[2].split()[:2] == ["-", "rejected"]
    assert lines[3].split()[:3] == ["1", "pending", "(deleted)"]


def test_nothing_pushed_is_said(world: World) -> None:
    assert world.models("list", "--name", "other").out == (
        "no version of other has been pushed: newsdesk run pushes the first\n"
    )
    assert world.models("list", "--name", "other", "--json").json == []


def test_a_version_is_shown_with_its_tags_and_metrics(world: World) -> None:
    world.models("promote", "1")
    found = world.models("show", "1", "--json").json
    assert (found["version"], found["metrics"]) == ("1", {"accuracy": 0.9})
    assert found["tags"][STATUS] == "approved"
    text = world.models("show", "1").out
    assert text.startswith("ag_news version 1  champion  approved\n")
    assert "(files as pushed)" in text
    assert f"run {world.runs[0]}, registered version 1" in text
    assert "accuracy             0.9000" in text


def test_a_metric_that_is_no_number_is_null(world: World) -> None:
    world.client.log_metric(world.runs[0], "test/log_loss", float("nan"))
    found = json.loads(world.models("show", "1", "--json").out, parse_constant=pytest.fail)
    assert found["metrics"] == {"accuracy": 0.9, "log_loss": None}


def test_a_version_that_was_deleted_is_shown(world: World) -> None:
    shutil.rmtree(world.workspace.model_base(NAME) / "1")
    said = world.models("show", "1")
    assert said.error is None
    assert "(deleted)" in said.out


def test_a_version_that_is_not_what_was_pushed_is_not_shown_as_if_it_were(world: World) -> None:
    (world.workspace.model_base(NAME) / "1" / "saved_model.pb").write_text("another graph")
    assert "is not what was pushed (saved_model.pb has changed)" in str(world.models("show", "1").error)


@pytest.mark.parametrize("arguments", [("show", "7"), ("promote", "7"), ("promote", "7", "--as", "challenger")])
def test_a_version_that_was_never_pushed_is_bad_input(world: World, arguments: tuple[str, ...]) -> None:
    before = world.aliases(), world.files()
    assert str(world.models(*arguments).error).startswith("no version 7 of ag_news was pushed: newsdesk models list")
    assert (world.aliases(), world.files()) == before


@pytest.mark.parametrize("version", ["0", "-1", "1.5", "newest", "../1"])
def test_what_is_no_version_is_refused(world: World, version: str) -> None:
    said = world.models("promote", "--", version)
    assert "Invalid value" in said.out
    assert world.aliases() == {}


def test_a_promotion_moves_the_aliases_and_the_files(world: World) -> None:
    assert world.models("promote", "1").out == "version 1 of ag_news is now champion\n"
    assert world.models("promote", "2").out == "version 2 of ag_news is now champion, after version 1\n"
    assert world.aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert read_aliases(world.workspace.model_base(NAME)) == {CHAMPION: 2, PREVIOUS: 1}
    assert "value: 2" in (world.workspace.serving / MODELS_CONFIG).read_text()
    again = world.models("promote", "2", "--json").json
    assert again == {"version": "2", "aliases": {CHAMPION: 2, PREVIOUS: 1}, "changed": False}


def test_a_challenger_is_promoted_beside_the_champion(world: World) -> None:
    world.models("promote", "1")
    assert world.models("promote", "2", "--as", "challenger").out == "version 2 of ag_news is now challenger\n"
    assert world.aliases() == {CHAMPION: "1", CHALLENGER: "2"}


def test_rollback_waits_for_nothing_can_be_repeated_and_leaves_its_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.models("promote", "1")
    world.models("promote", "2")
    pushed = world.files()
    # Servers have the version loaded.
    monkeypatch.setattr("components.push.aliases.time", SimpleNamespace(sleep=lambda seconds: pytest.fail("waits")))
    said = world.models("rollback")
    changed = {Path(path).name for path, content in world.files().items() if pushed.get(path) != content}
    assert changed == {ALIASES_FILE, MODELS_CONFIG}
    assert said.out == "version 1 of ag_news is champion again, after 2\n"
    assert world.aliases() == {CHAMPION: "1"}
    assert read_aliases(world.workspace.model_base(NAME)) == {CHAMPION: 1}
    undone, restored = (world.client.get_model_version(NAME, number).tags for number in ("3", "1"))
    assert undone[STATUS] == "rolled back"
    assert datetime.fromisoformat(undone["rolled_back_at"]).tzinfo is not None
    assert restored["restored_after"] == "2"
    before = world.aliases(), world.files(), undone, restored
    again = world.models("rollback", "--json")
    assert again.json == {"version": "1", "aliases": {CHAMPION: 1}, "changed": False}
    tags = [world.client.get_model_version(NAME, number).tags for number in ("3", "1")]
    assert (world.aliases(), world.files(), *tags) == before


def test_rollback_without_a_predecessor_is_bad_input(world: World) -> None:
    assert "ag_news has no champion" in str(world.models("rollback").error)
    world.models("promote", "1")
    assert "has no predecessor" in str(world.models("rollback").error)
    assert world.aliases() == {CHAMPION: "1"}


@pytest.mark.parametrize("arguments", [("list",), ("show", "1"), ("promote", "1"), ("rollback",)])
def test_a_place_that_is_no_workspace_is_left_as_it_is(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = click.testing.CliRunner().invoke(command, [*arguments, "--workspace", str(tmp_path / "elsewhere")])
    assert isinstance(done.exception, BadInputError)
    assert "elsewhere is not a workspace: newsdesk run makes one, or name another --workspace" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("list",), ("show", "1"), ("promote", "2"), ("rollback",)])
def test_a_store_that_is_away_changes_nothing(world: World, arguments: tuple[str, ...]) -> None:
    world.models("promote", "1")
    before = world.aliases(), world.files()
    with out_of_order(world.workspace.root):
        assert "does not answer or refuses" in str(world.models(*arguments).error)
        files = world.files()
    assert (world.aliases(), files) == before


def test_the_store_is_that_of_the_environment(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_store(tmp_path / "other")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other.uri)
    assert world.models("list", "--json").json == []


@pytest.fixture
def newsdesk(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple]:
    """Calls the whole command line: exit code, and what it printed on either stream."""

    def call(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["newsdesk", *arguments, "--workspace", str(world.workspace.root)])
        code: Any = 0
        try:
            entry.main()
        except SystemExit as done:
            code = done.code or 0
        return code, *capsys.readouterr()

    return call


def test_bad_input_is_one_sentence_and_exit_code_2(newsdesk: Callable[..., tuple]) -> None:
    assert newsdesk("models", "promote", "1") == (0, "version 1 of ag_news is now champion\n", "")
    assert newsdesk("models", "rollback") == (
        2,
        "",
        "newsdesk: version 1 of ag_news has no predecessor: choose a version with newsdesk models promote\n",
    )
