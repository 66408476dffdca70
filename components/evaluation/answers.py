"""Answers: what the candidate says on every test row, once, for the gates, the registry and the report."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components import features
from components.artifacts import Answers as AnswersArtifact
from components.evaluation.predictions import save, score
from components.file_names import PREDICTIONS_FILE


@component
def Answers(
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    answers: OutputArtifact[AnswersArtifact],
    code_digest: Parameter[str],
) -> None:
    """Runs the served computation on the test split and keeps what it says."""
    directory = Path(path_utils.serving_model_path(model.uri))
    save(score(directory, examples.uri, features.TEST), Path(answers.uri) / PREDICTIONS_FILE)
