"""The file for Vertex AI: compared with the one kept here, and a graph run as its backend would."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow_stores import make_store
from tiny_settings import TINY, to_options
from vertex_backend import VertexBackend

from components.errors import BadInputError, GateRejectedError
from components.example_gen.source import find_source
from pipeline.cli.main import cli
from pipeline.config import Config, override
from pipeline.presets import make_config
from pipeline.run import Request
from pipeline.runners.compile import compile_for, edges_of
from pipeline.runners.parameters import parameters_of
from pipeline.runners.steps import Steps
from pipeline.runners.structure import make_structure
from pipeline.runners.vertex import constants_of, fill, key_of
from pipeline.runners.vertex_step import Mount, run_vertex_node
from pipeline.workspace import open_workspace

GOLDEN = Path(__file__).parents[1] / "golden" / "vertex.yaml"
IMAGE = "registry.example/newsdesk@sha256:" + "0" * 64
SETTINGS = {
    "orchestrator.image": IMAGE,
    "orchestrator.workspace": "/gcs/bucket/workspace",
    "orchestrator.cache": "/gcs/bucket/cache",
    "orchestrator.data": "/gcs/bucket/feed",
    "orchestrator.bucket": "gs://bucket/pipelines",
    "orchestrator.project": "p1",
    "orchestrator.environment": json.dumps({"MLFLOW_TRACKING_URI": "https://mlflow.example"}),
    "orchestrator.secrets": json.dumps({"MLFLOW_TRACKING_TOKEN": "mlflow-token/latest"}),
    "orchestrator.resources": json.dumps(
        {"default": {}, "Trainer": {"cpu": 4, "memory_gib": 16, "accelerator": "NVIDIA_TESLA_T4"}}
    ),
}


def configured(**more: str) -> Config:
    return override(make_config("sample"), {**SETTINGS, **more})


@pytest.fixture(scope="module")
def text() -> str:
    text, problems = compile_for("vertex", configured(), ["--preset", "sample"])
    assert problems == []
    return text


@pytest.fixture(scope="module")
def spec(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def container(spec: dict[str, Any], node: str) -> dict[str, Any]:
    return spec["deploymentSpec"]["executors"][f"{node}_executor"]["container"]


def test_the_file_is_the_one_that_is_kept(text: str, spec: dict[str, Any]) -> None:
    """``REGENERATE_GOLDEN=1`` writes it anew."""
    version = spec["sdkVersion"]
    neutral = text.replace(version, "tfx-VERSION")
    if os.environ.get("REGENERATE_GOLDEN"):
        GOLDEN.write_text(f"# made by {version}\n{neutral}", encoding="utf-8")
    made_by, _, kept = GOLDEN.read_text(encoding="utf-8").partition("\n")
    if made_by == f"# made by {version}":
        assert neutral == kept
    else:
        # Another TFX has other properties; what is run, and after what, is the same.
        assert _skeleton(spec) == _skeleton(yaml.safe_load(kept))


def _skeleton(spec: dict[str, Any]) -> Any:
    commands = {
        label: (item["container"]["image"], item["container"]["command"])
        for label, item in spec["deploymentSpec"]["executors"].items()
    }
    tasks = spec["components"]["run"]["dag"]["tasks"]
    return commands, {name: task.get("dependentTasks") for name, task in tasks.items()}, spec["root"]


def test_it_is_the_same_each_time(text: str) -> None:
    assert compile_for("vertex", configured(), ["--preset", "sample"])[0] == text


def test_every_node_runs_after_those_it_needs(spec: dict[str, Any]) -> None:
    tasks = spec["components"]["run"]["dag"]["tasks"]
    edges = edges_of(make_structure(configured()))
    assert set(tasks) == {"begin", *edges}
    for node, before in edges.items():
        assert tasks[node]["dependentTasks"] == sorted(["begin", *before])
        assert container(spec, node)["command"] == ["newsdesk", "node", node]
        assert "--executor_class_path" in container(spec, node)["args"]
    finish = spec["root"]["dag"]["tasks"]["finish"]
    assert (finish["dependentTasks"], finish["triggerPolicy"]["strategy"]) == (["run"], "ALL_UPSTREAM_TASKS_COMPLETED")


def test_every_property_of_a_node_comes_from_begin(spec: dict[str, Any]) -> None:
    tasks = spec["components"]["run"]["dag"]["tasks"]
    outputs = spec["components"]["begin"]["outputDefinitions"]["parameters"]
    used = set()
    for node in set(tasks) - {"begin"}:
        defined = spec["components"][node].get("inputDefinitions", {}).get("parameters", {})
        given = tasks[node].get("inputs", {}).get("parameters", {})
        assert set(given) == set(defined)
        for name, value in given.items():
            output = value["taskOutputParameter"]
            assert output == {"producerTask": "begin", "outputParameterKey": key_of(node, name)}
            assert outputs[key_of(node, name)]["parameterType"] == defined[name]["parameterType"]
            used.add(key_of(node, name))
    assert used == set(outputs)
    assert {"examplegen_data_dir", "examplegen_spans", "examplegen_input_digest", "trainer_custom_config"} <= used


def test_every_step_carries_what_the_configuration_gives(spec: dict[str, Any]) -> None:
    tasks = {**spec["components"]["run"]["dag"]["tasks"], "finish": spec["root"]["dag"]["tasks"]["finish"]}
    assert len(tasks) == 19
    for node, task in tasks.items():
        given = container(spec, node)
        assert given["image"] == IMAGE
        assert given["env"] == [{"name": "MLFLOW_TRACKING_URI", "value": "https://mlflow.example"}]
        place = "MLFLOW_TRACKING_TOKEN=projects/p1/secrets/mlflow-token/versions/latest"
        assert given["args"][given["args"].index("--secret") + 1] == place
        assert given["args"][given["args"].index("--job") + 1] == "{{$.pipeline_job_uuid}}"
        assert (task["cachingOptions"], task["retryPolicy"]["maxRetryCount"]) == ({}, 2)
        assert given["resources"]["cpuLimit"] == (4.0 if node == "Trainer" else 2.0)
    assert container(spec, "Trainer")["resources"]["accelerator"] == {"type": "NVIDIA_TESLA_T4", "count": "1"}
    assert container(spec, "Trainer")["resources"]["memoryLimit"] == pytest.approx(17.18, abs=0.01)


def test_parameters_reach_begin(spec: dict[str, Any]) -> None:
    named = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: item["defaultValue"] for name, item in named.items()} == {
        item.name: item.default for item in parameters_of(configured())
    }
    args = container(spec, "begin")["args"]
    for name in named:
        assert args[args.index("--" + name.replace("_", "-")) + 1] == f"{{{{$.inputs.parameters['{name}']}}}}"


def test_a_file_of_another_graph_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"the compiled file knows no b: compile it again"):
        fill({"a": "1", "b": "2"}, ["a"])
    assert fill({"a": "1"}, ["a", "gone"]) == {"a": "1", "gone": ""}


def test_whole_numbers_are_written_as_such() -> None:
    texts = constants_of(make_structure(configured()), "ag-news")
    assert texts["examplegen_eval_fraction"] == "0.05"
    assert texts["transform_disable_statistics"] == "1"


def test_addresses_are_paths_below_the_mount() -> None:
    mount = Mount(Path("/gcs"))
    assert mount.to_path("gs://bucket/a/b") == "/gcs/bucket/a/b"
    assert mount.to_address("/gcs/bucket/a/b") == "gs://bucket/a/b"
    assert mount.to_path("/elsewhere") == mount.to_address("/elsewhere") == "/elsewhere"


def test_only_the_arguments_of_tfx_are_taken(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    from pipeline.runners.begin import decide

    place = open_workspace(tmp_path / "workspace")
    steps = Steps(place.root, "job-1")
    store = make_store(place.root)
    request = Request(configured(), find_source(make_data()), place, store, {})
    with pytest.raises(BadInputError, match="run job-1 has not begun"):
        run_vertex_node(steps, "ImportSchema", [], Mount(tmp_path), place.root)
    decided = decide(steps, request, "", lambda *_: None)
    assert decide(steps, request, "", lambda *_: pytest.fail("twice")) == decided
    assert len(MlflowClient(store.uri).search_runs(["1"])) == 1
    with pytest.raises(BadInputError, match="behind -- stand the arguments of TFX"):
        run_vertex_node(steps, "ImportSchema", ["--x"], Mount(tmp_path), place.root)


class Cloud:
    """A directory in place of Cloud Storage, and a file that was compiled for it."""

    def __init__(self, root: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
        self.storage, self.data = root / "gcs", data
        self.workspace = self.storage / "bucket" / "workspace"
        self.tracking = f"sqlite:///{root}/mlflow.db"
        monkeypatch.setenv("NEWSDESK_GCS", str(self.storage))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", self.tracking)
        # The mount is elsewhere here, and so is what the file names below it.
        places = {
            "orchestrator.workspace": str(self.workspace),
            "orchestrator.cache": str(root / "cache"),
            "orchestrator.secrets": "{}",
        }
        self.text, _ = compile_for("vertex", configured(**places), ["--preset", "sample", *to_options(TINY)])

    def run(self, job: str, nodes: set[str] | None = None, **arguments: Any) -> VertexBackend:
        def start(command: list[str]) -> None:
            assert command[0] == "newsdesk"
            cli(command[1:], standalone_mode=False)

        backend = VertexBackend(self.text, self.storage, start)
        backend.run(job, {"data": str(self.data), "epochs": 3, **arguments}, nodes)
        return backend

    def result(self, job: str) -> dict[str, Any]:
        return json.loads((self.workspace / "runs" / job / "result.json").read_text())


@pytest.fixture
def cloud(tmp_path: Path, make_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Cloud:
    # Where MLflow is a bare database, its artifacts go below the working directory.
    monkeypatch.chdir(tmp_path)
    return Cloud(tmp_path, make_data(), monkeypatch)


def test_tfx_takes_what_the_launcher_hands_over(cloud: Cloud) -> None:
    """A node of each kind: a function, one with an executor of its own, and one of TFX's that reads their outputs."""
    first = {"begin", "ImportSchema", "ExampleGen", "Champion", "StatisticsGen"}
    backend = cloud.run("job-1", first)
    handed = backend.executor_inputs["StatisticsGen"]
    (examples,) = handed.inputs.artifacts["examples"].artifacts
    assert examples.uri == "gs://bucket/pipelines/job-1/ExampleGen/examples"
    assert json.loads(examples.metadata["split_names"]) == ["train", "eval", "test"]
    statistics = cloud.storage / "bucket/pipelines/job-1/StatisticsGen/statistics"
    assert (statistics / "Split-train" / "FeatureStats.pb").is_file()
    assert not list(Path.cwd().glob("gs:*"))
    result = cloud.result("job-1")
    assert {node["id"]: node["state"] for node in result["nodes"] if node["state"] != "skipped"} == dict.fromkeys(
        first - {"begin"}, "ran"
    )
    assert (result["status"], result["reasons"]) == ("failed", ["the orchestrator did not run ExampleValidator"])
    # The same again is answered from what is there, unless told otherwise.
    cloud.run("job-2", first)
    states = {node["id"]: node["state"] for node in cloud.result("job-2")["nodes"]}
    assert [states[node] for node in ("ExampleGen", "StatisticsGen")] == ["cached", "cached"]
    cloud.run("job-3", {"begin", "ImportSchema"}, reuse=False)
    assert {node["id"]: node["state"] for node in cloud.result("job-3")["nodes"]}["ImportSchema"] == "ran"


@pytest.mark.e2e
def test_the_whole_file_leads_to_a_pushed_model(cloud: Cloud) -> None:
    cloud.run("job-1")
    result = cloud.result("job-1")
    assert (result["status"], result["model_version"], result["reasons"]) == ("pushed", "1", [])
    assert {node["state"] for node in result["nodes"]} == {"ran"}
    run = MlflowClient(cloud.tracking).get_run(result["mlflow_run_id"])
    assert (run.info.status, run.data.tags["serving_version"]) == ("FINISHED", "1")
    assert (cloud.workspace / "serving" / "ag_news" / "1" / "MANIFEST.json").is_file()
    with pytest.raises(GateRejectedError, match="calibration_error"):
        cloud.run("job-2", calibration_error=0.0)
    rejected = cloud.result("job-2")
    assert rejected["status"] == "rejected"
    assert (cloud.workspace / "runs/job-2/left/ModelGate/verdict/verdict.json").is_file()
