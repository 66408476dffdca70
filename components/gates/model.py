"""ModelGate: stops the run when the evaluated model misses a floor."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Verdict
from components.errors import GateRejectedError
from components.evaluation_result import read_failures
from components.gates.verdict import write_verdict


@component
def ModelGate(
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    blessing: InputArtifact[standard_artifacts.ModelBlessing],
    verdict: OutputArtifact[Verdict],
    code_digest: Parameter[str],
) -> None:
    """Raises ``GateRejectedError`` unless the Evaluator blessed the model and no floor is missed."""
    reasons = read_failures(evaluation.uri)
    if not reasons and blessing.get_int_custom_property("blessed") != 1:
        reasons = ["the Evaluator did not bless the model"]
    if reasons:
        raise GateRejectedError("ModelGate", reasons)
    write_verdict(verdict.uri, "ModelGate")
