"""What an orchestrator is told about the run's containers: image, resources, retries, environment, places."""

import re
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from components.settings import Settings, Texts, parse_table
from pipeline.workspace.stores import PASSWORD, find_server

DEFAULT = "default"
"""Stands in ``resources`` for every node that has no entry of its own."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|CREDENTIAL|API_?KEY", re.IGNORECASE)


class Resources(Settings):
    """What one container is given."""

    cpu: float = Field(2, gt=0, description="cores")
    memory_gib: float = Field(8, gt=0)
    accelerator: str | None = Field(None, description="as the target names it: nvidia.com/gpu, NVIDIA_TESLA_T4")
    accelerators: int = Field(1, ge=1, description="how many of them")


class OrchestratorConfig(Settings):
    """Where and how an orchestrator runs the nodes; none of it changes what they compute.

    ``secrets`` names, for a variable, where its value is kept: ``NAME/KEY`` of a Kubernetes Secret, ``NAME/VERSION``
    (such as ``latest``) in Secret Manager for Vertex. No value of a secret stands in a compiled file.
    """

    secrets_go: ClassVar = {
        "environment": "name where what looks like a secret is kept, in secrets",
        "metadata": f"name {PASSWORD} in secrets",
    }
    image: str | None = Field(None, description="NAME@sha256:DIGEST; one for every node")
    resources: Annotated[dict[str, Resources], BeforeValidator(parse_table)] = Field(
        default={DEFAULT: Resources(), "Trainer": Resources(cpu=4, memory_gib=16)},
        description="by node; default for the others",
    )
    retries: int = Field(2, ge=0, le=10, description="of a step that failed")
    backoff_seconds: int = Field(30, ge=0, le=3600, description="before the first retry; doubled each time")
    environment: Texts = Field(default={}, description="of every step")
    secrets: Texts = Field(default={}, description="variable to NAME/KEY")
    workspace: str = Field("/data/workspace", description="of all steps; on Vertex below /gcs/BUCKET")
    cache: str = Field("/data/cache", description="where steps find downloads")
    data: str = Field("/data/feed", description="default of the parameter data")
    metadata: str | None = Field(None, description="URI of the store that steps reach; None for stores.metadata")
    claim: str | None = Field(None, description="Kubernetes volume claim (ReadWriteMany) that all steps share")
    mount: str = Field("/data", pattern=r"^/[^\s]+$", description="where the claim is mounted")
    endpoint: str | None = Field(None, description="of Kubeflow Pipelines; None for KF_PIPELINES_ENDPOINT")
    namespace: str | None = Field(None, description="of Kubeflow, where it is shared by several")
    server_time_zone: str = Field("UTC", description="CRON_SCHEDULE_TIMEZONE of the Kubeflow server")
    project: str | None = Field(None, description="Google Cloud project of Vertex; None for GOOGLE_CLOUD_PROJECT")
    region: str = Field("europe-west4", description="of Vertex")
    bucket: str | None = Field(None, description="gs://BUCKET/PATH, where Vertex keeps the outputs of nodes")
    service_account: str | None = Field(None, description="that steps run as")

    @model_validator(mode="after")
    def _no_secret_in_sight(self) -> "OrchestratorConfig":
        for name in (*self.environment, *self.secrets):
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an environment variable")
        for name in self.environment:
            if _SECRET_NAME.search(name):
                raise ValueError(f"environment {name} looks like a secret: name where it is kept, in secrets")
        if self.metadata:
            find_server(self.metadata)
        for name, kept in self.secrets.items():
            if not _SECRET.fullmatch(kept):
                raise ValueError(f"secrets {name} must be NAME/KEY, where the secret is kept, and not the secret")
        return self

    def of(self, node: str) -> Resources:
        """Returns what a node's container is given."""
        return self.resources.get(node) or self.resources.get(DEFAULT) or Resources()
