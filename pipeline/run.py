"""One whole run: graph, lock, tracking and the result that ``newsdesk run`` prints."""

import json
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.utils import path_utils

from components import features
from components.baseline import read_baseline
from components.champion import read_champion
from components.errors import BadInputError, GateRejectedError
from components.evaluation_result import read_slices
from components.example_gen.component import QUARANTINE_FILE, REPORT_FILE
from components.example_gen.source import Source
from components.gates.verdict import VERDICT_FILE
from components.register import read_registration
from components.registry import PENDING, STATUS, Registry
from components.registry import REJECTED as REJECTED_STATUS
from components.spool import Spool
from components.tracking import Store, TrackedRun, start_run
from pipeline.config import Config, flatten
from pipeline.families import Prepared
from pipeline.graph import RegistryState, create_pipeline
from pipeline.metadata import MetadataAwayError, MetadataPlace
from pipeline.nodes import CACHED, RAN, NodeRun
from pipeline.report import collect, write_report
from pipeline.runners.local import LocalRunner
from pipeline.source_digest import project_digest
from pipeline.stores import SQLITE, remember
from pipeline.workspace import Workspace, exclusive

PUSHED, REJECTED, FAILED = "pushed", "rejected", "failed"
_log = logging.getLogger("newsdesk")


@dataclass
class RunResult:
    """What ``newsdesk run --json`` prints; a field that does not apply is None."""

    status: str
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

    exit_code: int = 0

    def to_json(self) -> str:
        """Returns one JSON object, without the exit code."""
        values = asdict(self)
        del values["exit_code"]
        return json.dumps(values)


@dataclass(frozen=True)
class Request:
    """What a run is asked to do. ``metadata`` is the URI of a metadata store that is not the workspace's own."""

    config: Config
    source: Source
    workspace: Workspace
    tracking: Store
    prepared: Prepared
    enable_cache: bool = True
    metadata: str | None = None

    @property
    def metadata_uri(self) -> str:
        """Where the metadata store is."""
        return self.metadata or f"{SQLITE}{self.workspace.metadata}"


def new_run_id() -> str:
    """Returns a run id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def execute(request: Request, run_id: str, on_change: Callable[[list[NodeRun]], None]) -> RunResult:
    """Runs the pipeline once and tracks it.

    Args:
        request: What to run.
        run_id: Name of the run.
        on_change: Called with all nodes whenever one changes.

    Returns:
        The result; a failure is in its ``status``, ``reasons`` and ``exit_code``, tracked, and its traceback
        is on standard error.

    Raises:
        BadInputError: Another run holds the workspace, or a store does not answer or refuses.
    """
    started = time.perf_counter()
    config = request.config
    result = RunResult(PUSHED, run_id, model_family=config.model, model_name=config.name)
    with exclusive(request.workspace, run_id):
        place = MetadataPlace(request.metadata_uri, patience_seconds=config.stores.patience_seconds)
        place.check()
        remember(request.workspace, config.stores)
        registry = RegistryState(request.tracking.uri, Registry(request.tracking, config.name).snapshot())
        pipeline = create_pipeline(
            config,
            request.source,
            request.workspace,
            request.prepared,
            registry,
            request.enable_cache,
            request.metadata,
        )
        runner = LocalRunner(pipeline, place, run_id, on_change)
        try:
            with start_run(request.tracking, config.name, run_id, Spool(request.workspace.spool)) as tracked:
                result.mlflow_run_id = tracked.id
                describe(tracked, request, run_id)
                try:
                    runner.run()
                finally:
                    result.nodes = summarize(runner.nodes)
                    link(tracked, runner.nodes, runner.annotate)
                    track(tracked, runner.nodes, request, result)
        except GateRejectedError as rejection:
            result.status, result.exit_code, result.reasons = REJECTED, 3, rejection.reasons
        except BadInputError as error:
            result.status, result.exit_code, result.reasons = FAILED, 2, [str(error)]
        except Exception as error:
            traceback.print_exc()
            result.status, result.exit_code, result.reasons = FAILED, 1, [f"{error}" or type(error).__name__]
        if result.mlflow_run_id:
            tag_candidate(tracked, runner.nodes, config.name, result)
        result.seconds = round(time.perf_counter() - started, 2)
        if result.mlflow_run_id:
            keep_report(result, runner.nodes, request)
    return result


def keep_report(result: RunResult, nodes: list[NodeRun], request: Request) -> None:
    """Writes the run's page and notes where it is."""
    try:
        result.report = str(write_report(collect(result, nodes, request), request.workspace))
    except Exception:
        # The outcome stands, whatever becomes of its page; and it is told.
        traceback.print_exc()
        _log.warning("the report could not be written; the reason is in the log")


def tag_candidate(tracked: TrackedRun, nodes: list[NodeRun], name: str, result: RunResult) -> None:
    """Writes what the gates said to the candidate's version in the registry."""
    register = next((node for node in nodes if node.id == "Register" and node.state in (RAN, CACHED)), None)
    if register is None:
        return
    record = read_registration(_path(register, "registration"))
    tags = {
        f"verdict.{gate}": "passed" if verdict["passed"] else "; ".join(verdict["reasons"])
        for gate, verdict in _verdicts(nodes).items()
    }
    if result.status == REJECTED and record.status == PENDING:
        tags[STATUS] = REJECTED_STATUS
    tracked.version_tags(name, record.registry_version, tags)


def _verdicts(nodes: list[NodeRun]) -> dict[str, dict[str, Any]]:
    """Returns the verdict of every gate that came to one, also of the gate that said no."""
    paths = {node.id: _path(node, "verdict") / VERDICT_FILE for node in nodes if "verdict" in node.outputs}
    return {gate: json.loads(path.read_text(encoding="utf-8")) for gate, path in paths.items() if path.is_file()}


def describe(tracked: TrackedRun, request: Request, run_id: str) -> None:
    """Logs what a run was asked to do."""
    tracked.params(flatten(request.config))
    tracked.tags(
        {
            "model_family": request.config.model,
            "data_digest": request.source.digest,
            "data_directory": str(request.source.directory),
            "spans": ", ".join(request.source.spans),
            "code_version": project_digest(),
            **{f"prepared.{key}": str(value) for key, value in request.prepared.items()},
            "mlmd_run_id": run_id,
            "mlmd_store": request.metadata or str(request.workspace.metadata),
        }
    )


def link(tracked: TrackedRun, nodes: list[NodeRun], annotate: Callable[..., int]) -> None:
    """Names the run of each store in the other.

    ``annotate`` writes properties to the run's context in the metadata store, and returns the context's id.
    """
    if any(node.execution_id for node in nodes):
        try:
            tracked.tags({"mlmd_context_id": str(annotate(mlflow_run_id=tracked.id))})
        except MetadataAwayError as error:
            # The run fails for this anyhow, if it has not ended; and what it measured is still to be tracked.
            _log.warning("%s", error)


def track(tracked: TrackedRun, nodes: list[NodeRun], request: Request, result: RunResult) -> None:
    """Logs what the finished nodes left, cached or not, and notes it in the result."""
    for item in nodes:
        tracked.metrics({f"seconds/{item.id}": item.seconds, f"peak_mb/{item.id}": item.peak_mb})
    tracked.tags({f"node.{item.id}": item.state for item in nodes})
    finished = {node.id: node for node in nodes if node.state in (RAN, CACHED)}
    classes = request.source.classes
    if node := finished.get("ExampleGen"):
        report = _path(node, "report")
        tracked.tags({"examples_uri": str(_path(node, "examples"))})
        ingested = json.loads((report / REPORT_FILE).read_text(encoding="utf-8"))
        # What was left out has no part in the node, lest an empty day make it run again.
        if request.source.left_out:
            ingested["left_out"] = list(request.source.left_out)
        tracked.json("ingest.json", ingested)
        if node.state == CACHED:
            _restore_quarantine(report / QUARANTINE_FILE, request.workspace.quarantine / f"{result.run_id}.jsonl")
    for gate, verdict in _verdicts(nodes).items():
        tracked.json(f"{gate}.json", verdict)
    if node := finished.get("Champion"):
        tracked.tags({"champion": read_champion(_path(node, "champion")).serving_version or "none"})
    if node := finished.get("Trainer"):
        history = _path(node, "model_run") / features.HISTORY_FILE
        tracked.history(history)
        tracked.metrics(_training_cost(json.loads(history.read_text(encoding="utf-8"))))
        tracked.tags({"model_uri": path_utils.serving_model_path(str(_path(node, "model")))})
    if node := finished.get("Evaluator"):
        slices = read_slices(str(_path(node, "evaluation")), classes)
        tracked.slices(slices)
        overall = slices[0]
        tracked.confusion_matrix(overall.arrays["confusion_matrix"], classes)
        result.metrics = dict(overall.scalars)
    if node := finished.get("Baseline"):
        record, _ = read_baseline(_path(node, "baseline"))
        tracked.metrics({"baseline/accuracy": record.accuracy, "baseline/macro_f1": record.macro_f1})
        if result.metrics:
            result.metrics |= {"baseline_accuracy": record.accuracy, "baseline_macro_f1": record.macro_f1}
    if node := finished.get("Pusher"):
        properties = node.outputs["pushed_model"].custom_properties
        result.model_version = properties["pushed_version"].string_value
        result.model_dir = properties["pushed_destination"].string_value
        tracked.tags({"serving_version": result.model_version, "model_dir": result.model_dir})


def _training_cost(history: dict[str, Any]) -> dict[str, float]:
    return {"parameters": history["parameters"], "training_seconds": sum(item["seconds"] for item in history["epochs"])}


def _restore_quarantine(kept: Path, target: Path) -> None:
    if kept.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(kept.read_bytes())


def summarize(nodes: list[NodeRun]) -> list[dict[str, Any]]:
    """Returns what a result says of nodes."""
    return [
        {"id": node.id, "state": node.state, "seconds": round(node.seconds, 2), "peak_mb": round(node.peak_mb)}
        for node in nodes
    ]


def _path(node: NodeRun, output: str) -> Path:
    artifact: metadata_store_pb2.Artifact = node.outputs[output]
    return Path(artifact.uri)
