"""The file for Vertex AI: compared with the one kept here, and a graph run as its backend would."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_file import check_golden
from mlflow import MlflowClient
from mlflow_stores import make_store
from tiny_settings import TINY, to_options
from vertex_backend import VertexBackend

from components.errors import BadInputError, GateRejectedError
from components.example_gen.source import find_source
from components.gates.verdict import read_verdict
from components.outcomes import NodeState, Outcome
from pipeline.cli.main import cli
from pipeline.config.config import Config, override
from pipeline.config.presets import make_config
from pipeline.run.record import NodeRun, Request
from pipeline.runners.compile import compile_for, edges_of, make_structure
from pipeline.runners.node import repeat
from pipeline.runners.parameters import parameters_of
from pipeline.runners.steps import Ended, Steps
from pipeline.runners.vertex import constants_of, fill, key_of
from pipeline.runners.vertex_step import Mount, run_vertex_node
from pipeline.workspace.place import open_workspace

pytestmark = pytest.mark.stack

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


def tasks_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec["components"]["run"]["dag"]["tasks"], "finish": spec["root"]["dag"]["tasks"]["finish"]}


def container(spec: dict[str, Any], node: str) -> dict[str, Any]:
    return spec["deploymentSpec"]["executors"][f"{node}_executor"]["container"]


def test_the_file_says_what_is_kept_of_it(spec: dict[str, Any]) -> None:
    steps = {}
    for name, task in tasks_of(spec).items():
        given, inputs = container(spec, name), task.get("inputs", {}).get("artifacts", {})
        own, _, tfx = " ".join(given["args"]).partition(" -- ")
        steps[name] = given | {
            "command": [part for part in given["command"] if part != name],
            "args": own.split(),
            # Between the two TFX writes the types of what the node reads.
            "executor": tfx.split()[1:2],
            "beam": [part for part in tfx.split() if re.match(r"--\w+=", part)],
            "after": task.get("dependentTasks"),
            "reads": {key: "{producerTask}.{outputArtifactKey}".format(**item["taskOutputArtifact"])
                      for key, item in inputs.items()},
            "retries": task["retryPolicy"],
            "trigger": task.get("triggerPolicy"),
        }  # fmt: skip
    check_golden("vertex.yaml", spec["root"]["inputDefinitions"]["parameters"], steps)


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
    tasks = tasks_of(spec)
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


def test_a_step_that_is_killed_on_its_second_try_is_not_told_with_the_reason_of_the_first(tmp_path: Path) -> None:
    steps = Steps(tmp_path, "job-1")
    steps.start("Trainer")
    steps.end(Ended(NodeRun("Trainer", NodeState.FAILED), Outcome.FAILED, None, ("the disk is full",)))
    assert steps.ended("Trainer").reasons == ("the disk is full",)  # type: ignore[union-attr]
    steps.start("Trainer")
    assert steps.started("Trainer")
    assert steps.ended("Trainer") is None


def test_a_step_is_repeated_unless_it_ended_well_or_its_gate_has_said_no(tmp_path: Path) -> None:
    """An orchestrator retries whatever fails, and a gate would say the same again."""
    steps = Steps(tmp_path, "job-1")
    assert repeat(steps, "DataGate") is None
    steps.end(Ended(NodeRun("DataGate", NodeState.FAILED), Outcome.FAILED, None, ("the disk is full",)))
    assert repeat(steps, "DataGate") is None
    steps.end(Ended(NodeRun("DataGate", NodeState.FAILED), Outcome.REJECTED, "DataGate", ("half is empty",)))
    with pytest.raises(GateRejectedError, match="DataGate: half is empty"):
        repeat(steps, "DataGate")
    ran = NodeRun("DataGate", NodeState.RAN)
    steps.end(Ended(ran))
    assert repeat(steps, "DataGate") == ran


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
    # What keeps a step from being kept is told as the reason, and not that the step was killed.
    shutil.rmtree(cloud.workspace / "step-cache")
    (cloud.workspace / "step-cache").touch()
    with pytest.raises(FileExistsError):
        cloud.run("job-4", {"begin", "ImportSchema"}, reuse=False)
    (reason,) = cloud.result("job-4")["reasons"]
    assert "File exists" in reason


def test_a_node_is_answered_if_nothing_has_changed_and_its_outputs_are_there(
    cloud: Cloud, make_data: Callable[..., Path]
) -> None:
    def state_of_the_schema(job: str, data: Path) -> str:
        cloud.run(job, {"begin", "ImportSchema"}, data=str(data))
        return {node["id"]: node["state"] for node in cloud.result(job)["nodes"]}["ImportSchema"]

    others = make_data(name="five classes")
    (others / "classes.txt").write_text("World\nSports\nBusiness\nScience\nWeather\n")
    assert [state_of_the_schema(f"job-{number}", cloud.data) for number in (1, 2)] == ["ran", "cached"]
    assert state_of_the_schema("job-3", others) == "ran"
    shutil.rmtree(cloud.storage / "bucket/pipelines/job-1/ImportSchema")
    assert state_of_the_schema("job-4", cloud.data) == "ran"


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
    kept = json.loads((cloud.workspace / "runs/job-2/nodes/ModelGate.json").read_text())["outputs"]["verdict"]["uri"]
    assert not read_verdict(kept).passed
    page = (cloud.workspace / "reports" / rejected["run_id"] / "index.html").read_text()
    assert "Rejected by ModelGate" in page
