"""ToyGate: stops the run if the candidate is unsure of itself."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import Answers, Verdict
from components.evaluation.predictions import load
from components.file_names import PREDICTIONS_FILE
from components.gates.toy.gate import GATE, ToyGateConfig
from components.gates.verdict import Check, write_verdict


@component
def ToyGate(
    answers: InputArtifact[Answers],
    verdict: OutputArtifact[Verdict],
    settings: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Says no where the mean of the largest probability is too low."""
    config = ToyGateConfig.model_validate_json(settings)
    found = load(Path(answers.uri) / PREDICTIONS_FILE)
    sure = float(found.probabilities.max(axis=1).mean())
    said = f"the candidate is {sure:.3f} sure on average, {config.confidence:g} asked for (toy_gate.confidence)"
    check = Check("confidence", "fail", sure >= config.confidence, said, sure, config.confidence)
    rows = {str(label): int((found.label_ids == label).sum()) for label in sorted(set(found.label_ids.tolist()))}
    write_verdict(verdict.uri, GATE.name, [check], {"rows": rows})
