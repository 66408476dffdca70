"""Tells MLflow what a run was asked to do, what its nodes left and what became of it; and keeps its report."""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tfx.utils import path_utils

from components.file_names import HISTORY_FILE, QUARANTINE_FILE
from components.files import write_whole
from components.outcomes import NodeState, Outcome, Standing
from components.registry.registry import STATUS
from components.registry.tracking import TrackedRun
from pipeline.config.config import flatten
from pipeline.run.record import NodeRun, Request, RunResult, left_behind
from pipeline.run.report import collect, write_report
from pipeline.source_digest import project_digest
from pipeline.workspace.metadata import MetadataAwayError

_log = logging.getLogger("newsdesk")


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


def link(tracked: TrackedRun, nodes: Sequence[NodeRun], annotate: Callable[..., int]) -> None:
    """Names the run of each store in the other.

    ``annotate`` writes properties to the run's context in the metadata store, and returns the context's id.
    """
    if any(node.execution_id for node in nodes):
        try:
            tracked.tags({"mlmd_context_id": str(annotate(mlflow_run_id=tracked.id))})
        except MetadataAwayError as error:
            # The run fails for this anyhow, if it has not ended; and what it measured is still to be tracked.
            _log.warning("%s", error)


def track(tracked: TrackedRun, nodes: Sequence[NodeRun], request: Request, result: RunResult) -> None:
    """Logs what the finished nodes left, cached or not, and notes it in the result."""
    for item in nodes:
        tracked.metrics({f"seconds/{item.id}": item.seconds, f"peak_mb/{item.id}": item.peak_mb})
    tracked.tags({f"node.{item.id}": item.state for item in nodes})
    left = left_behind(nodes)
    if examples := left.of("ExampleGen", "examples"):
        tracked.tags({"examples_uri": str(examples)})
    if (ingested := left.ingest()) and (report := left.of("ExampleGen", "report")):
        # Spans that were left out do not enter the node, so that an empty day does not run it again.
        if request.source.left_out:
            ingested["left_out"] = list(request.source.left_out)
        tracked.json("ingest.json", ingested)
        if any(node.id == "ExampleGen" and node.state is NodeState.CACHED for node in nodes):
            _restore_quarantine(report / QUARANTINE_FILE, request.workspace.quarantine / f"{result.run_id}.jsonl")
    for verdict in left.verdicts():
        tracked.json(f"{verdict.gate}.json", asdict(verdict))
    if champion := left.champion():
        tracked.tags({"champion": champion.serving_version or "none"})
    if history := left.history():
        tracked.history(Path(left.artifact("Trainer", "model_run").uri) / HISTORY_FILE)
        seconds = sum(epoch["seconds"] for epoch in history["epochs"])
        tracked.metrics({"parameters": history["parameters"], "training_seconds": seconds})
        tracked.tags({"model_uri": path_utils.serving_model_path(left.artifact("Trainer", "model").uri)})
    classes = request.source.classes
    if slices := left.slices(classes):
        tracked.slices(slices)
        tracked.confusion_matrix(slices[0].arrays["confusion_matrix"], classes)
        result.metrics = dict(slices[0].scalars)
    if baseline := left.baseline():
        record, _ = baseline
        tracked.metrics({"baseline/accuracy": record.accuracy, "baseline/macro_f1": record.macro_f1})
        if result.metrics:
            result.metrics |= {"baseline_accuracy": record.accuracy, "baseline_macro_f1": record.macro_f1}
    if pushed := left.artifact("Pusher", "pushed_model"):
        result.model_version = pushed.custom_properties["pushed_version"].string_value
        result.model_dir = pushed.custom_properties["pushed_destination"].string_value
        tracked.tags({"serving_version": result.model_version, "model_dir": result.model_dir})


def tag_candidate(tracked: TrackedRun, nodes: Sequence[NodeRun], name: str, result: RunResult) -> None:
    """Writes what the gates said to the candidate's version in the registry."""
    left = left_behind(nodes)
    record = left.registration()
    if record is None:
        return
    tags = {
        f"verdict.{verdict.gate}": "passed" if verdict.passed else "; ".join(verdict.reasons)
        for verdict in left.verdicts()
    }
    if result.outcome is Outcome.REJECTED and record.status == Standing.PENDING:
        tags[STATUS] = Standing.REJECTED
    tracked.version_tags(name, record.registry_version, tags)


def keep_report(result: RunResult, nodes: Sequence[NodeRun], request: Request) -> None:
    """Writes the run's page and notes where it is."""
    try:
        result.report = str(write_report(collect(result, nodes, request), request.workspace))
    except Exception:
        # The outcome stands, whatever becomes of its page; and it is told.
        traceback.print_exc()
        _log.warning("the report could not be written; the reason is in the log")


def _restore_quarantine(kept: Path, target: Path) -> None:
    try:
        if kept.stat().st_size:
            write_whole(target, kept.read_bytes())
    except OSError as error:
        _log.warning("%s could not be written (%s); its rows are in %s", target, error.strerror, kept)
