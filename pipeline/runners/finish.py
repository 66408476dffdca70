"""The last step of a run whose nodes are processes of their own: tracks it, however it ended."""

import time

from components.files import write_whole
from components.outcomes import NodeState, Outcome
from components.registry.spool import Spool
from components.registry.tracking import Store, TrackedRun, connect, find_runs
from pipeline.run.launch import annotate_run
from pipeline.run.record import NodeRun, Request, RunResult
from pipeline.run.track import keep_report, link, tag_candidate, track
from pipeline.runners.steps import Decided, Ended, Steps
from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import Workspace


def finish(steps: Steps, workspace: Workspace, tracking: Store) -> RunResult:
    """Tells MLflow what the nodes left, tags the candidate, writes the page, and ends the MLflow run.

    It may be repeated: it says the same again.

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
    pushed = result.outcome is Outcome.PUSHED
    if not pushed:
        gate = next((f"{end.gate}: " for end in ends if end.outcome is Outcome.REJECTED), "")
        tracked.tags({"reason": gate + "; ".join(result.reasons)})
    tracked.end("FINISHED" if pushed else "FAILED")
    tag_candidate(tracked, nodes, decided.config.name, result)
    result.seconds = round(time.time() - decided.started, 2)
    keep_report(result, nodes, request)
    write_whole(steps.directory / "result.json", result.to_json().encode())
    return result


def _end_of(steps: Steps, node_id: str) -> Ended:
    if ended := steps.ended(node_id):
        return ended
    if steps.started(node_id):
        reasons = (f"{node_id} was killed before it ended",)
        return Ended(NodeRun(node_id, NodeState.FAILED), Outcome.FAILED, None, reasons)
    return Ended(NodeRun(node_id, NodeState.SKIPPED))


def _conclude(decided: Decided, ends: list[Ended]) -> RunResult:
    result = RunResult(
        Outcome.PUSHED,
        decided.run_id,
        mlflow_run_id=decided.mlflow_run_id,
        model_family=decided.config.model,
        model_name=decided.config.name,
        nodes=[end.node.summary() for end in ends],
    )
    failed = next((end for end in ends if end.outcome), None)
    skipped = next((end for end in ends if end.node.state is NodeState.SKIPPED), None)
    if failed and failed.outcome:
        result.outcome, result.reasons = failed.outcome, list(failed.reasons)
    elif skipped:
        result.outcome = Outcome.FAILED
        result.reasons = [f"the orchestrator did not run {skipped.node.id}"]
    return result


def _close(steps: Steps, workspace: Workspace, tracking: Store) -> None:
    """Ends the MLflow run of a run that opened one and got no further."""
    for found in find_runs(tracking, steps.run_id()):
        tracked = TrackedRun(connect(tracking), found.id, Spool(workspace.spool))
        tracked.tags({"reason": "the run did not begin"})
        tracked.end("FAILED")
