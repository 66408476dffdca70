"""The ToyGate's line."""

from components.gates.gate import Gate
from components.gates.toy.config import ToyGateConfig

GATE = Gate(
    name="ToyGate",
    settings=ToyGateConfig,
    section="toy_gate",
    component="components.gates.toy.component.ToyGate",
    inputs={"answers": "Answers.answers"},
    place="before the push",
    purpose="stops the run if the candidate is unsure of itself",
    title="How sure the candidate is",
    template="toy/templates/report.html.j2",
)
