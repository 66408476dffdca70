"""Register: makes the candidate a version of MLflow's registry, whatever the gates will say of it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, channel, component_spec, standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Answers, DataProfile, Registration
from components.champion import PREDICTIONS_FILE, PROFILE_FILE
from components.manifest import digest_of, hash_model
from components.registry import RegisteredVersion, Registry
from components.tracking import Store

REGISTRATION_FILE = "registration.json"


@dataclass(frozen=True)
class RegistrationRecord:
    """A candidate in the registry.

    Attributes:
        registry_version: Its number there.
        mlflow_run_id: The run that trained it; an earlier one, where the same model was registered before.
        digest: Of the SavedModel's files.
        status: What is known of it already, such as ``rolled back``.
        serving_version: Directory it was pushed to before, if it was.
    """

    registry_version: str
    mlflow_run_id: str
    digest: str
    status: str
    serving_version: str | None

    @classmethod
    def of(cls, found: RegisteredVersion, digest: str) -> "RegistrationRecord":
        """Returns the record of a version."""
        number = None if found.serving_version is None else str(found.serving_version)
        return cls(found.version, found.run_id, digest, found.status, number)


def read_registration(directory: str | Path) -> RegistrationRecord:
    """Reads what ``Register`` wrote."""
    return RegistrationRecord(**json.loads(Path(directory, REGISTRATION_FILE).read_text(encoding="utf-8")))


class RegisterSpec(component_spec.ComponentSpec):
    """``registry`` is the state of the registry when the graph was made, so that no cached answer is stale."""

    PARAMETERS: ClassVar = {
        "name": component_spec.ExecutionParameter(type=str),
        "store": component_spec.ExecutionParameter(type=str),
        "registry": component_spec.ExecutionParameter(type=str),
        "code_digest": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "answers": component_spec.ChannelParameter(type=Answers),
        "profile": component_spec.ChannelParameter(type=DataProfile),
    }
    OUTPUTS: ClassVar = {"registration": component_spec.ChannelParameter(type=Registration)}


class Executor(base_executor.BaseExecutor):
    """Registers the model as an artifact of the MLflow run that has the name of the pipeline's run.

    An executor of its own, because only that is told the run's id without making it part of the cache key.
    """

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        inputs = {name: artifact_utils.get_single_instance(items).uri for name, items in input_dict.items()}
        target = Path(artifact_utils.get_single_instance(output_dict["registration"]).uri)
        model = Path(path_utils.serving_model_path(inputs["model"]))
        registry = Registry(Store(exec_properties["store"], None), exec_properties["name"])
        digest = digest_of(hash_model(model))
        kept = {
            PREDICTIONS_FILE: Path(inputs["answers"]) / PREDICTIONS_FILE,
            PROFILE_FILE: Path(inputs["profile"]) / PROFILE_FILE,
        }
        found = registry.register(self._context.pipeline_run_id, model, digest, kept)
        target.mkdir(parents=True, exist_ok=True)
        record = RegistrationRecord.of(found, digest)
        (target / REGISTRATION_FILE).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")


class Register(base_component.BaseComponent):
    """Registers the candidate in MLflow."""

    SPEC_CLASS = RegisterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        answers: channel.BaseChannel,
        profile: channel.BaseChannel,
        name: str,
        store: str,
        registry: str,
        code_digest: str,
    ):
        super().__init__(
            RegisterSpec(
                model=model,
                answers=answers,
                profile=profile,
                name=name,
                store=store,
                registry=registry,
                code_digest=code_digest,
                registration=channel.Channel(type=Registration),
            )
        )
