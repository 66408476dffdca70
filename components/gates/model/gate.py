"""The ModelGate's line in the table, and what it takes to pass."""

from typing import Literal

from pydantic import Field

from components.gates.gate import Gate, Severity
from components.settings import Settings


class ModelGateConfig(Settings):
    """What a candidate must show against the champion, on the same test rows."""

    require: Literal["not worse", "better"] = Field("not worse", description="the least verdict that passes")
    margin: float = Field(0.01, ge=0, le=1, description="loss of accuracy that still counts as not worse")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the interval of the difference")
    length_accuracy: float = Field(0.0, ge=0, le=1, description="floor of accuracy in each slice of text length")
    baseline: Severity = Field("warn", description="what it means not to be more accurate than the linear baseline")
    slice_rows: int = Field(100, ge=1, description="slices with fewer rows are shown and not judged")


GATE = Gate(
    name="ModelGate",
    settings=ModelGateConfig,
    section="model_gate",
    component="components.gates.model.component.ModelGate",
    inputs={
        "evaluation": "Evaluator.evaluation",
        "blessing": "Evaluator.blessing",
        "answers": "Answers.answers",
        "baseline": "Baseline.baseline",
        "champion": "Champion.champion",
        "examples": "ExampleGen.examples",
    },
    place="before the push",
    purpose="stops the run if a floor is missed, or if the candidate may be worse than the champion on the same rows",
    title="What the ModelGate decided",
    under="champion",
)
