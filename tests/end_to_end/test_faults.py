"""Faults planted in whole runs: each stops where it should, says why, and ships nothing."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from mlflow import MlflowClient

pytestmark = pytest.mark.e2e


def test_floor_missed_rejects_the_model(tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    data = tiny_world(tmp_path / "data")
    _shuffle_labels(data / "test.csv")
    workspace = tmp_path / "ws"
    first = run_tiny(tiny_world(tmp_path / "good"), workspace)
    assert first.code == 0, first.err
    before = _tree(workspace / "serving")

    rejected = run_tiny(data, workspace, settings={"floors.accuracy": "0.9"})

    assert rejected.code == 3
    assert rejected.result["status"] == "rejected"
    assert rejected.result["model_dir"] is None
    assert _tree(workspace / "serving") == before
    accuracy = rejected.result["metrics"]["accuracy"]
    reason = f"accuracy is {accuracy:.4f}, below the floor of 0.9000"
    assert reason in rejected.result["reasons"]
    assert reason in rejected.err
    run = MlflowClient(f"sqlite:///{workspace}/mlflow.db").get_run(rejected.result["mlflow_run_id"])
    assert run.info.status == "FAILED"
    assert reason in run.data.tags["reason"]
    assert any(reason in text for text in _failure_reasons(workspace, rejected.result["run_id"]))
    assert rejected.states()["ModelGate"] == "failed"
    assert rejected.states()["Pusher"] == "skipped"


def test_unknown_label_stops_at_ingest(tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    data = tiny_world(tmp_path / "data", malformed=['"Sport","a title","a description"'])
    done = run_tiny(data, tmp_path / "ws")
    assert done.code == 2
    states = done.states()
    assert (states.pop("Champion"), states.pop("ExampleGen")) == ("ran", "failed")
    assert set(states.values()) == {"skipped"}
    assert 'unknown label "Sport" in 1 row (first at train.csv line 401)' in done.err
    assert not list((tmp_path / "ws" / "serving").iterdir())


def test_too_many_malformed_rows_stop_at_ingest(tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    data = tiny_world(tmp_path / "data", malformed=["one column"] * 5)
    done = run_tiny(data, tmp_path / "ws")
    assert done.code == 2
    kept = tmp_path / "ws" / "quarantine" / f"{done.result['run_id']}.jsonl"
    assert f"5 of 485 rows are malformed, more than the budget of 0.10% (data.malformed_budget): see {kept}" in done.err
    assert [json.loads(line)["line"] for line in kept.read_text().splitlines()] == [401, 402, 403, 404, 405]


def test_anomaly_stops_at_the_data_gate(tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    import components.schema

    curated = components.schema.SCHEMA_FILE.read_text()
    edited = tmp_path / "schema.pbtxt"
    edited.write_text(curated.replace('  value: "short"\n', ""))
    prelude = f"import pathlib, components.schema as s; s.load_schema.__defaults__ = (pathlib.Path({str(edited)!r}),)"
    done = run_tiny(tiny_world(tmp_path / "data"), tmp_path / "ws", prelude=prelude)
    assert done.code == 3
    assert done.states()["DataGate"] == "failed"
    assert done.states()["Trainer"] == "skipped"
    assert any("feature length" in reason and "'short' in" in reason for reason in done.result["reasons"])
    assert not list((tmp_path / "ws" / "serving").iterdir())


def test_divergence_fails_the_run(tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    settings = {"transformer.learning_rate": "1e38", "transformer.clip_norm": "1e38"}
    done = run_tiny(tiny_world(tmp_path / "data"), tmp_path / "ws", settings=settings)
    assert done.code == 1
    assert done.result["status"] == "failed"
    assert done.states()["Trainer"] == "failed"
    assert "lower learning_rate" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in (tmp_path / "ws" / "logs" / "run.log").read_text()
    client = MlflowClient(f"sqlite:///{tmp_path}/ws/mlflow.db")
    run = client.get_run(done.result["mlflow_run_id"])
    assert run.info.status == "FAILED"
    assert "training diverged" in run.data.tags["reason"]
    assert not client.search_registered_models()
    assert not list((tmp_path / "ws" / "serving").iterdir())


def test_header_does_not_change_the_rows(tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    data = tiny_world(tmp_path / "data")
    rows = (data / "train.csv").read_text()
    (data / "train.csv").write_text("Class Index,Title,Description\n" + rows)
    done = run_tiny(data, tmp_path / "ws")
    assert done.code == 0, done.err
    (report,) = (tmp_path / "ws" / "artifacts" / "ExampleGen" / "report").glob("*/report.json")
    assert json.loads(report.read_text())["rows"] == 480


def _shuffle_labels(path: Path) -> None:
    lines = path.read_text().splitlines()
    labels = [line[:3] for line in lines]
    random.Random(1).shuffle(labels)
    path.write_text("".join(label + line[3:] + "\n" for label, line in zip(labels, lines, strict=True)))


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _failure_reasons(workspace: Path, run_id: str) -> list[str]:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace / "metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    executions = store.get_executions_by_context(context.id)
    return [item.custom_properties["reason"].string_value for item in executions if "reason" in item.custom_properties]
