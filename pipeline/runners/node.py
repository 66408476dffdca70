"""One step of a run: one node of the graph that ``begin`` has kept, through TFX's portable launcher."""

from google.protobuf.message import DecodeError
from tfx.proto.orchestration import pipeline_pb2

from components.errors import BadInputError, GateRejectedError, nearest
from components.files import undamaged
from components.outcomes import Outcome
from pipeline.run.launch import NodeLauncher
from pipeline.run.record import NodeRun, explain
from pipeline.runners.steps import ANEW, Ended, Steps
from pipeline.workspace.metadata import MetadataPlace


def run_node(steps: Steps, node_id: str) -> NodeRun:
    """Runs a node and notes how it ended.

    An orchestrator retries whatever fails, so a node that has ended well, or whose gate has said no, is not run again:
    the answer would be the same.

    Raises:
        BadInputError: The run has not begun, or has no such node.
        Exception: What the node raised.
    """
    decided = steps.decided()
    if node_id not in decided.nodes:
        raise BadInputError(f"the graph has no node {node_id!r}: did you mean {nearest(node_id, decided.nodes)!r}?")
    if before := repeat(steps, node_id):
        return before
    steps.start(node_id)
    with undamaged(steps.graph, ANEW, DecodeError):
        ir = pipeline_pb2.Pipeline.FromString(steps.graph.read_bytes())
    place = MetadataPlace(decided.metadata, patience_seconds=decided.config.stores.patience_seconds)
    node, error = NodeLauncher(ir, place, decided.run_id).run(node_id)
    steps.end(ended(node, error))
    if error:
        raise error
    return node


def repeat(steps: Steps, node_id: str) -> NodeRun | None:
    """Returns a node that has ended well; None if it is to be run.

    Raises:
        GateRejectedError: Its gate has said no.
    """
    before = steps.ended(node_id)
    if before and before.outcome is Outcome.REJECTED:
        raise GateRejectedError(before.gate or node_id, list(before.reasons))
    return before.node if before and before.node.state.finished else None


def ended(node: NodeRun, error: BaseException | None) -> Ended:
    """Returns how a node ended, in the words that its run will be told."""
    if error is None:
        return Ended(node)
    outcome, reasons = explain(error)
    return Ended(node, outcome, error.gate if isinstance(error, GateRejectedError) else None, tuple(reasons))
