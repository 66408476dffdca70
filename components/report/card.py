"""Card: writes the model card that is pushed with the candidate."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, channel, component_spec, standard_artifacts

from components.artifacts import Answers, Baseline, IngestReport, ModelCard, Registration, Verdict
from components.file_names import CARD_FILE
from components.files import write_whole
from components.gates.table import GATES
from components.report.facts import ModelFacts
from components.report.left_behind import LeftBehind
from components.report.model_card import render_model_card
from components.report.reading import installed_versions, read_baseline, read_data, read_evaluation, read_training


class CardSpec(component_spec.ComponentSpec):
    """``source`` is JSON with the input's ``directory``, ``test``, ``digest`` and ``classes``; ``summary`` is what
    the model is, as the beginning of a sentence. The verdict of every gate is an input."""

    PARAMETERS: ClassVar = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("source", "name", "family", "floors", "summary", "code_version", "code_digest")
    }
    INPUTS: ClassVar = {
        "ingest": component_spec.ChannelParameter(type=IngestReport),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "answers": component_spec.ChannelParameter(type=Answers),
        "baseline": component_spec.ChannelParameter(type=Baseline),
        "registration": component_spec.ChannelParameter(type=Registration),
        **{gate.verdict_input: component_spec.ChannelParameter(type=Verdict) for gate in GATES},
    }
    OUTPUTS: ClassVar = {"card": component_spec.ChannelParameter(type=ModelCard)}


class Executor(base_executor.BaseExecutor):
    """Writes ``MODEL_CARD.md`` from what the run's nodes left."""

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        inputs = {name: artifact_utils.get_single_instance(items) for name, items in input_dict.items()}
        target = Path(artifact_utils.get_single_instance(output_dict["card"]).uri)
        write_whole(target / CARD_FILE, render_model_card(gather_facts(inputs, exec_properties)))


def gather_facts(inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> ModelFacts:
    """Returns what the card says, from the inputs of ``CardSpec`` by name and its parameters."""
    data = json.loads(settings["source"])
    classes = tuple(data["classes"])
    left = LeftBehind(
        {
            "ExampleGen": {"report": inputs["ingest"]},
            "Trainer": {"model_run": inputs["model_run"]},
            "Evaluator": {"evaluation": inputs["evaluation"]},
            "Answers": {"answers": inputs["answers"]},
            "Baseline": {"baseline": inputs["baseline"]},
            "Register": {"registration": inputs["registration"]},
            **{gate.name: {"verdict": inputs[gate.verdict_input]} for gate in GATES},
        }
    )
    gates, registered, predictions = left.verdicts(), left.registration(), left.answers()
    return ModelFacts(
        model_name=settings["name"],
        model_family=settings["family"],
        classes=list(classes),
        data=read_data(left, Path(data["directory"]), data["test"], data["digest"], gates),
        evaluation=read_evaluation(left, classes, json.loads(settings["floors"]), predictions),
        training=read_training(left),
        baseline=read_baseline(left, classes, predictions),
        gates=gates,
        versions=installed_versions(settings["code_version"]),
        mlflow_run_id=registered.mlflow_run_id if registered else None,
        registry_version=registered.registry_version if registered else None,
        summary=settings["summary"],
    )


class Card(base_component.BaseComponent):
    """Writes the model card."""

    SPEC_CLASS = CardSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, verdicts: Mapping[str, channel.BaseChannel], **given: Any):
        """Takes inputs and parameters by their names in ``CardSpec``; ``verdicts`` are those of all gates."""
        super().__init__(CardSpec(**given, **verdicts, card=channel.Channel(type=ModelCard)))
