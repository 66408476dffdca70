"""What a target cannot run is refused by name and reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.components import InfraValidator
from tfx.components.example_gen.import_example_gen.component import ImportExampleGen
from tfx.components.trainer.component import Trainer
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.span_range_strategy import SpanRangeStrategy
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import infra_validator_pb2, range_config_pb2, trainer_pb2
from tfx.types import Channel, artifact, standard_artifacts

from components.errors import BadInputError
from pipeline.config import override
from pipeline.presets import make_config
from pipeline.runners.lint import Problem, lint, refuse
from pipeline.runners.structure import make_structure

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
    """Can be imported by name."""


def local_node() -> Any:
    class Local(artifact.Artifact):
        TYPE_NAME = "local.Local"

    node = Fine()
    node.outputs["examples"].type = Local
    return node


def problems(*nodes: Any, target: str = "kubeflow", **settings: str) -> list[Problem]:
    config = override(make_config("sample"), {**(READY if target == "kubeflow" else ON_VERTEX), **settings})
    return lint(Pipeline("x", "/nonexistent", components=list(nodes)), config, target)  # type: ignore[arg-type]


def trainer(**more: Any) -> Any:
    return Trainer(
        examples=Channel(type=standard_artifacts.Examples),
        train_args=trainer_pb2.TrainArgs(),
        eval_args=trainer_pb2.EvalArgs(),
        **more,
    )


def infra_validator() -> Any:
    return InfraValidator(
        model=Channel(type=standard_artifacts.Model),
        serving_spec=infra_validator_pb2.ServingSpec(
            tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["latest"]),
            local_docker=infra_validator_pb2.LocalDockerConfig(),
        ),
    )


def spans() -> Any:
    return Resolver(
        strategy_class=SpanRangeStrategy,
        config={"range_config": range_config_pb2.RangeConfig(rolling_range=range_config_pb2.RollingRange(num_spans=2))},
        examples=Channel(type=standard_artifacts.Examples),
    ).with_id("Spans")


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
    assert problems(Fine(), target=target, **{"orchestrator.resources": "{}", **engine}) == []


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
@pytest.mark.parametrize(
    ("make", "node", "reason"),
    [
        (infra_validator, "InfraValidator", "starts a container of its own"),
        (lambda: trainer(module_file="trainer.py"), "Trainer", "module_file builds and installs a package"),
        (local_node, "Fine", "cannot be imported by name"),
        (lambda: Fine().with_id("Begin"), "Begin", "begin is a step of its own"),
    ],
)
def test_a_node_that_no_target_runs_is_named(target: str, make: Any, node: str, reason: str) -> None:
    (problem,) = problems(make(), target=target, **{"orchestrator.resources": "{}"})
    assert (problem.node, problem.deployment) == (node, False)
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("make", "node", "reason"),
    [
        (spans, "Spans", "Vertex knows no resolver strategy SpanRangeStrategy"),
        (lambda: ImportExampleGen(input_base="/x"), "ImportExampleGen", "does not call a driver of its own"),
    ],
)
def test_what_only_vertex_cannot_run_is_refused_there(make: Any, node: str, reason: str) -> None:
    found = problems(make(), target="vertex", **{"orchestrator.resources": "{}"})
    assert [(item.node, reason in item.reason) for item in found] == [(node, True)]
    assert problems(make(), **{"orchestrator.resources": "{}"}) == []


def test_vertex_takes_no_artifact_type_that_its_steps_cannot_find() -> None:
    for name, known in (("Unspaced", False), ("newsdesk.Unknown", False), ("elsewhere.Named", True)):
        node = Fine()
        node.outputs["examples"].type = type("Module", (artifact.Artifact,), {"TYPE_NAME": name})
        found = problems(node, target="vertex", **{"orchestrator.resources": "{}"})
        assert (f"Fine: Vertex takes no artifact type {name}" in " ".join(map(str, found))) != known


def test_vertex_takes_a_resolver_of_the_latest() -> None:
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=Channel(type=standard_artifacts.Model))
    assert problems(latest, target="vertex", **{"orchestrator.resources": "{}"}) == []


def test_two_nodes_with_one_name_in_the_file() -> None:
    (problem,) = problems(Fine(), Fine().with_id("fine"), **{"orchestrator.resources": "{}"})
    assert problem.node == "fine"
    assert "cannot tell it from Fine" in problem.reason


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
    (problem,) = problems(Fine(), target=target, **{"orchestrator.resources": "{}", **settings})
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
    (problem,) = problems(Fine(), target=target, **{"orchestrator.resources": "{}", **settings})
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
