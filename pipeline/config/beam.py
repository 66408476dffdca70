"""On which engine the nodes' data work is done: the profiles, and what Beam is told for each."""

import re
from typing import Literal

from pydantic import Field, model_validator

from components.errors import BadInputError
from components.settings import Settings, Texts

Profile = Literal["in-memory", "flink", "spark", "dataflow"]
IN_PROCESS = "in-process"
"""Stands for an image where there is none: TFX builds a package of itself for every step unless one is named."""
_ENDPOINT = r"^[A-Za-z0-9._-]+:[0-9]{1,5}$"
_GCS = r"^gs://[a-z0-9][a-z0-9._-]+(/[^\s]*)?$"
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_LOCAL = ("localhost", "127.0.0.1")
# What each profile needs, and what it may be given beside that.
_PORTABLE = (("job_endpoint",), ("workers", "worker_pool", "image"))
_TAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "in-memory": ((), ()),
    "flink": (_PORTABLE[0], (*_PORTABLE[1], "parallelism")),
    "spark": _PORTABLE,
    "dataflow": (("project", "region", "temp"), ("staging", "image")),
}
# Options of Beam's that a setting decides; naming them twice would leave open which one counts.
_DECIDED = {
    "runner": "profile",
    "job_endpoint": "job_endpoint",
    "environment_type": "workers",
    "environment_config": "worker_pool",
    "environment_options": "workers",
    "sdk_container_image": "image",
    "parallelism": "parallelism",
    "project": "project",
    "region": "region",
    "temp_location": "temp",
    "staging_location": "staging",
}


class BeamConfig(Settings):
    """The engine, and where its parts are found. It changes where rows are computed, not what is computed."""

    profile: Profile = Field("in-memory", description="in-memory: this process; else the engine")
    job_endpoint: str | None = Field(None, pattern=_ENDPOINT, description="HOST:PORT of Beam's job server")
    workers: Literal["docker", "external", "loopback"] = Field(
        "docker", description="containers that the engine starts, a pool of them that runs, or this process"
    )
    worker_pool: str | None = Field(None, pattern=_ENDPOINT, description="HOST:PORT of the pool of external workers")
    image: str | None = Field(None, pattern=r"^[^\s]+$", description="of the workers; None for orchestrator.image")
    parallelism: int | None = Field(None, ge=1, description="of Flink; None for what its cluster says")
    project: str | None = Field(None, pattern=r"^[^\s]+$", description="Google Cloud project that Dataflow runs in")
    region: str | None = Field(None, pattern=r"^[^\s]+$", description="of Dataflow")
    temp: str | None = Field(None, pattern=_GCS, description="gs://BUCKET/PATH for Dataflow's temporary files")
    staging: str | None = Field(None, pattern=_GCS, description="for what Dataflow stages; None for beam.temp")
    options: Texts = Field(default={}, description="further options of Beam's, by name without dashes")

    @model_validator(mode="after")
    def _goes_together(self) -> "BeamConfig":
        needs, takes = _TAKES[self.profile]
        for name in needs:
            if getattr(self, name) is None:
                field = type(self).model_fields[name]
                raise ValueError(f"the profile {self.profile} needs beam.{name}: {field.description}")
        for name, field in type(self).model_fields.items():
            if name not in ("profile", "options", *needs, *takes) and getattr(self, name) != field.default:
                raise ValueError(f"beam.{name} means nothing to the profile {self.profile}: leave it out")
        self._check_workers()
        for name in self.options:
            if not _OPTION.fullmatch(name):
                raise ValueError(f"beam.options takes names of Beam's options without dashes, not {name!r}")
            if name in _DECIDED:
                raise ValueError(f"beam.options names {name}, which beam.{_DECIDED[name]} decides: set that")
        return self

    def _check_workers(self) -> None:
        if (self.workers == "external") != (self.worker_pool is not None):
            raise ValueError("beam.workers=external and beam.worker_pool go together: set both or neither")
        if self.workers == "docker":
            return
        if self.image:
            raise ValueError(f"beam.image is for workers in containers, not for beam.workers={self.workers}")
        if self.workers == "loopback" and not self.is_near:
            raise ValueError("workers=loopback is this process, which only a job server at localhost can reach")

    @property
    def is_near(self) -> bool:
        """Whether the job server is named as one on this machine."""
        return self.job_endpoint is not None and self.job_endpoint.partition(":")[0] in _LOCAL

    @property
    def needs_image(self) -> bool:
        """Whether workers are containers."""
        return self.profile == "dataflow" or (self.profile != "in-memory" and self.workers == "docker")


def beam_args(beam: BeamConfig, default_image: str | None = None) -> list[str]:
    """Returns the options that Beam is given, each ``--name=value``.

    Nothing is packaged or installed when a job starts: workers are this process or have an image with everything.

    Args:
        beam: Settings.
        default_image: Of workers in containers, where ``beam.image`` names none: that of the orchestrator's steps.

    Raises:
        BadInputError: Workers are containers and no image is named.
    """
    image = beam.image or default_image
    if beam.needs_image and not image:
        raise BadInputError(
            f"the workers of {beam.profile} are containers of an image: name it with beam.image, or orchestrator.image"
        )
    given = {"in-memory": _in_memory, "flink": _portable, "spark": _portable, "dataflow": _dataflow}[beam.profile](
        beam, image if beam.needs_image and image else IN_PROCESS
    )
    # What newer Beam releases choose; the default of older ones takes up to a second per job more.
    options = {"pickle_library": "cloudpickle"} | given | beam.options
    return [f"--{name}={value}" for name, value in options.items()]


def check_local(beam: BeamConfig, default_image: str | None = None) -> None:
    """Refuses a profile with which a run that starts here, on a workspace here, cannot work.

    Raises:
        BadInputError: Its workers see no workspace of this machine, or no image is named for them.
    """
    if beam.profile == "dataflow":
        raise BadInputError(
            "Dataflow's workers see no workspace on this machine: choose another beam.profile, or compile for vertex"
        )
    beam_args(beam, default_image)


def _in_memory(beam: BeamConfig, image: str) -> dict[str, str]:
    # The short name of the runner is missing from older Beam releases, and Beam 2.68 and later try to download
    # another runner first.
    return {
        "runner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "direct_running_mode": "in_memory",
        "direct_num_workers": "1",
        "sdk_container_image": image,
    }


def _portable(beam: BeamConfig, image: str) -> dict[str, str]:
    # Both engines are reached through Beam's job server, which knows its cluster. Beam's own FlinkRunner and
    # SparkRunner would download one.
    given = {
        "runner": "PortableRunner",
        "job_endpoint": str(beam.job_endpoint),
        "environment_type": beam.workers.upper(),
        "sdk_container_image": image,
    }
    if beam.workers == "docker":
        given["environment_config"] = image
    elif beam.worker_pool:
        given["environment_config"] = beam.worker_pool
    if beam.parallelism:
        given["parallelism"] = str(beam.parallelism)
    return given


def _dataflow(beam: BeamConfig, image: str) -> dict[str, str]:
    return {
        "runner": "DataflowRunner",
        "project": str(beam.project),
        "region": str(beam.region),
        "temp_location": str(beam.temp),
        "staging_location": beam.staging or str(beam.temp),
        "experiments": "use_runner_v2",
        "sdk_container_image": image,
        # Beam is in the image; the default uploads a package of it.
        "sdk_location": "container",
    }
