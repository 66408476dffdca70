"""What it takes to pass the ToyGate."""

from pydantic import Field

from components.settings import Settings


class ToyGateConfig(Settings):
    """How sure a candidate must be of its answers."""

    confidence: float = Field(0.0, ge=0, le=1, description="least mean of the largest probability on the test rows")
