"""Everything a report and a model card say about one run, as plain values that survive as JSON.

Whoever knows a run fills these in; what draws them knows nothing else. None stands for what a run that stopped
early never had, and ``RunFacts.absence`` says why in one sentence.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from pydantic import TypeAdapter

from components.evaluation.comparison import Comparison
from components.gates.verdict import Verdict
from components.outcomes import NodeState
from components.report.measures import Baseline, Evaluation, Mistake, Training


@dataclass(frozen=True)
class Node:
    """One node of the graph; ``outputs`` are names and addresses of its artifacts."""

    id: str
    state: NodeState
    seconds: float
    peak_mb: float
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Champion:
    """The model that serves, and how the candidate does against it.

    Attributes:
        serving_version, registry_version: None where no model serves yet.
        reason: Why this one, or why none, in the words of the node Champion.
        verdict: The ModelGate's: ``better``, ``not worse`` or ``worse``; None where it gave none.
        margin: Loss of accuracy that still counts as not worse.
        comparison: A is the champion, B the candidate; None where not both answered the same rows.
        note: Why there is no comparison, where the champion has answers.
    """

    serving_version: str | None
    registry_version: str | None
    reason: str
    verdict: str | None = None
    margin: float | None = None
    comparison: Comparison | None = None
    note: str = ""


@dataclass(frozen=True)
class Lengths:
    """Rows per number of words: ``rows[i]`` have ``edges[i]`` words or more and fewer than ``edges[i + 1]``, if any."""

    name: str
    edges: list[int]
    rows: list[int]


@dataclass(frozen=True)
class Data:
    """What came in.

    Attributes:
        source: ``ag-news`` for the public files, ``sample`` for the bundled ones, ``own`` for all others.
        directory: Where the files were; ``digest`` is of their content.
        spans: Days that were read, where the data come as spans.
        left_out: Sentences on days that were not.
        rows: In the files.
        splits: Split to class to rows.
        malformed: Rows in quarantine; ``quarantine`` counts them by reason, ``quarantine_file`` lists them.
        lengths: Of this run's texts and of the champion's, where they are known.
    """

    source: Literal["ag-news", "sample", "own"]
    directory: str
    digest: str
    spans: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    rows: int = 0
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    malformed: int = 0
    quarantine: dict[str, int] = field(default_factory=dict)
    quarantine_file: str | None = None
    lengths: list[Lengths] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model, what it was made of and how good it is: what its card says.

    Attributes:
        classes: Names in label-id order.
        data: Its counts are unknown where ``rows`` is 0.
        evaluation, training, baseline: None where a run did not get that far.
        gates: Verdicts in running order, that of a gate that said no included.
        versions: Name to version of what made the model.
        summary: What the model is, as the beginning of a sentence; None in facts from before families said it.
        model_version: Directory it was pushed to; None where it was not, or not yet.
        mlflow_run_id, registry_version: Where MLflow has it.
    """

    model_name: str
    model_family: str
    classes: list[str]
    data: Data
    evaluation: Evaluation | None
    training: Training | None
    gates: list[Verdict]
    versions: dict[str, str]
    summary: str | None = None
    model_version: str | None = None
    mlflow_run_id: str | None = None
    registry_version: str | None = None
    baseline: Baseline | None = None


@dataclass(frozen=True, kw_only=True)
class RunFacts(ModelFacts):
    """One finished, rejected or failed run.

    Attributes:
        tracking: MLflow's address, without a password.
        status: ``pushed``, ``rejected`` or ``failed``.
        reasons: Why not pushed, in the run's own words.
        finished_at: ISO 8601, UTC.
        pushed_as: ``champion`` or ``challenger``, None where nothing was pushed.
        nodes: In running order.
        mistakes, champion: None where the run did not get that far.
        settings: All of them, dotted.
    """

    run_id: str
    tracking: str
    workspace: str
    status: str
    reasons: list[str]
    finished_at: str
    seconds: float
    preset: str
    pushed_as: str | None
    model_dir: str | None
    nodes: list[Node]
    mistakes: list[Mistake] | None
    champion: Champion | None
    settings: dict[str, str]
    format: Literal[1] = 1

    @property
    def stopped_at(self) -> str | None:
        """The node that failed, None if none did."""
        return next((node.id for node in self.nodes if node.state is NodeState.FAILED), None)

    def gate(self, name: str) -> Verdict | None:
        """Returns a gate's verdict, None if it gave none."""
        return next((verdict for verdict in self.gates if verdict.gate == name), None)

    def absence(self, node: str) -> str:
        """Returns one sentence on why a run has nothing from ``node``.

        Raises:
            ValueError: The node finished, so that something ought to be there.
        """
        state = next((item.state for item in self.nodes if item.id == node), None)
        if state and state.finished:
            raise ValueError(f"run {self.run_id}: {node} finished, and yet what it found is missing: repeat the run")
        if state is None and self.nodes:
            return f"Nothing to show: the graph of this run has no {node}."
        if state is NodeState.FAILED:
            return f"Nothing to show: {node} ended without a result."
        where = f"{self.stopped_at} stopped the run" if self.stopped_at else "the run ended"
        return f"Nothing to show: {where} before {node} began."

    def to_json(self) -> str:
        """Returns one JSON object."""
        return _adapter().dump_json(self, indent=1, by_alias=True).decode()

    @staticmethod
    def from_json(text: str) -> "RunFacts":
        """Returns what ``to_json`` wrote.

        Raises:
            pydantic.ValidationError: It is something else, or of another format.
        """
        return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[RunFacts]:
    return TypeAdapter(RunFacts)
