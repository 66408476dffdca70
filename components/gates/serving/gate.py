"""The ServingGate's line."""

from components.gates.gate import Gate
from components.gates.serving.config import ServingGateConfig

GATE = Gate(
    name="ServingGate",
    settings=ServingGateConfig,
    section="serving_gate",
    component="components.gates.serving.component.ServingGate",
    inputs={"model": "Trainer.model", "answers": "Answers.answers"},
    place="before the push",
    purpose="stops the run if the export does not answer as it must in a process that has nothing of ours",
    title="The exported model in a process of its own",
)
