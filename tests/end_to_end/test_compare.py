"""Two whole runs of the transformer on a tiny world, compared by the real command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def test_two_runs_are_compared(
    tmp_path: Path, run_tiny: Callable[..., Any], newsdesk: Callable[..., Any], tiny_world: Callable[..., Path]
) -> None:
    data, workspace = tiny_world(tmp_path / "data"), tmp_path / "ws"
    # One epoch at a low rate is too little, so the gate rejects the second; its model is compared all the same.
    poor = {"transformer.seed": "7", "transformer.epochs": "1", "transformer.learning_rate": "0.00001"}
    a, b = run_tiny(data, workspace), run_tiny(data, workspace, settings=poor)
    assert (a.code, b.code) == (0, 3), a.err + b.err

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
    assert set(found["settings"]) == set(poor)
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
