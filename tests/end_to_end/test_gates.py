"""Nothing bad ships: each gate says no to a whole run, and what serves stays as it is, byte by byte."""

import html
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from mlflow import MlflowClient
from mlflow_stores import Server

import components.example_gen.schema

pytestmark = pytest.mark.e2e

POOR = {
    "transformer.seed": "7",
    "transformer.epochs": "1",
    "transformer.learning_rate": "0.00001",
    "floors.accuracy": "0.9",
    "floors.macro_f1": "0",
    "floors.worst_class_f1": "0",
    "floors.calibration_error": "1",
}
"""Trains next to nothing, and only one floor minds."""


def test_data_that_are_not_fit_stop_the_run(
    served: Any, tmp_path: Path, tiny_world: Callable[..., Path], run_tiny: Callable[..., Any]
) -> None:
    """Half of each text is gone, a class is gone, test rows are leaked, and the schema is stricter."""
    workspace, data = served.workspace, tiny_world(tmp_path / "data")
    for name in ("train.csv", "test.csv"):
        rows = [line.split('","') for line in (data / name).read_text().splitlines()]
        halved = [f'{label}","{title.split()[1]}","{rest.split()[1]}"' for label, title, rest in rows]
        (data / name).write_text("\n".join(halved) + "\n")
    rows = [line for line in (data / "train.csv").read_text().splitlines() if not line.startswith('"4"')]
    leaked = (data / "test.csv").read_text().splitlines()[:3]
    (data / "train.csv").write_text("\n".join(rows + leaked) + "\n")
    curated = components.example_gen.schema.SCHEMA_FILE.read_text()
    (tmp_path / "schema.pbtxt").write_text(curated.replace('  value: "short"\n', ""))
    prelude = "import pathlib, components.example_gen.schema as s; "
    prelude += f"s.load_schema.__defaults__ = (pathlib.Path({str(tmp_path / 'schema.pbtxt')!r}),)"
    before = tree(workspace / "serving")

    done = run_tiny(data, workspace, prelude=prelude)
    assert done.code == 3
    assert done.states()["DataGate"] == "failed"
    assert done.states()["Trainer"] == "skipped"
    for words in (
        ("data_gate.length_drift",),
        ("data_gate.missing_class", "Sci/Tech"),
        ("data_gate.leakage",),
        ("feature length", "'short' in"),
    ):
        assert any(all(word in reason for word in words) for reason in done.result["reasons"]), words
    kept = (workspace / "artifacts" / "DataGate" / "verdict").glob("*/verdict.json")
    verdict = max(kept, key=lambda path: int(path.parent.name))
    (leakage,) = [check for check in json.loads(verdict.read_text())["checks"] if check["name"] == "leakage"]
    assert leakage["value"] == pytest.approx(3 / 80)
    assert len(leakage["rows"]) == 3
    assert tree(workspace / "serving") == before
    assert_told_everywhere(done, workspace)


@pytest.fixture(scope="module")
def rejected(served: Any, run_tiny: Callable[..., Any]) -> tuple[Any, bool]:
    """A run whose candidate is worse than the champion, and whether it left what serves as it was."""
    before = tree(served.workspace / "serving")
    done = run_tiny(served.data, served.workspace, settings=POOR)
    return done, tree(served.workspace / "serving") == before


def test_a_worse_candidate_changes_nothing(served: Any, rejected: tuple[Any, bool]) -> None:
    workspace, (done, is_unchanged) = served.workspace, rejected
    assert done.code == 3, done.err
    assert done.result["status"] == "rejected"
    assert done.result["model_dir"] is None
    assert done.states()["ModelGate"] == "failed"
    assert done.states()["Pusher"] == "skipped"
    floor, worse = done.result["reasons"]
    assert floor == f"accuracy is {done.result['metrics']['accuracy']:.4f}, below the floor of 0.9000"
    assert worse.startswith("the candidate may be worse than version 1: accuracy -")
    assert is_unchanged
    assert_told_everywhere(done, workspace)
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    assert client.get_run(done.result["mlflow_run_id"]).info.status == "FAILED"
    candidate = max(client.search_model_versions("name='ag_news'"), key=lambda item: int(item.version))
    assert candidate.tags["validation_status"] == "rejected"
    assert candidate.tags["verdict.ModelGate"] == f"{floor}; {worse}"
    assert candidate.tags["verdict.DataGate"] == "passed"
    assert "serving_version" not in candidate.tags


def test_a_run_that_was_rejected_is_compared(
    served: Any, rejected: tuple[Any, bool], newsdesk: Callable[..., Any]
) -> None:
    workspace, a, b = served.workspace, served.first, rejected[0]
    first = newsdesk("compare", "--json", "--workspace", workspace, a.result["run_id"], b.result["mlflow_run_id"])
    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert found["rows"] == 80
    assert found["notes"] == []
    for side, run in (("a", a.result), ("b", b.result)):
        metrics = {name: metric[side]["value"] for name, metric in found["metrics"].items()}
        expected = {name: run["metrics"][name] for name in ("accuracy", "macro_f1", "log_loss", "calibration_error")}
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)
        for name in found["classes"]:
            assert metrics[f"f1/{name}"] == pytest.approx(run["metrics"][f"f1/{name}"], abs=1e-6)
        cost = found[side]
        assert (cost["run_id"], cost["model_version"]) == (run["run_id"], run["model_version"])
        assert cost["parameters"] > 1_000
        assert min(cost["trainer_seconds"], cost["model_mb"], cost["peak_mb"], cost["rows_per_second"]) > 0
        assert 0 < cost["epochs_seconds"] < cost["trainer_seconds"] < cost["run_seconds"]
        assert cost["cached_nodes"] == sum(node["state"] == "cached" for node in run["nodes"])
    assert found["better"] == "a"
    assert set(found["settings"]) == set(POOR)
    assert len(found["only_a_right"]) == 10
    assert all(row["a"] == row["label"] != row["b"] for row in found["only_a_right"])

    again = newsdesk("compare", "--json", "--workspace", workspace, a.result["run_id"], b.result["run_id"])
    kept = json.loads(again.out)
    assert kept["a"].pop("rows_per_second") is kept["b"].pop("rows_per_second") is None
    assert found["a"].pop("rows_per_second")
    assert found["b"].pop("rows_per_second")
    assert kept == found

    screen = newsdesk("compare", "--workspace", workspace, b.result["run_id"], a.result["run_id"])
    assert (screen.code, screen.err) == (0, "")
    assert "B is better: +" in screen.out


def test_an_export_that_is_not_what_was_evaluated_is_stopped(served: Any, run_tiny: Callable[..., Any]) -> None:
    before = tree(served.workspace / "serving")
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
    done = run_tiny(served.data, served.workspace, prelude=prelude, settings={"transformer.seed": "3"})
    assert done.code == 3, done.err
    assert done.states()["ModelGate"] == "ran"
    assert done.states()["ServingGate"] == "failed"
    assert tree(served.workspace / "serving") == before
    assert_told_everywhere(done, served.workspace)


def test_mlflow_that_goes_away_stops_the_promotion_and_not_the_training(
    served: Any, run_tiny: Callable[..., Any], server: Server
) -> None:
    # What is ahead of the Trainer is there; nothing has been pushed.
    data, workspace = served.data, served.workspace
    shutil.rmtree(workspace / "serving")
    server.start()
    # The store dies when the Trainer begins.
    prelude = f"""
import os, signal, trainers.fit
inner = trainers.fit.fit
def fit(*arguments, **more):
    os.killpg({server.process_group}, signal.SIGKILL)
    return inner(*arguments, **more)
trainers.fit.fit = fit
"""
    seed = {"transformer.seed": "4"}
    away = {"MLFLOW_TRACKING_URI": server.store.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    done = run_tiny(data, workspace, settings=seed, prelude=prelude, **away)
    assert done.code == 2, done.err
    assert done.result["status"] == "failed"
    assert done.states()["Trainer"] == "ran"
    assert done.states()["Register"] == "failed"
    assert done.states()["Pusher"] == "skipped"
    assert f"MLflow at {server.store.uri} does not answer" in done.err
    assert done.err.count("is kept in") == 1
    assert not list((workspace / "serving").iterdir())
    assert list((workspace / "spool").iterdir())

    server.kill()
    server.start()
    again = run_tiny(data, workspace, settings=seed, **away)
    assert again.code == 0, again.err
    assert again.states()["Trainer"] == "cached"
    assert not list((workspace / "spool").iterdir())
    client = MlflowClient(server.store.uri)
    late = client.get_run(done.result["mlflow_run_id"])
    assert late.info.status == "FAILED"
    assert "does not answer" in late.data.tags["reason"]
    assert client.get_model_version_by_alias("ag_news", "champion").tags["serving_version"] == "1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Not started yet."""
    made = Server(tmp_path / "server")
    yield made
    made.kill()


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
