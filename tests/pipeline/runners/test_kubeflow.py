"""The file for Kubeflow: compared with the one kept here, and with what was asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_file import check_golden
from kfp import components
from kubeflow_backend import FAILED, SKIPPED, SUCCEEDED, Backend
from mlflow import MlflowClient
from mlflow_stores import make_store
from span_world import rows

from components.errors import GateRejectedError
from pipeline.cli.main import cli
from pipeline.config.config import override
from pipeline.config.presets import make_config
from pipeline.runners.compile import compile_for, edges_of, make_structure

pytestmark = pytest.mark.stack

IMAGE = "registry.example/newsdesk@sha256:" + "0" * 64
SETTINGS = {
    "orchestrator.image": IMAGE,
    "orchestrator.claim": "newsdesk",
    "orchestrator.retries": "3",
    "orchestrator.backoff_seconds": "60",
    "orchestrator.environment": json.dumps({"MLFLOW_TRACKING_URI": "https://mlflow.example"}),
    "orchestrator.secrets": json.dumps({"MLFLOW_TRACKING_TOKEN": "mlflow/token"}),
    "orchestrator.resources": json.dumps(
        {"default": {}, "Trainer": {"cpu": 4, "memory_gib": 16, "accelerator": "nvidia.com/gpu"}}
    ),
}


def compiled(**more: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    config = override(make_config("sample"), {**SETTINGS, **more})
    text, problems = compile_for("kubeflow", config, ["--preset", "sample"])
    assert problems == []
    pipeline, platform = yaml.safe_load_all(text)
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"], text


@pytest.fixture(scope="module")
def file() -> tuple[dict[str, Any], dict[str, Any], str]:
    return compiled()


def inner(pipeline: dict[str, Any]) -> dict[str, Any]:
    return pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]


def container(pipeline: dict[str, Any], name: str) -> dict[str, Any]:
    return pipeline["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


def test_the_file_says_what_is_kept_of_it(file: Any) -> None:
    pipeline, platform, _ = file
    tasks = {**inner(pipeline), "finish": pipeline["root"]["dag"]["tasks"]["finish"]}
    steps = {}
    for name, task in tasks.items():
        task = {key: value for key, value in task.items() if key not in ("componentRef", "taskInfo")}
        given = {key: container(pipeline, name)[key] for key in ("image", "command", "args", "env")}
        limits = {key: value for key, value in container(pipeline, name)["resources"].items() if "resource" in key}
        given["command"] = [part for part in given["command"] if part.lower() != name]
        steps[name] = task | given | {"resources": limits} | platform[f"exec-{name}"]
    check_golden("kubeflow.yaml", pipeline["root"]["inputDefinitions"]["parameters"], steps)


def test_it_is_the_same_each_time(file: Any) -> None:
    assert compiled()[2] == file[2]


def test_the_sdk_reads_it(file: Any, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(file[2])
    loaded = components.load_component_from_file(str(path))
    assert loaded.pipeline_spec.pipeline_info.name == "ag-news"


def test_every_node_is_a_container_after_those_it_needs(file: Any) -> None:
    pipeline = file[0]
    edges = edges_of(make_structure(make_config("sample")))
    assert len(edges) == 17
    tasks = inner(pipeline)
    assert set(tasks) == {"begin", *(node.lower() for node in edges)}
    for node, before in edges.items():
        assert tasks[node.lower()]["dependentTasks"] == sorted(["begin", *(name.lower() for name in before)])
        assert container(pipeline, node.lower())["command"] == ["newsdesk", "node", node]
        assert container(pipeline, node.lower())["image"] == IMAGE


def test_finish_runs_whatever_became_of_the_nodes(file: Any) -> None:
    finish = file[0]["root"]["dag"]["tasks"]["finish"]
    assert finish["dependentTasks"] == ["exit-handler-1"]
    assert finish["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_every_step_carries_what_the_configuration_gives(file: Any) -> None:
    pipeline, platform, _ = file
    tasks = {**inner(pipeline), "finish": pipeline["root"]["dag"]["tasks"]["finish"]}
    for name, task in tasks.items():
        assert not task["cachingOptions"].get("enableCache")
        assert task["retryPolicy"] == {
            "maxRetryCount": 3,
            "backoffDuration": "60s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "3600s",
        }
        assert task["inputs"]["parameters"]["job"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
        given = container(pipeline, name)
        assert given["env"] == [{"name": "MLFLOW_TRACKING_URI", "value": "https://mlflow.example"}]
        big = name == "trainer"
        assert given["resources"]["resourceCpuLimit"] == ("4000m" if big else "2000m")
        assert given["resources"]["resourceMemoryLimit"] == ("16384Mi" if big else "8192Mi")
        assert ("accelerator" in given["resources"]) == big
        assert platform[f"exec-{name}"] == {
            "pvcMount": [{"constant": "newsdesk", "mountPath": "/data"}],
            "secretAsEnv": [
                {"secretName": "mlflow", "keyToEnv": [{"secretKey": "token", "envVar": "MLFLOW_TRACKING_TOKEN"}]}
            ],
        }
    accelerator = container(pipeline, "trainer")["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1")


def test_parameters_have_the_configuration_as_default() -> None:
    pipeline, _, _ = compiled(**{"transformer.epochs": "5", "floors.accuracy": "0.5", "model": "transformer"})
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {name: item["defaultValue"] for name, item in parameters.items()} == {
        "data": "/data/feed",
        "spans": "all",
        "model": "transformer",
        "epochs": 0,
        "accuracy": 0.5,
        "macro_f1": 0.7,
        "worst_class_f1": 0.6,
        "calibration_error": 0.25,
        "reuse": True,
    }
    assert parameters["epochs"]["parameterType"] == "NUMBER_INTEGER"
    args = container(pipeline, "begin")["args"]
    for name in parameters:
        assert args[args.index("--" + name.replace("_", "-")) + 1] == f"{{{{$.inputs.parameters['{name}']}}}}"


def test_a_gate_that_says_no_ends_the_run_and_it_is_told(
    tmp_path: Path, make_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test rows are leaked. The steps are called here; tests/end_to_end starts them as processes."""
    workspace, tracking = tmp_path / "workspace", f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path)
    places = {
        "orchestrator.workspace": str(workspace),
        "orchestrator.cache": str(tmp_path / "cache"),
        "orchestrator.mount": str(tmp_path),
        "orchestrator.retries": "1",
        "orchestrator.backoff_seconds": "1",
    }
    (tmp_path / "kubeflow.yaml").write_text(compiled(**places)[2])

    def start(command: list[str]) -> int:
        try:
            cli(command[1:], standalone_mode=False)
        except GateRejectedError:
            return 3
        return 0

    backend = Backend(tmp_path / "kubeflow.yaml", {}, {("mlflow", "token"): "token"}, here=start)
    leaked = make_data(train=[*rows(400), *rows(80, start=1000)])
    outcome = backend.run("job-1", {"data": str(leaked)})
    # Asked again, the gate gives the same answer.
    assert [attempt.code for attempt in outcome.of("datagate")] == [3, 3]
    ends = {name: outcome.states[name] for name in ("examplegen", "datagate", "trainer", "promote", "finish")}
    assert list(ends.values()) == [SUCCEEDED, FAILED, SKIPPED, SKIPPED, SUCCEEDED]
    result = json.loads((workspace / "runs" / "job-1" / "result.json").read_text())
    assert result["status"] == "rejected"
    assert "data_gate.leakage" in result["reasons"][0]
    states = {node["id"]: node["state"] for node in result["nodes"]}
    assert (states["ExampleGen"], states["DataGate"], states["Trainer"]) == ("ran", "failed", "skipped")
    run = MlflowClient(tracking).get_run(result["mlflow_run_id"])
    assert (run.info.status, run.data.tags["node.DataGate"]) == ("FAILED", "failed")
    assert run.data.tags["reason"].startswith("DataGate: ")
