"""The ModelGate's line."""

from components.gates.gate import Gate
from components.gates.model.config import ModelGateConfig

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
