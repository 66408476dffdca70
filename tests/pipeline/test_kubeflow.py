"""The file for Kubeflow: compared with the one kept here, and with what was asked for."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from pipeline.config import override
from pipeline.presets import make_config
from pipeline.runners.compile import compile_for, edges_of
from pipeline.runners.structure import make_structure

GOLDEN = Path(__file__).parents[1] / "golden" / "kubeflow.yaml"
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


def test_the_file_is_the_one_that_is_kept(file: Any) -> None:
    """``REGENERATE_GOLDEN=1`` writes it anew."""
    text = file[2]
    version = file[0]["sdkVersion"]
    neutral = text.replace(version, "kfp-VERSION")
    if os.environ.get("REGENERATE_GOLDEN"):
        GOLDEN.write_text(f"# made by {version}\n{neutral}", encoding="utf-8")
    made_by, _, kept = GOLDEN.read_text(encoding="utf-8").partition("\n")
    if made_by == f"# made by {version}":
        assert neutral == kept
    else:
        # Another kfp spells some fields in another way; what is run, and after what, is the same.
        assert _skeleton(file[0]) == _skeleton(next(yaml.safe_load_all(kept)))


def _skeleton(pipeline: dict[str, Any]) -> Any:
    commands = {
        label: (item["container"]["image"], item["container"]["command"], item["container"]["args"])
        for label, item in pipeline["deploymentSpec"]["executors"].items()
    }
    order = {name: sorted(task.get("dependentTasks", ())) for name, task in inner(pipeline).items()}
    return commands, order, sorted(pipeline["root"]["inputDefinitions"]["parameters"])


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
                {
                    "secretName": "mlflow",
                    "keyToEnv": [{"secretKey": "token", "envVar": "MLFLOW_TRACKING_TOKEN"}],
                }
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
        "epochs": 5,
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
