"""Pusher: makes the model that every gate let pass the newest version of the model base."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, channel, component_spec, standard_artifacts
from tfx.utils import path_utils

from components.artifacts import ModelCard, Registration, Verdict
from components.errors import GateRejectedError
from components.file_names import CARD_FILE
from components.gates.table import GATES
from components.gates.verdict import check_verdict, read_verdict
from components.outcomes import Standing
from components.push.local import push_model
from components.push.model_base import ALIASES_LOCK, locked
from components.records import read_registration
from components.registry.registry import Registry
from components.registry.tracking import Store


class PusherSpec(component_spec.ComponentSpec):
    """The verdict of every gate is an input, because a model without them must not be pushed.

    ``removed`` lists versions that are gone from the base, so that an answer from the cache never names a directory
    that is no longer there. ``registry`` is the state of the registry when the graph was made.
    """

    PARAMETERS: ClassVar = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("base", "removed", "name", "store", "registry", "code_digest")
    }
    INPUTS: ClassVar = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "registration": component_spec.ChannelParameter(type=Registration),
        "card": component_spec.ChannelParameter(type=ModelCard),
        **{gate.verdict_input: component_spec.ChannelParameter(type=Verdict) for gate in GATES},
    }
    OUTPUTS: ClassVar = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Executor(base_executor.BaseExecutor):
    """Pushes the model that the gates let pass.

    The launcher has stopped the run where a gate said no; an orchestrator that went on all the same stops here. A model
    that was rolled back is not pushed again: whoever did that had a reason. Nor is one that was compared with another
    champion than serves now.
    """

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        inputs = {name: Path(artifact_utils.get_single_instance(items).uri) for name, items in input_dict.items()}
        for gate in GATES:
            check_verdict(read_verdict(inputs[gate.verdict_input]))
        known = read_registration(inputs["registration"])
        if known.status == Standing.ROLLED_BACK:
            raise GateRejectedError(
                "Pusher",
                [
                    f"this is the model of version {known.serving_version}, which was rolled back: "
                    f"newsdesk models promote {known.serving_version} takes it back"
                ],
            )
        base = Path(exec_properties["base"])
        registry = Registry(Store(exec_properties["store"], None), exec_properties["name"])
        # A move that is going on is waited for. Whoever moves the champion while the model is copied meets Promote.
        with locked(base, ALIASES_LOCK) if base.is_dir() else nullcontext():
            registry.check_unmoved(exec_properties["registry"], known.registry_version)
        text = (inputs["card"] / CARD_FILE).read_text(encoding="utf-8")
        model = Path(path_utils.serving_model_path(str(inputs["model"])))
        pushed = push_model(model, base, {CARD_FILE: text})
        target = artifact_utils.get_single_instance(output_dict["pushed_model"])
        target.set_string_custom_property("pushed_destination", str(pushed.path))
        target.set_string_custom_property("pushed_version", str(pushed.version))
        target.set_int_custom_property("pushed", 1)


class Pusher(base_component.BaseComponent):
    """Makes the model the newest version of the model base."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, verdicts: Mapping[str, channel.BaseChannel], **given: Any):
        """Takes inputs and parameters by their names in ``PusherSpec``; ``verdicts`` are those of all gates."""
        pushed = channel.Channel(type=standard_artifacts.PushedModel)
        super().__init__(PusherSpec(**given, **verdicts, pushed_model=pushed))
