"""ServingGate: stops the run when the exported model, in a process like a server's, is not what was evaluated."""

from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Answers, Verdict
from components.errors import BadInputError
from components.evaluation.predictions import Predictions, load
from components.file_names import PREDICTIONS_FILE
from components.files import size_of
from components.gates.serving.checks import ceiling, check_serving
from components.gates.serving.gate import GATE, ServingGateConfig
from components.gates.serving.process import probe
from components.gates.serving.requests import make_requests
from components.gates.verdict import Check, write_verdict
from components.push.model_files import check_model_files, read_classes
from components.push.model_graph import check_model_graph

_MIB = 1 << 20
_MEASURED = {"process_seconds", "import_seconds", "load_seconds", "memory_mb", "tensorflow"}


def examine_model(
    directory: Path, answers: Predictions, settings: ServingGateConfig
) -> tuple[list[Check], dict[str, Any]]:
    """Checks the files and the graph of a model and then, if nothing is against it, starts it and asks it.

    Returns:
        All that was looked at, and the measurements. ``answers`` are what the model answered when it was evaluated.
    """
    checks = check_directory(directory, settings)
    if not all(check.passed for check in checks):
        return checks, _values(checks)
    requests = make_requests(answers)
    timed = [index for index, request in enumerate(requests) if request.row is not None]
    probed = probe(directory, [request.text for request in requests], settings, timed)
    checks += check_serving(probed, settings, read_classes(directory), answers)
    measured = probed.model_dump(include=_MEASURED) | {"requests": len(requests), "timed": len(probed.latencies_ms)}
    return checks, measured | _values(checks)


def check_directory(directory: Path, settings: ServingGateConfig) -> list[Check]:
    """Checks what can be told without running anything of a model: its files, its graph, its classes and its size."""
    try:
        check_model_files(directory)
        check_model_graph(directory)
        classes = read_classes(directory)
    except BadInputError as error:
        return [Check("files", "fail", False, str(error))]
    named = len(classes) > 1 and len({*classes}) == len(classes) and all(classes)
    shown = ", ".join(classes)
    size = size_of(directory) / _MIB
    return [
        Check("files", "fail", True, "the model is a plain SavedModel, and its graph reaches nothing outside"),
        Check(
            "classes",
            "fail",
            named,
            f"the classes {'are' if named else 'are not two or more names, each once:'} {shown}",
        ),
        ceiling("size_mb", "the model has {} MiB on disk", size, settings.size_mb),
    ]


@component
def ServingGate(
    model: InputArtifact[standard_artifacts.Model],
    answers: InputArtifact[Answers],
    verdict: OutputArtifact[Verdict],
    settings: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Says no unless the model is safe to load and serves, in time, what was evaluated."""
    checks, numbers = examine_model(
        Path(path_utils.serving_model_path(model.uri)),
        load(Path(answers.uri) / PREDICTIONS_FILE),
        ServingGateConfig.model_validate_json(settings),
    )
    write_verdict(verdict.uri, GATE.name, checks, numbers)


def _values(checks: list[Check]) -> dict[str, float]:
    return {check.name: check.value for check in checks if check.value is not None}
