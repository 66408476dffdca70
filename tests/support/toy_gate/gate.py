"""The ToyGate's line in the table, and what it takes to pass."""

from pydantic import Field

from components.gates.gate import Gate
from components.settings import Settings


class ToyGateConfig(Settings):
    """How sure a candidate must be of its answers."""

    confidence: float = Field(0.0, ge=0, le=1, description="least mean of the largest probability on the test rows")


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
