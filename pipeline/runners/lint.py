"""Refuses settings that a target cannot run, before anything is submitted.

Only the configuration is looked at: that both targets can run every node of the graph is for the tests to show.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.errors import BadInputError, nearest
from pipeline.config.config import Config
from pipeline.config.orchestrator import DEFAULT

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import Pipeline

Target = Literal["kubeflow", "vertex"]
KUBEFLOW = "kubeflow"
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_VERTEX_ACCELERATOR = re.compile(r"[A-Z][A-Z0-9_]+")
_BUCKET = r"[a-z0-9][a-z0-9._-]+(/.*)?"
_ADDRESS, _PATH = re.compile(rf"gs://{_BUCKET}"), re.compile(rf"/gcs/{_BUCKET}")


@dataclass(frozen=True)
class Problem:
    """Why a target cannot run the graph.

    Attributes:
        reason: A clause that says what to do.
        node: Node whose setting it is; None for a setting of the whole run.
        deployment: Whether only the place where the graph runs is not named yet, so that the file may be written.
    """

    reason: str
    node: str | None = None
    deployment: bool = False

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" if self.node else self.reason


def lint(pipeline: "Pipeline", config: Config, target: Target) -> list[Problem]:
    """Returns everything that stands in the way of a target, worst first."""
    return sorted(_settings(pipeline, config, target), key=lambda problem: problem.deployment)


def refuse(problems: list[Problem], target: Target) -> None:
    """Raises ``BadInputError`` where there is a problem."""
    if problems:
        raise BadInputError(f"{target} cannot run this: " + "; ".join(map(str, problems)))


def _settings(pipeline: "Pipeline", config: Config, target: Target) -> Iterator[Problem]:
    settings = config.orchestrator
    nodes = [*(node.id for node in pipeline.components), "begin", "finish"]
    for name in settings.resources:
        if name != DEFAULT and name not in nodes:
            yield Problem(
                f"orchestrator.resources names it but the graph has none: did you mean {nearest(name, nodes)}?", name
            )
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
    if beam.image and not _DIGEST.fullmatch(beam.image):
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
        if not _PATH.fullmatch(place):
            yield Problem(f"orchestrator.{key}={place} is lost with each step: set /gcs/BUCKET/PATH", deployment=True)
    if not _ADDRESS.fullmatch(settings.bucket or ""):
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
