"""Nothing bad ships: each gate says no to a whole run, and what serves stays as it is, byte by byte."""

import html
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from mlflow import MlflowClient

pytestmark = pytest.mark.e2e

POOR = {
    "transformer.epochs": "1",
    "transformer.learning_rate": "0.00001",
    "floors.accuracy": "0",
    "floors.macro_f1": "0",
    "floors.worst_class_f1": "0",
    "floors.calibration_error": "1",
}
"""Trains next to nothing, and no floor minds."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, run_tiny: Callable[..., Any], tiny_world: Callable[..., Path]):
    """A workspace in which version 1 is the champion: ``(workspace, data, first run)``."""
    root = tmp_path_factory.mktemp("served")
    data = tiny_world(root / "data")
    first = run_tiny(data, root / "ws")
    assert first.code == 0, first.err
    return root / "ws", data, first


def test_data_that_drifted_stop_the_retrain(
    served: Any, tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any]
) -> None:
    workspace, _, _ = served
    data = tiny_world(tmp_path / "data")
    for name in ("train.csv", "test.csv"):
        # Half of each text is gone.
        rows = [line.split('","') for line in (data / name).read_text().splitlines()]
        halved = [f'{label}","{title.split()[1]}","{rest.split()[2]}"' for label, title, rest in rows]
        (data / name).write_text("\n".join(halved) + "\n")
    before = tree(workspace / "serving")
    done = run_tiny(data, workspace)
    assert done.code == 3
    assert done.states()["DataGate"] == "failed"
    assert done.states()["Trainer"] == "skipped"
    assert any("data_gate.length_drift" in reason for reason in done.result["reasons"])
    assert tree(workspace / "serving") == before
    assert_told_everywhere(done, workspace)


def test_a_class_that_is_missing_stops_the_retrain(
    served: Any, tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any]
) -> None:
    workspace, _, _ = served
    data = tiny_world(tmp_path / "data")
    kept = [line for line in (data / "train.csv").read_text().splitlines() if not line.startswith('"4"')]
    (data / "train.csv").write_text("\n".join(kept) + "\n")
    done = run_tiny(data, workspace)
    assert done.code == 3
    assert any("data_gate.missing_class" in reason and "Sci/Tech" in reason for reason in done.result["reasons"])


def test_leaked_rows_stop_the_run(
    tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any]
) -> None:
    data = tiny_world(tmp_path / "data")
    leaked = (data / "test.csv").read_text().splitlines()[:3]
    with (data / "train.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in leaked)
    done = run_tiny(data, tmp_path / "ws")
    assert done.code == 3
    assert any("data_gate.leakage" in reason for reason in done.result["reasons"])
    (verdict,) = (tmp_path / "ws" / "artifacts" / "DataGate" / "verdict").glob("*/verdict.json")
    (leakage,) = [check for check in json.loads(verdict.read_text())["checks"] if check["name"] == "leakage"]
    assert leakage["value"] == pytest.approx(3 / 80)
    assert len(leakage["rows"]) == 3


def test_a_worse_candidate_changes_nothing(served: Any, run_tiny: Callable[..., Any]) -> None:
    workspace, data, _ = served
    before = tree(workspace / "serving")
    done = run_tiny(data, workspace, settings=POOR)
    assert done.code == 3, done.err
    assert done.states()["ModelGate"] == "failed"
    assert done.states()["Pusher"] == "skipped"
    (reason,) = done.result["reasons"]
    assert reason.startswith("the candidate may be worse than version 1: accuracy -")
    assert tree(workspace / "serving") == before
    assert_told_everywhere(done, workspace)
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    candidate = max(client.search_model_versions("name='ag_news'"), key=lambda item: int(item.version))
    assert candidate.tags["validation_status"] == "rejected"
    assert candidate.tags["verdict.ModelGate"] == reason
    assert candidate.tags["verdict.DataGate"] == "passed"
    assert "serving_version" not in candidate.tags


def test_an_export_that_is_not_what_was_evaluated_is_stopped(
    tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any]
) -> None:
    # The names of two classes are exchanged in what goes with the model.
    prelude = """
import trainers.export, trainers.task
from pathlib import Path
export = trainers.export.export
def broken(model, transform, classes, directory):
    export(model, transform, classes, directory)
    names = Path(directory) / "assets.extra" / "classes.txt"
    names.write_text("\\n".join([classes[1], classes[0], *classes[2:]]) + "\\n")
trainers.export.export = trainers.task.export = broken
"""
    done = run_tiny(tiny_world(tmp_path / "data"), tmp_path / "ws", prelude=prelude)
    assert done.code == 3, done.err
    assert done.states()["ModelGate"] == "ran"
    assert done.states()["ServingGate"] == "failed"
    assert not list((tmp_path / "ws" / "serving").iterdir())
    assert_told_everywhere(done, tmp_path / "ws")


def test_a_challenger_serves_nobody_until_it_is_promoted(
    served: Any, run_tiny: Callable[..., Any], newsdesk: Callable[..., Any]
) -> None:
    workspace, data, _ = served
    done = run_tiny(data, workspace, settings={"push.as": "challenger", "transformer.seed": "2"})
    assert done.code == 0, done.err
    assert done.result["model_version"] == "2"
    assert aliases(workspace) == {"champion": 1, "challenger": 2}
    assert (workspace / "serving" / "ag_news" / "2" / "MODEL_CARD.md").is_file()

    def models(*arguments: str) -> Any:
        return newsdesk("models", *arguments, "--workspace", workspace)

    promoted = models("promote", "2")
    assert (promoted.code, promoted.out) == (0, "version 2 of ag_news is now champion, after version 1\n")
    assert aliases(workspace) == {"champion": 2, "previous": 1}
    listed = json.loads(models("list", "--json").out)
    assert [(row["version"], row["aliases"]) for row in listed] == [("2", ["champion"]), ("1", ["previous"])]

    back = models("rollback")
    assert (back.code, back.out) == (0, "version 1 of ag_news is champion again, after 2\n")
    assert models("rollback").code == 0
    assert aliases(workspace) == {"champion": 1}

    # The same model is not pushed a second time over the head of whoever rolled it back.
    again = run_tiny(data, workspace, settings={"transformer.seed": "2"})
    assert again.code == 3, again.err
    assert again.result["reasons"] == [
        "this is the model of version 2, which was rolled back: newsdesk models promote 2 takes it back"
    ]
    assert aliases(workspace) == {"champion": 1}


def test_mlflow_that_goes_away_stops_the_promotion_and_not_the_training(
    tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any], server: "Server"
) -> None:
    data, workspace = tiny_world(tmp_path / "data"), tmp_path / "ws"
    # The store dies when the Trainer begins.
    prelude = f"""
import os, signal, trainers.fit
inner = trainers.fit.fit
def fit(*arguments, **more):
    os.killpg({server.start()}, signal.SIGKILL)
    return inner(*arguments, **more)
trainers.fit.fit = fit
"""
    away = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    done = run_tiny(data, workspace, prelude=prelude, **away)
    assert done.code == 2, done.err
    assert done.result["status"] == "failed"
    assert done.states()["Trainer"] == "ran"
    assert done.states()["Register"] == "failed"
    assert done.states()["Pusher"] == "skipped"
    assert f"MLflow at {server.uri} does not answer" in done.err
    assert done.err.count("is kept in") == 1
    assert not list((workspace / "serving").iterdir())
    assert list((workspace / "spool").iterdir())

    server.start()
    again = run_tiny(data, workspace, **away)
    assert again.code == 0, again.err
    assert again.states()["Trainer"] == "cached"
    assert not list((workspace / "spool").iterdir())
    client = MlflowClient(server.uri)
    late = client.get_run(done.result["mlflow_run_id"])
    assert late.info.status == "FAILED"
    assert "does not answer" in late.data.tags["reason"]
    assert client.get_model_version_by_alias("ag_news", "champion").tags["serving_version"] == "1"


class Server:
    """A real MLflow server on this machine, which may be killed and started again."""

    def __init__(self, directory: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._directory = directory
        self._process: subprocess.Popen | None = None

    def start(self) -> int:
        """Returns the process group once the server answers."""
        self.stop()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(self._port)),
                *("--backend-store-uri", f"sqlite:///{self._directory}/mlflow.db"),
                *("--artifacts-destination", str(self._directory / "artifacts")),
            ],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self._process.pid
            time.sleep(0.2)
        raise TimeoutError("the MLflow server does not answer")

    def stop(self) -> None:
        """Ends it."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process:
            self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Not started yet."""
    made = Server(tmp_path)
    yield made
    made.stop()


def aliases(workspace: Path) -> dict[str, int]:
    return json.loads((workspace / "serving" / "ag_news" / "aliases.json").read_text())


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def assert_told_everywhere(done: Any, workspace: Path) -> None:
    """The reason is on the screen, in MLflow, in MLMD and in the report, in the same words."""
    run = MlflowClient(f"sqlite:///{workspace}/mlflow.db").get_run(done.result["mlflow_run_id"])
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace / "metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    context = store.get_context_by_type_and_name("pipeline_run", done.result["run_id"])
    recorded = [
        item.custom_properties["reason"].string_value
        for item in store.get_executions_by_context(context.id)
        if "reason" in item.custom_properties
    ]
    page = html.unescape(Path(done.result["report"]).read_text(encoding="utf-8"))
    for reason in done.result["reasons"]:
        assert reason in done.err
        assert reason in run.data.tags["reason"]
        assert any(reason in text for text in recorded)
        assert reason in page
