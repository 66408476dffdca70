"""Whole runs whose metadata and tracking are on servers: two at once, an outage of everything, a wrong password."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from database_servers import PASSWORD, PYTHON_PACKAGES, MariaDB, PostgreSQL
from mlflow import MlflowClient
from mlflow_stores import Server
from newsdesk_process import call
from running_server import wait_until
from tiny_settings import TINY, to_options

from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.stores import PASSWORD as VARIABLE

pytestmark = pytest.mark.engines

ADMIN, ADMIN_PASSWORD = "editor", "a-long-Passw0rd"
_RUN_SECONDS = 600


class Newsroom:
    """MariaDB for ML Metadata, PostgreSQL for MLflow's runs and users, and an MLflow server."""

    def __init__(self, root: Path, mariadb: MariaDB, postgresql: PostgreSQL, data: Path):
        self.root, self.mariadb, self.postgresql, self.data = root, mariadb, postgresql, data
        users = root / "auth.ini"
        users.write_text(
            f"[mlflow]\ndefault_permission = READ\nadmin_username = {ADMIN}\n"
            f"database_uri = {postgresql.create('users')}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        self.server = Server(
            root,
            ["--app-name", "basic-auth", "--backend-store-uri", postgresql.create("mlflow")],
            {
                "MLFLOW_AUTH_CONFIG_PATH": str(users),
                "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key of these tests",
                # For the driver of PostgreSQL: it stands in no address.
                "PGPASSWORD": PASSWORD,
                "PYTHONPATH": os.pathsep.join([str(PYTHON_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]),
            },
        )

    def start(self, name: str, *flags: str, settings: Mapping[str, str] | None = None, **environment: str) -> "Running":
        own = {
            **TINY,
            "name": name,
            "stores.metadata": self.mariadb.uri("mlmd"),
            "stores.tracking": self.server.store.uri,
            **(settings or {}),
        }
        given = {
            VARIABLE: PASSWORD,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": ADMIN_PASSWORD,
            **environment,
        }
        return Running(
            self.root / name,
            ["--workspace", str(self.root / name), *to_options(own), "--data", str(self.data), *flags],
            given,
        )

    def states(self, run_id: str) -> list[str]:
        """Returns how the executions of a run stand in ML Metadata."""
        from ml_metadata.proto.metadata_store_pb2 import Execution

        store = MetadataPlace(self.mariadb.uri("mlmd"), {VARIABLE: PASSWORD}, 5).open()
        context = store.get_context_by_type_and_name("pipeline_run", run_id)
        found = store.get_executions_by_context(context.id)
        return sorted(Execution.State.Name(item.last_known_state) for item in found)

    def client(self) -> MlflowClient:
        return MlflowClient(self.server.store.uri, self.server.store.uri)


class Running:
    """``newsdesk run`` as a process."""

    def __init__(self, workspace: Path, arguments: list[str], environment: Mapping[str, str]):
        self.workspace = workspace
        command = [
            sys.executable,
            "-m",
            "pipeline.cli.main",
            "run",
            "--json",
            "--workspace",
            str(workspace),
            *arguments,
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.code: int | None = None

    def wait_for(self, node: str) -> None:
        """Returns when a node has begun its work."""

        def has_begun() -> bool:
            return any((self.workspace / "artifacts" / node).glob("*/*"))

        wait_until(lambda: has_begun() or self._process.poll() is not None, _RUN_SECONDS)
        if not has_begun():
            raise AssertionError(self._process.communicate()[1])

    def end(self) -> dict[str, Any]:
        """Returns what it printed."""
        out, self.err = self._process.communicate(timeout=_RUN_SECONDS)
        self.code = self._process.returncode
        return json.loads(out) if out else {}


@pytest.fixture(scope="module")
def newsroom(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, postgresql: PostgreSQL, tiny_world: Callable[..., Path]
) -> Iterator[Newsroom]:
    root = tmp_path_factory.mktemp("newsroom")
    made = Newsroom(root, mariadb, postgresql, tiny_world(root / "data"))
    made.server.start()
    try:
        yield made
    finally:
        made.server.kill()


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def both(newsroom: Newsroom) -> list[tuple[Running, dict[str, Any]]]:
    """Two pipelines at once."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    running = [newsroom.start("morning"), newsroom.start("evening")]
    return [(item, item.end()) for item in running]


def test_two_at_once_both_push(newsroom: Newsroom, both: list[tuple[Running, dict[str, Any]]]) -> None:
    for running, result in both:
        assert running.code == 0, running.err
        assert {node["state"] for node in result["nodes"]} == {"ran"}
        assert newsroom.states(result["run_id"]) == ["COMPLETE"] * len(result["nodes"])
        assert not (running.workspace / "metadata.sqlite").exists()
        assert not (running.workspace / "mlflow.db").exists()


def test_runs_and_models_are_tracked_for_the_user(
    newsroom: Newsroom, both: list[tuple[Running, dict[str, Any]]]
) -> None:
    for (_, result), name in zip(both, ("morning", "evening"), strict=True):
        run = newsroom.client().get_run(result["mlflow_run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlmd_store"] == newsroom.mariadb.uri("mlmd")
        assert newsroom.client().get_model_version_by_alias(name, "champion").run_id == run.info.run_id


def test_no_password_is_written_anywhere(newsroom: Newsroom, both: list[tuple[Running, dict[str, Any]]]) -> None:
    for running, _ in both:
        kept = [path for path in running.workspace.rglob("*") if path.is_file()]
        assert kept
        for secret in (PASSWORD.encode(), ADMIN_PASSWORD.encode()):
            assert not [path for path in kept if secret in path.read_bytes()]


def test_commands_without_settings_find_the_servers(
    newsroom: Newsroom, both: list[tuple[Running, dict[str, Any]]]
) -> None:
    running, result = both[0]
    done = call("models", "list", "--name", "morning", "--json", "--workspace", running.workspace)
    assert done.code == 0, done.err
    assert [item["mlflow_run_id"] for item in json.loads(done.out)] == [result["mlflow_run_id"]]
    secret = {VARIABLE: PASSWORD}
    done = call("models", "gc", "--keep", "1", "--name", "morning", "--workspace", running.workspace, **secret)
    assert done.code == 0, done.err
    assert "0 things" in done.out


def test_a_wrong_password_is_one_sentence_before_anything_runs(newsroom: Newsroom) -> None:
    cases = [
        ({"MLFLOW_TRACKING_PASSWORD": "wrong-but-long"}, "does not take this user", "MLFLOW_TRACKING_PASSWORD"),
        ({VARIABLE: "wrong"}, "answers but refuses user newsdesk", VARIABLE),
    ]
    for number, (environment, *parts) in enumerate(cases):
        running = newsroom.start(f"refused-{number}", **environment)
        running.end()
        assert running.code == 2
        (sentence,) = [line for line in running.err.splitlines() if line.startswith("newsdesk: ")]
        assert all(part in sentence for part in parts)
        assert "Traceback" not in running.err
        assert not list((running.workspace / "artifacts").iterdir())


def test_an_outage_of_the_servers_loses_nothing(newsroom: Newsroom) -> None:
    """Both databases go away while the model is trained, and with one of them all that MLflow could answer."""
    running = newsroom.start("outage")
    running.wait_for("Trainer")
    for server in (newsroom.mariadb, newsroom.postgresql):
        server.kill()
    time.sleep(20)
    for server in (newsroom.mariadb, newsroom.postgresql):
        server.start()
    result = running.end()
    assert running.code == 0, running.err
    assert newsroom.states(result["run_id"]) == ["COMPLETE"] * len(result["nodes"])
    assert newsroom.client().get_model_version_by_alias("outage", "champion").run_id == result["mlflow_run_id"]
    assert newsroom.client().get_run(result["mlflow_run_id"]).info.status == "FINISHED"


def test_an_outage_that_lasts_ends_the_run_and_the_next_goes_on(newsroom: Newsroom) -> None:
    settings = {"stores.patience_seconds": "3"}
    running = newsroom.start("lasting", settings=settings)
    running.wait_for("Trainer")
    newsroom.mariadb.kill()
    newsroom.postgresql.kill()
    try:
        result = running.end()
    finally:
        newsroom.mariadb.start()
        newsroom.postgresql.start()
    assert running.code == 2, running.err
    (sentence,) = result["reasons"]
    assert "has gone away and not come back in 3 seconds" in sentence
    assert sentence in running.err
    states = {node["id"]: node["state"] for node in result["nodes"]}
    assert (states["ExampleGen"], states["Trainer"], states["Pusher"]) == ("ran", "failed", "skipped")

    again = newsroom.start("lasting", settings=settings)
    result = again.end()
    assert again.code == 0, again.err
    states = {node["id"]: node["state"] for node in result["nodes"]}
    assert (states["ExampleGen"], states["Transform"], states["Pusher"]) == ("cached", "cached", "ran")
    # What MLflow was not told of the first run, it is told by the second.
    (first,) = [
        run
        for run in newsroom.client().search_runs([newsroom.client().get_experiment_by_name("lasting").experiment_id])
        if run.info.run_id != result["mlflow_run_id"]
    ]
    assert first.info.status == "FAILED"
    assert "has gone away" in first.data.tags["reason"]
