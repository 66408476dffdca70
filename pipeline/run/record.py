"""A run as its callers know it: its id, what it was asked, how its nodes stand and what became of it.

Free of TFX, TensorFlow and MLflow, so that a decision or a screen need not wait for them.
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from components.clean import to_json
from components.errors import BadInputError, GateRejectedError
from components.example_gen.source import Source
from components.outcomes import NodeState, Outcome
from components.report.left_behind import LeftBehind
from pipeline.config.config import Config
from pipeline.workspace.place import Workspace
from pipeline.workspace.stores import SQLITE

if TYPE_CHECKING:
    from components.registry.tracking import Store
    from pipeline.config.families import Prepared


def new_run_id(now: datetime | None = None) -> str:
    """Returns a run id that sorts by time; ``now`` has a zone, and is the present by default."""
    return f"{(now or datetime.now(UTC)).astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Request:
    """What a run is asked to do. ``metadata`` is the URI of a metadata store that is not the workspace's own."""

    config: Config
    source: Source
    workspace: Workspace
    tracking: "Store"
    prepared: "Prepared"
    enable_cache: bool = True
    metadata: str | None = None

    @property
    def metadata_uri(self) -> str:
        """Where the metadata store is."""
        return self.metadata or f"{SQLITE}{self.workspace.metadata}"


@dataclass(frozen=True)
class NodeRun:
    """One node of one run.

    Attributes:
        id: Node id.
        state: How it stands.
        seconds: Wall time, imports and metadata included.
        peak_mb: Largest resident memory of the process meanwhile, in MiB.
        execution_id: In the metadata store; None where the node did not get that far.
        outputs: Output name to MLMD artifact.
    """

    id: str
    state: NodeState = NodeState.WAITING
    seconds: float = 0.0
    peak_mb: float = 0.0
    execution_id: int | None = None
    outputs: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Returns what ``newsdesk run --json`` says of it."""
        return {"id": self.id, "state": self.state, "seconds": round(self.seconds, 2), "peak_mb": round(self.peak_mb)}


def left_behind(nodes: Sequence[NodeRun]) -> LeftBehind:
    """Returns the reader of what nodes left."""
    return LeftBehind(
        {node.id: node.outputs for node in nodes if node.state.finished},
        {node.id: node.outputs for node in nodes if node.state is NodeState.FAILED},
    )


@dataclass
class RunResult:
    """What became of a run; a field that does not apply is None."""

    outcome: Outcome
    run_id: str
    mlflow_run_id: str | None = None
    model_family: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_dir: str | None = None
    metrics: dict[str, float] | None = None
    nodes: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    report: str | None = None
    reasons: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Returns the JSON object that ``newsdesk run --json`` prints."""
        values = asdict(self)
        del values["outcome"]
        return to_json({"status": self.outcome.status, **values})


def explain(error: BaseException) -> tuple[Outcome, list[str]]:
    """Returns what an error makes of the run that it ended, and the reasons in words."""
    match error:
        case GateRejectedError():
            return Outcome.REJECTED, list(error.reasons)
        case BadInputError():
            return Outcome.BAD_INPUT, [str(error)]
        case _:
            return Outcome.FAILED, [f"{error}" or type(error).__name__]
