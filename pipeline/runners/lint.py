"""Refuses what a target cannot run, before anything is submitted."""

import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tfx.components.infra_validator.component import InfraValidator
from tfx.dsl.component.experimental import executor_specs
from tfx.dsl.components.base import base_driver, executor_spec
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.utils import import_utils, name_utils

from components.errors import BadInputError
from pipeline.config import Config
from pipeline.orchestrator import DEFAULT
from pipeline.runners.parameters import slug
from pipeline.runners.titles import PREFIX, class_of

Target = Literal["kubeflow", "vertex"]
KUBEFLOW, VERTEX = "kubeflow", "vertex"
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_STEPS = ("begin", "finish", "run")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_VERTEX_ACCELERATOR = re.compile(r"[A-Z][A-Z0-9_]+")
_GCS = re.compile(r"(/gcs/|gs://)[a-z0-9][a-z0-9._-]+(/.*)?")


@dataclass(frozen=True)
class Problem:
    """Why a target cannot run the graph.

    Attributes:
        reason: A clause that says what to do.
        node: Whose; None where it concerns all of them.
        deployment: Whether only the place where it runs is not named yet, so that the file may be written.
    """

    reason: str
    node: str | None = None
    deployment: bool = False

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" if self.node else self.reason


def lint(pipeline: Pipeline, config: Config, target: Target) -> list[Problem]:
    """Returns everything that stands in the way of a target, worst first."""
    found = [*_nodes(pipeline, target), *_settings(pipeline, config, target)]
    return sorted(found, key=lambda problem: problem.deployment)


def refuse(problems: list[Problem], target: Target) -> None:
    """Raises ``BadInputError`` where there is a problem."""
    if problems:
        raise BadInputError(f"{target} cannot run this: " + "; ".join(map(str, problems)))


def _nodes(pipeline: Pipeline, target: Target) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for node in pipeline.components:
        name = slug(node.id)
        if name in _STEPS:
            yield Problem(f"{name} is a step of its own: give the node another id", node.id)
        if name in seen:
            yield Problem(f"{target} cannot tell it from {seen[name]}: give one of them another id", node.id)
        seen[name] = node.id
        for reason in _refusals(node, target):
            yield Problem(reason, node.id)


def _refusals(node: Any, target: Target) -> Iterator[str]:
    if isinstance(node, InfraValidator):
        yield "InfraValidator starts a container of its own, which a step may not: use the ServingGate"
        return
    if isinstance(node, resolver.Resolver):
        strategy = node.exec_properties[resolver.RESOLVER_STRATEGY_CLASS]
        if target == VERTEX and strategy not in (LatestArtifactStrategy, LatestBlessedModelStrategy):
            yield f"Vertex knows no resolver strategy {strategy.__name__}: decide it in begin"
        return
    if isinstance(node.executor_spec, executor_specs.TemplatedExecutorContainerSpec):
        yield "an image of its own cannot be started from within a step: make it a Python executor"
        return
    if getattr(node, "driver_class", base_driver.BaseDriver) is not base_driver.BaseDriver and target == VERTEX:
        yield "Vertex does not call a driver of its own: decide in begin what it decides"
    if node.exec_properties.get("module_file") or node.exec_properties.get("module_path"):
        yield "module_file builds and installs a package in every step: name the function by its dotted path"
    for channel in node.outputs.values():
        if target == VERTEX and not _vertex_knows(channel.type):
            name = channel.type.TYPE_NAME
            yield f"Vertex takes no artifact type {name}: call it {PREFIX}NAME, in components.artifacts"
    for role, found in _classes(node):
        if not _importable(found):
            yield f"its {role} {found.__qualname__} cannot be imported by name in the image: define it in a module"


def _classes(node: Any) -> Iterator[tuple[str, type]]:
    if isinstance(node.executor_spec, executor_spec.ExecutorClassSpec):
        yield "executor", node.executor_spec.executor_class
    for channel in (*node.inputs.values(), *node.outputs.values()):
        yield "artifact type", channel.type


def _vertex_knows(found: Any) -> bool:
    try:
        compiler_utils.get_artifact_schema(found)
    except ValueError:
        return False
    own = found.TYPE_NAME.removeprefix(PREFIX) if found.TYPE_NAME.startswith(PREFIX) else None
    return own is None or found is class_of(own)


def _importable(found: type) -> bool:
    if found.__module__ == "__main__" or not inspect.isclass(found):
        return False
    try:
        return import_utils.import_class_by_path(name_utils.get_full_name(found)) is found
    except (AttributeError, ImportError, ValueError):
        return False


def _settings(pipeline: Pipeline, config: Config, target: Target) -> Iterator[Problem]:
    settings = config.orchestrator
    nodes = [*(node.id for node in pipeline.components), "begin", "finish"]
    for name in settings.resources:
        if name != DEFAULT and name not in nodes:
            near = difflib.get_close_matches(name, nodes, n=1, cutoff=0.0)[0]
            yield Problem(f"orchestrator.resources names it but the graph has none: did you mean {near}?", name)
    if not _NAME.fullmatch(slug(config.name)):
        yield Problem(f"name {config.name!r} leaves no name that {target} takes: set another")
    if not settings.image or not _DIGEST.fullmatch(settings.image):
        yield Problem("no image by digest: name it with --image NAME@sha256:DIGEST", deployment=True)
    yield from _engine(config, target)
    yield from (_kubeflow if target == KUBEFLOW else _vertex)(config)


def _engine(config: Config, target: Target) -> Iterator[Problem]:
    beam = config.beam
    if beam.profile == "in-memory":
        return
    if beam.workers == "loopback":
        yield Problem(
            "beam.workers=loopback is the step itself, which no engine outside reaches: set docker or external"
        )
    elif beam.is_near:
        yield Problem(f"beam.job_endpoint={beam.job_endpoint} is within the step: name the job server's own address")
    if beam.image and beam.needs_image and not _DIGEST.fullmatch(beam.image):
        yield Problem(f"beam.image={beam.image} may change between steps: name it NAME@sha256:DIGEST", deployment=True)
    if beam.profile != "dataflow":
        return
    if target == KUBEFLOW:
        yield Problem("Dataflow's workers cannot mount the volume that steps share: set beam.profile=flink or spark")
    elif not (config.data.directory or config.orchestrator.data).startswith("gs://"):
        yield Problem("Dataflow's workers mount no /gcs: set orchestrator.data=gs://BUCKET/PATH", deployment=True)


def _kubeflow(config: Config) -> Iterator[Problem]:
    settings = config.orchestrator
    if not settings.claim:
        yield Problem("steps share no volume: set orchestrator.claim to a ReadWriteMany claim", deployment=True)
    for key, place in (("workspace", settings.workspace), ("cache", settings.cache)):
        if settings.claim and not f"{place}/".startswith(f"{settings.mount.rstrip('/')}/"):
            yield Problem(f"orchestrator.{key}={place} is not below the shared volume at {settings.mount}")
    for name, resources in settings.resources.items():
        if resources.accelerator and "/" not in resources.accelerator:
            yield Problem(f"accelerator {resources.accelerator!r}: Kubernetes names them like nvidia.com/gpu", name)


def _vertex(config: Config) -> Iterator[Problem]:
    settings = config.orchestrator
    if settings.metadata or config.stores.metadata:
        yield Problem("Vertex keeps its own metadata: leave stores.metadata and orchestrator.metadata at none")
    for key, place in (("workspace", settings.workspace), ("cache", settings.cache)):
        if not place.startswith("/gcs/") or not _GCS.fullmatch(place):
            yield Problem(f"orchestrator.{key}={place} is lost with each step: set /gcs/BUCKET/PATH", deployment=True)
    if not settings.bucket or not settings.bucket.startswith("gs://") or not _GCS.fullmatch(settings.bucket):
        yield Problem("no place for outputs: set orchestrator.bucket=gs://BUCKET/PATH", deployment=True)
    tracking = settings.environment.get("MLFLOW_TRACKING_URI") or config.stores.tracking or ""
    if not tracking.startswith("http"):
        yield Problem(
            'MLflow needs a server here: set orchestrator.environment={"MLFLOW_TRACKING_URI": "https://..."}',
            deployment=True,
        )
    if settings.secrets and not settings.project:
        yield Problem("secrets are kept in a project: set orchestrator.project")
    for name, resources in settings.resources.items():
        if resources.accelerator and not _VERTEX_ACCELERATOR.fullmatch(resources.accelerator):
            yield Problem(f"accelerator {resources.accelerator!r}: Vertex names them like NVIDIA_TESLA_T4", name)
