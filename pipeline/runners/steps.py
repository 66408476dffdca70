"""What the steps of one run tell each other when every node is a process of its own.

``begin`` decides once what all of them need (run id, input files, state of the registry, prepared encoder, MLflow
run), builds the graph and keeps it; each step adds how its node ended; ``finish`` reads them all. Everything lies below
``runs/<job>/`` of the workspace that the steps share, where ``job`` is the orchestrator's own name of the run.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2
from pydantic import TypeAdapter

from components.errors import BadInputError
from components.example_gen.source import Source
from components.files import undamaged, write_whole
from components.outcomes import NodeState, Outcome
from pipeline.config.config import Config, parse
from pipeline.run.record import NodeRun

ANEW = "begin the run anew, under another --job"
"""What to do about a file of a run that is damaged."""
_FAILURE = "failure"
"""What the files call ``Outcome.FAILED``."""
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_NODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Decided:
    """What ``begin`` decided.

    Attributes:
        run_id: Name of the run in MLflow, in the metadata store and in reports.
        mlflow_run_id: Of the open MLflow run.
        started: Seconds since 1970.
        config: Settings.
        source: Input files.
        prepared: What the family's ``prepare`` returned.
        store: MLflow's URI; steps must find the same one.
        metadata: URI of the metadata store; empty where the target keeps one of its own.
        enable_cache: Whether a node may be answered from an earlier run.
        nodes: Ids, in an order in which they may run.
    """

    run_id: str
    mlflow_run_id: str
    started: float
    config: Config
    source: Source
    prepared: dict[str, Any]
    store: str
    metadata: str
    enable_cache: bool
    nodes: tuple[str, ...]

    def to_json(self) -> str:
        """Returns one JSON object."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"config": self.config.model_dump(mode="json"), "source": asdict(self.source)}
        values["source"]["directory"] = str(self.source.directory)
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Decided":
        """Reads what ``to_json`` wrote."""
        values = json.loads(text)
        source = values["source"]
        if "://" not in source["directory"]:
            source["directory"] = Path(source["directory"])
        return TypeAdapter(cls).validate_python(values | {"config": parse(values["config"])})


@dataclass(frozen=True)
class Ended:
    """How a node ended: its state, and where it failed, why.

    Attributes:
        node: The node.
        outcome: What that makes of the run; None where it did not fail.
        gate: Name of the gate that said no.
        reasons: In words.
    """

    node: NodeRun
    outcome: Outcome | None = None
    gate: str | None = None
    reasons: tuple[str, ...] = ()


class Steps:
    """The files of one run."""

    def __init__(self, workspace: Path, job: str):
        """Names the run.

        Args:
            workspace: That all steps share.
            job: The orchestrator's own name of the run, the same for all of its steps and for their retries.

        Raises:
            BadInputError: ``job`` is no plain name.
        """
        if "{{" in job:
            raise BadInputError(
                f"the orchestrator has not filled in {job}: it must pass the run's id to every step as --job"
            )
        if not _JOB.fullmatch(job):
            raise BadInputError(f"--job {job!r} must be letters, digits, '.', '_' and '-', at most 127")
        self.job = job
        self.directory = workspace / "runs" / job

    @property
    def graph(self) -> Path:
        """Where the compiled graph is kept."""
        return self.directory / "pipeline.pb"

    def decided(self) -> Decided:
        """Returns what ``begin`` decided.

        Raises:
            BadInputError: It has not.
        """
        found = self.find_decided()
        if found is None:
            raise BadInputError(f"run {self.job} has not begun in {self.directory}: run newsdesk node begin first")
        return found

    def find_decided(self) -> Decided | None:
        """Returns what ``begin`` decided; None before it has."""
        path = self.directory / "run.json"
        with undamaged(path, ANEW):
            return Decided.from_json(path.read_text(encoding="utf-8")) if path.exists() else None

    def decide(self, decided: Decided) -> None:
        """Keeps what ``begin`` decided; from then on the run has begun."""
        write_whole(self.directory / "run.json", decided.to_json().encode())

    def claim_id(self, run_id: str) -> str:
        """Returns the run id of this job: the given one, or that of an earlier attempt to begin."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "run-id"
        if not path.exists():
            write_whole(path, run_id.encode())
        return self.run_id()

    def run_id(self) -> str:
        """Returns the run id of this job, empty before it has one."""
        path = self.directory / "run-id"
        with undamaged(path, ANEW):
            return path.read_text(encoding="utf-8") if path.exists() else ""

    def start(self, node_id: str) -> None:
        """Notes that a node is being run, whatever came of it before: one that is killed says nothing any more."""
        (self.directory / "nodes" / f"{_plain(node_id)}.json").unlink(missing_ok=True)
        (self.directory / "started").mkdir(parents=True, exist_ok=True)
        (self.directory / "started" / _plain(node_id)).touch()

    def started(self, node_id: str) -> bool:
        """Returns whether a node was ever begun."""
        return (self.directory / "started" / _plain(node_id)).exists()

    def end(self, ended: Ended) -> None:
        """Notes how a node ended."""
        node = ended.node
        values = vars(node) | {
            "outputs": {name: json_format.MessageToDict(item) for name, item in node.outputs.items()},
            "kind": _FAILURE if ended.outcome is Outcome.FAILED else ended.outcome,
            "gate": ended.gate,
            "reasons": ended.reasons,
        }
        write_whole(self.directory / "nodes" / f"{_plain(node.id)}.json", json.dumps(values, indent=1).encode())

    def ended(self, node_id: str) -> Ended | None:
        """Returns how a node ended; None if it has not."""
        path = self.directory / "nodes" / f"{_plain(node_id)}.json"
        if not path.exists():
            return None
        with undamaged(path, "delete it, and the node is run again", json_format.ParseError):
            values = json.loads(path.read_text(encoding="utf-8"))
            outputs = {
                name: json_format.ParseDict(item, metadata_store_pb2.Artifact())
                for name, item in values.pop("outputs").items()
            }
            kind, gate, reasons = (values.pop(name) for name in ("kind", "gate", "reasons"))
            node = NodeRun(**values | {"state": NodeState(values["state"]), "outputs": outputs})
            outcome = Outcome.FAILED if kind == _FAILURE else Outcome(kind) if kind else None
            return Ended(node, outcome, gate, tuple(reasons))


def _plain(node_id: str) -> str:
    if not _NODE.fullmatch(node_id):
        raise BadInputError(f"{node_id!r} is no name of a node")
    return node_id
