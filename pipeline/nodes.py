"""The state of one node of one run, without anything heavy, for runners and screens alike."""

from dataclasses import dataclass, field
from typing import Any

WAITING, RUNNING, RAN, CACHED, FAILED, SKIPPED = "waiting", "running", "ran", "cached", "failed", "skipped"


@dataclass(frozen=True)
class NodeRun:
    """One node of one run.

    Attributes:
        id: Node id.
        state: One of the constants above.
        seconds: Wall time, imports and metadata included.
        peak_mb: Largest resident memory of the process meanwhile, in MiB.
        execution_id: In the metadata store; None where the node did not get that far.
        outputs: Output name to MLMD artifact.
    """

    id: str
    state: str = WAITING
    seconds: float = 0.0
    peak_mb: float = 0.0
    execution_id: int | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
