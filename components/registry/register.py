"""Register: makes the candidate a version of MLflow's registry, whatever the gates will say of it."""

from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, channel, component_spec, standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Answers, DataProfile, Registration
from components.file_names import PREDICTIONS_FILE, PROFILE_FILE, REGISTRATION_FILE
from components.outcomes import Standing
from components.push.manifest import digest_of, hash_model, identity_of
from components.records import RegistrationRecord, write_record
from components.registry.registry import MODEL_IDENTITY, Registry
from components.registry.tracking import Store


class RegisterSpec(component_spec.ComponentSpec):
    """``registry`` is the state of the registry when the graph was made, so that no cached answer is stale."""

    PARAMETERS: ClassVar = {
        name: component_spec.ExecutionParameter(type=str) for name in ("name", "store", "registry", "code_digest")
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
        files = hash_model(model)
        digest, identity = digest_of(files), identity_of(files)
        kept = {
            PREDICTIONS_FILE: Path(inputs["answers"]) / PREDICTIONS_FILE,
            PROFILE_FILE: Path(inputs["profile"]) / PROFILE_FILE,
        }
        found = registry.register(self._context.pipeline_run_id, model, digest, identity, kept)
        twins = (item for item in registry.versions() if item.tags.get(MODEL_IDENTITY) == identity)
        known = next((item for item in twins if item.status == Standing.ROLLED_BACK), found)
        number = None if known.serving_version is None else str(known.serving_version)
        record = RegistrationRecord(found.version, found.run_id, digest, known.status, number)
        write_record(target, REGISTRATION_FILE, record)


class Register(base_component.BaseComponent):
    """Registers the candidate in MLflow."""

    SPEC_CLASS = RegisterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, **given: Any):
        """Takes inputs and parameters by their names in ``RegisterSpec``."""
        super().__init__(RegisterSpec(**given, registration=channel.Channel(type=Registration)))
