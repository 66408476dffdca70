"""The last step of a run whose nodes are processes of their own: tracks it, however it ended."""

import time

from components.spool import Spool
from components.tracking import Store, TrackedRun, connect, find_runs
from pipeline.metadata import MetadataPlace
from pipeline.nodes import FAILED, SKIPPED, NodeRun
from pipeline.run import FAILED as RUN_FAILED
from pipeline.run import PUSHED, Request, RunResult, keep_report, link, summarize, tag_candidate, track
from pipeline.run import REJECTED as RUN_REJECTED
from pipeline.runners.launch import annotate_run
from pipeline.runners.steps import BAD_INPUT, FAILURE, REJECTED, Decided, Ended, Steps, write
from pipeline.workspace import Workspace

_STATUS = {REJECTED: (RUN_REJECTED, 3), BAD_INPUT: (RUN_FAILED, 2), FAILURE: (RUN_FAILED, 1)}


def finish(steps: Steps, workspace: Workspace, tracking: Store) -> RunResult:
    """Tells MLflow what the nodes left, tags the candidate, writes the page, and ends the MLflow run.

    It may be repeated: it says the same again.

    Args:
        steps: Files of the run.
        workspace: Where the run is.
        tracking: MLflow's.

    Returns:
        What ``newsdesk run`` would have printed.

    Raises:
        BadInputError: The run has not begun.
    """
    decided = steps.find_decided()
    if decided is None:
        _close(steps, workspace, tracking)
        decided = steps.decided()
    request = Request(
        decided.config,
        decided.source,
        workspace,
        tracking,
        decided.prepared,
        decided.enable_cache,
        decided.metadata or None,
    )
    ends = [_end_of(steps, node_id) for node_id in decided.nodes]
    nodes = [end.node for end in ends]
    result = _conclude(decided, ends)
    tracked = TrackedRun(connect(tracking), decided.mlflow_run_id, Spool(workspace.spool))
    if decided.metadata:
        place = MetadataPlace(decided.metadata, patience_seconds=decided.config.stores.patience_seconds)
        link(tracked, nodes, lambda **said: annotate_run(place, decided.run_id, **said))
    track(tracked, nodes, request, result)
    if result.status != PUSHED:
        gate = next((f"{end.gate}: " for end in ends if end.kind == REJECTED), "")
        tracked.tags({"reason": gate + "; ".join(result.reasons)})
    tracked.end("FINISHED" if result.status == PUSHED else "FAILED")
    tag_candidate(tracked, nodes, decided.config.name, result)
    result.seconds = round(time.time() - decided.started, 2)
    keep_report(result, nodes, request)
    write(steps.directory / "result.json", result.to_json().encode())
    return result


def _end_of(steps: Steps, node_id: str) -> Ended:
    if ended := steps.ended(node_id):
        return ended
    if steps.started(node_id):
        return Ended(NodeRun(node_id, FAILED), FAILURE, None, (f"{node_id} was killed before it ended",))
    return Ended(NodeRun(node_id, SKIPPED))


def _conclude(decided: Decided, ends: list[Ended]) -> RunResult:
    result = RunResult(
        PUSHED,
        decided.run_id,
        mlflow_run_id=decided.mlflow_run_id,
        model_family=decided.config.model,
        model_name=decided.config.name,
        nodes=summarize([end.node for end in ends]),
    )
    failed = next((end for end in ends if end.kind), None)
    skipped = next((end for end in ends if end.node.state == SKIPPED), None)
    if failed and failed.kind:
        result.status, result.exit_code = _STATUS[failed.kind]
        result.reasons = list(failed.reasons)
    elif skipped:
        result.status, result.exit_code = RUN_FAILED, 1
        result.reasons = [f"the orchestrator did not run {skipped.node.id}"]
    return result


def _close(steps: Steps, workspace: Workspace, tracking: Store) -> None:
    """Ends the MLflow run of a run that opened one and got no further."""
    path = steps.directory / "run-id"
    for found in find_runs(tracking, path.read_text(encoding="utf-8")) if path.is_file() else []:
        tracked = TrackedRun(connect(tracking), found.id, Spool(workspace.spool))
        tracked.tags({"reason": "the run did not begin"})
        tracked.end("FAILED")
