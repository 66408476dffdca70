"""Settings that a target cannot run are refused by name and reason, and the graph holds no node that it cannot."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.components.example_gen.import_example_gen.component import ImportExampleGen
from tfx.components.trainer.component import Trainer
from tfx.dsl.component.experimental import executor_specs
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.container_component import create_container_component
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import base_driver
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2
from tfx.types import Channel, artifact, standard_artifacts
from tfx.utils import import_utils, name_utils

from components.errors import BadInputError
from pipeline.config.config import override
from pipeline.config.presets import make_config
from pipeline.runners.compile import make_structure
from pipeline.runners.lint import Problem, lint, refuse
from pipeline.runners.parameters import slug
from pipeline.runners.vertex_step import PREFIX, class_of

pytestmark = pytest.mark.stack

DIGEST = "newsdesk@sha256:" + "a" * 64
READY = {
    "orchestrator.image": DIGEST,
    "orchestrator.claim": "newsdesk",
    "orchestrator.bucket": "gs://bucket/pipelines",
    "orchestrator.workspace": "/data/workspace",
}
ON_VERTEX = {
    **READY,
    "orchestrator.workspace": "/gcs/bucket/workspace",
    "orchestrator.cache": "/gcs/bucket/cache",
    "orchestrator.environment": json.dumps({"MLFLOW_TRACKING_URI": "https://mlflow.example"}),
}

FLINK = {"beam.profile": "flink", "beam.job_endpoint": "flink-jobs.flink:8099"}
DATAFLOW = {
    "beam.profile": "dataflow",
    "beam.project": "p",
    "beam.region": "europe-west4",
    "beam.temp": "gs://bucket/temp",
}


@component
def Fine(examples: OutputArtifact[standard_artifacts.Examples]) -> None:
    """A node that both targets run."""


def problems(target: str = "kubeflow", **settings: str) -> list[Problem]:
    given = {**(READY if target == "kubeflow" else ON_VERTEX), "orchestrator.resources": "{}", **settings}
    config = override(make_config("sample"), given)
    return lint(Pipeline("x", "/nonexistent", components=[Fine()]), config, target)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_our_graph_runs_everywhere(target: str) -> None:
    config = override(make_config("sample"), READY if target == "kubeflow" else ON_VERTEX)
    assert lint(make_structure(config), config, target) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "engine"),
    [
        ("kubeflow", FLINK),
        ("vertex", {**FLINK, "beam.profile": "spark"}),
        ("vertex", {**DATAFLOW, "orchestrator.data": "gs://b/d"}),
    ],
)
def test_an_engine_that_the_steps_can_reach(target: str, engine: dict[str, str]) -> None:
    assert problems(target, **engine) == []


@pytest.fixture(scope="module")
def nodes() -> list[Any]:
    return list(make_structure(make_config("sample")).components)


def unfit(node: Any) -> str | None:
    """Returns why an orchestrator cannot run a node; None if both can."""
    if isinstance(node, Resolver):
        return "a resolver"
    if isinstance(node.executor_spec, executor_specs.TemplatedExecutorContainerSpec):
        return "starts a container, which a step may not"
    if node.driver_class is not base_driver.BaseDriver:
        return "has a driver of its own, which Vertex does not call"
    if node.exec_properties.get("module_file"):
        return "has a module file, which each step would install again"
    types = [channel.type for channel in (*node.inputs.values(), *node.outputs.values())]
    for found in (node.executor_spec.executor_class, *types):
        if not is_found_by_name(found):
            return f"{found.__name__} cannot be imported by its name"
    for found in types:
        name = found.TYPE_NAME
        if not schema_of(found) or (name.startswith(PREFIX) and class_of(name.removeprefix(PREFIX)) is not found):
            return f"Vertex knows no type {name}"
    return None


def is_found_by_name(found: type) -> bool:
    try:
        return import_utils.import_class_by_path(name_utils.get_full_name(found)) is found
    except (AttributeError, ImportError, ValueError):
        return False


def schema_of(found: type) -> str | None:
    try:
        return compiler_utils.get_artifact_schema(found)
    except ValueError:
        return None


def same_in_a_file(ids: list[str]) -> set[str]:
    """Returns the names that two nodes share, or that a node shares with a step of the file's own."""
    counts = Counter([*map(slug, ids), "begin", "finish", "run"])
    return {name for name, count in counts.items() if count > 1}


def test_both_targets_run_every_node_of_the_graph(nodes: list[Any]) -> None:
    assert {node.id: unfit(node) for node in nodes} == {node.id: None for node in nodes}
    assert same_in_a_file([node.id for node in nodes]) == set()


def container() -> Any:
    return create_container_component(name="Container", image="busybox", command=["true"])()


def trainer() -> Any:
    examples = Channel(type=standard_artifacts.Examples)
    return Trainer(
        examples=examples,
        module_file="trainer.py",
        train_args=trainer_pb2.TrainArgs(),
        eval_args=trainer_pb2.EvalArgs(),
    )


def with_type(kind: type) -> Any:
    node = Fine()
    node.outputs["examples"].type = kind
    return node


def local_type() -> Any:
    class Local(artifact.Artifact):
        TYPE_NAME = "local.Local"

    return with_type(Local)


class Unknown(artifact.Artifact):
    """Named like the project's own types, and none of them."""

    TYPE_NAME = f"{PREFIX}Unknown"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Resolver(strategy_class=LatestArtifactStrategy), "a resolver"),
        (container, "starts a container"),
        (lambda: ImportExampleGen(input_base="/x"), "a driver of its own"),
        (trainer, "a module file"),
        (local_type, "Local cannot be imported by its name"),
        (lambda: with_type(Unknown), "Vertex knows no type"),
    ],
)
def test_a_node_that_not_both_targets_run_is_told(make: Callable[[], Any], reason: str) -> None:
    assert reason in str(unfit(make()))
    assert unfit(Fine()) is None


@pytest.mark.parametrize(
    ("ids", "same"), [(["Fine", "fine"], {"fine"}), (["Begin"], {"begin"}), (["Fine", "Begun"], set())]
)
def test_names_that_a_file_cannot_tell_apart_are_told(ids: list[str], same: set[str]) -> None:
    assert same_in_a_file(ids) == same


@pytest.mark.parametrize(
    ("target", "settings", "node", "reason"),
    [
        ("kubeflow", {"orchestrator.resources": '{"Fien": {}}'}, "Fien", "did you mean Fine?"),
        ("kubeflow", {"orchestrator.resources": '{"Fine": {"accelerator": "NVIDIA_L4"}}'}, "Fine", "nvidia.com/gpu"),
        ("vertex", {"orchestrator.resources": '{"Fine": {"accelerator": "nvidia.com/gpu"}}'}, "Fine", "NVIDIA_TESLA"),
        ("kubeflow", {"orchestrator.workspace": "/elsewhere"}, None, "is not below the shared volume at /data"),
        ("vertex", {"orchestrator.metadata": "sqlite:////x"}, None, "keeps its own metadata"),
        ("vertex", {"orchestrator.secrets": '{"A": "b/c"}'}, None, "set orchestrator.project"),
        ("kubeflow", {**FLINK, "beam.job_endpoint": "localhost:8099"}, None, "name the job server's own address"),
        (
            "vertex",
            {**FLINK, "beam.job_endpoint": "127.0.0.1:8099", "beam.workers": "loopback"},
            None,
            "the step itself",
        ),
        ("kubeflow", DATAFLOW, None, "Dataflow's workers cannot mount the volume"),
    ],
)
def test_a_setting_that_the_target_does_not_take(target: str, settings: Any, node: str | None, reason: str) -> None:
    (problem,) = problems(target, **settings)
    assert (problem.node, problem.deployment) == (node, False)
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("target", "settings", "reason"),
    [
        ("kubeflow", {"orchestrator.image": "newsdesk:latest"}, "no image by digest"),
        ("kubeflow", {"orchestrator.claim": "none"}, "share no volume"),
        ("vertex", {"orchestrator.image": "none"}, "no image by digest"),
        ("vertex", {"orchestrator.workspace": "/data/workspace"}, "is lost with each step"),
        ("vertex", {"orchestrator.bucket": "none"}, "no place for outputs"),
        ("vertex", {"orchestrator.environment": "{}"}, "MLflow needs a server"),
        ("vertex", DATAFLOW, "set orchestrator.data=gs://BUCKET/PATH"),
        ("kubeflow", {**FLINK, "beam.image": "newsdesk:1"}, "beam.image=newsdesk:1 may change between steps"),
    ],
)
def test_what_a_file_may_lack_but_a_run_may_not(target: str, settings: Any, reason: str) -> None:
    (problem,) = problems(target, **settings)
    assert problem.deployment
    assert reason in problem.reason


def test_a_refusal_names_every_node_and_reason() -> None:
    with pytest.raises(BadInputError, match="vertex cannot run this: A: because; for all"):
        refuse([Problem("because", "A"), Problem("for all")], "vertex")
    refuse([], "vertex")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("environment", {"MLFLOW_TRACKING_TOKEN": "s3cr3t"}, "looks like a secret"),
        ("environment", {"MLFLOW_TRACKING_URI": "https://me:s3cr3t@host"}, "looks like a secret"),
        ("secrets", {"TOKEN": "s3cr3t"}, "must be NAME/KEY"),
        ("secrets", {"a b": "x/y"}, "is no name of an environment variable"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(key: str, value: dict[str, str], message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        override(make_config("sample"), {f"orchestrator.{key}": json.dumps(value)})
    assert "s3cr3t" not in str(caught.value)


def test_the_structure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "ExampleGen" in [node.id for node in make_structure(make_config("sample")).components]
    assert list(tmp_path.iterdir()) == []
    assert not Path("/nonexistent").exists()
