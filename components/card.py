"""Card: writes the model card that is pushed with the candidate."""

import json
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Answers, Baseline, IngestReport, ModelCard, Registration, Verdict
from components.champion import PREDICTIONS_FILE
from components.predictions import load
from components.register import read_registration
from components.report.facts import ModelFacts
from components.report.model_card import CARD_FILE, render_model_card
from components.report.reading import (
    installed_versions,
    read_baseline,
    read_data,
    read_evaluation,
    read_gate,
    read_training,
)


@component
def Card(
    ingest: InputArtifact[IngestReport],
    model_run: InputArtifact[standard_artifacts.ModelRun],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    answers: InputArtifact[Answers],
    baseline: InputArtifact[Baseline],
    registration: InputArtifact[Registration],
    data_verdict: InputArtifact[Verdict],
    model_verdict: InputArtifact[Verdict],
    serving_verdict: InputArtifact[Verdict],
    card: OutputArtifact[ModelCard],
    source: Parameter[str],
    name: Parameter[str],
    family: Parameter[str],
    floors: Parameter[str],
    encoder: Parameter[str],
    code_version: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Writes ``MODEL_CARD.md`` from what the run's nodes left.

    ``source`` is JSON with the input's ``directory``, ``test``, ``digest`` and ``classes``; ``encoder`` is
    what the model was fine-tuned from, empty for none.
    """
    data = json.loads(source)
    classes = tuple(data["classes"])
    gates = [read_gate(Path(verdict.uri)) for verdict in (data_verdict, model_verdict, serving_verdict)]
    registered = read_registration(registration.uri)
    predictions = load(Path(answers.uri) / PREDICTIONS_FILE)
    facts = ModelFacts(
        model_name=name,
        model_family=family,
        classes=list(classes),
        data=read_data(Path(ingest.uri), Path(data["directory"]), data["test"], data["digest"], gates),
        evaluation=read_evaluation(Path(evaluation.uri), classes, json.loads(floors), predictions),
        training=read_training(Path(model_run.uri)),
        baseline=read_baseline(Path(baseline.uri), classes, predictions),
        gates=gates,
        versions=installed_versions(code_version),
        mlflow_run_id=registered.mlflow_run_id,
        registry_version=registered.registry_version,
        encoder=encoder or None,
    )
    Path(card.uri).mkdir(parents=True, exist_ok=True)
    (Path(card.uri) / CARD_FILE).write_text(render_model_card(facts), encoding="utf-8")
