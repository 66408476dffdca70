"""Faults planted in whole runs: each stops where it should, says why, and ships nothing."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.e2e


def test_unknown_label_stops_at_ingest(served: Any, tmp_path: Path, tiny_world: Any, run_tiny: Any) -> None:
    before = _tree(served.workspace / "serving")
    data = tiny_world(tmp_path / "data", malformed=['"Sport","a title","a description"'])
    done = run_tiny(data, served.workspace)
    assert done.code == 2
    states = done.states()
    del states["Champion"]
    assert states.pop("ExampleGen") == "failed"
    assert set(states.values()) == {"skipped"}
    assert 'unknown label "Sport" in 1 row (first at train.csv line 401)' in done.err
    assert _tree(served.workspace / "serving") == before


def test_divergence_fails_the_run(served: Any, run_tiny: Any) -> None:
    before = _tree(served.workspace / "serving")
    settings = {"transformer.learning_rate": "1e38", "transformer.clip_norm": "1e38"}
    done = run_tiny(served.data, served.workspace, settings=settings)
    assert done.code == 1
    assert done.result["status"] == "failed"
    assert done.states()["Trainer"] == "failed"
    assert "lower learning_rate" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in (served.workspace / "logs" / "run.log").read_text()
    client = MlflowClient(f"sqlite:///{served.workspace}/mlflow.db")
    run = client.get_run(done.result["mlflow_run_id"])
    assert run.info.status == "FAILED"
    assert "training diverged" in run.data.tags["reason"]
    assert len(client.search_model_versions("name='ag_news'")) == 1
    assert _tree(served.workspace / "serving") == before


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
