"""The ServingGate's line in the table, and what it takes to pass."""

from pydantic import Field

from components.gates.gate import Gate
from components.settings import Settings


class ServingGateConfig(Settings):
    """What the exported model must do in a process of its own."""

    process_seconds: float = Field(180, gt=0, description="the process is ended after as many, start-up included")
    load_seconds: float = Field(30, gt=0, description="most seconds from the call that loads it to the first answer")
    p50_ms: float = Field(100, gt=0, description="ceiling of the median time of one text")
    p95_ms: float = Field(200, gt=0, description="ceiling of the 95th percentile of it")
    memory_mb: float = Field(2_000, gt=0, description="ceiling of the process's peak resident memory, MiB")
    size_mb: float = Field(500, gt=0, description="ceiling of the SavedModel on disk, MiB")
    tolerance: float = Field(1e-5, gt=0, description="largest difference of a probability, alone or in company")
    requests: int = Field(50, ge=10, description="single-text requests that are timed")


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
