"""One step of a run: one node of the graph that ``begin`` has kept, through TFX's portable launcher."""

import difflib

from tfx.proto.orchestration import pipeline_pb2

from components.errors import BadInputError, GateRejectedError
from pipeline.metadata import MetadataPlace
from pipeline.nodes import CACHED, RAN, NodeRun
from pipeline.runners.launch import NodeLauncher
from pipeline.runners.steps import BAD_INPUT, FAILURE, REJECTED, Ended, Steps


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
        near = difflib.get_close_matches(node_id, decided.nodes, n=1, cutoff=0.0)[0]
        raise BadInputError(f"the graph has no node {node_id!r}: did you mean {near!r}?")
    if before := repeat(steps, node_id):
        return before
    steps.start(node_id)
    ir = pipeline_pb2.Pipeline.FromString(steps.graph.read_bytes())
    place = MetadataPlace(decided.metadata, patience_seconds=decided.config.stores.patience_seconds)
    node, error = NodeLauncher(ir, place, decided.run_id).run(node_id)
    steps.end(explain(node, error))
    if error:
        raise error
    return node


def repeat(steps: Steps, node_id: str) -> NodeRun | None:
    """Returns a node that has ended well; None if it is to be run.

    Raises:
        GateRejectedError: Its gate has said no.
    """
    before = steps.ended(node_id)
    if before and before.kind == REJECTED:
        raise GateRejectedError(before.gate or node_id, list(before.reasons))
    return before.node if before and before.node.state in (RAN, CACHED) else None


def explain(node: NodeRun, error: BaseException | None) -> Ended:
    """Returns how a node ended, in the words that its run will be told."""
    match error:
        case None:
            return Ended(node)
        case GateRejectedError():
            return Ended(node, REJECTED, error.gate, tuple(error.reasons))
        case BadInputError():
            return Ended(node, BAD_INPUT, None, (str(error),))
        case _:
            return Ended(node, FAILURE, None, (f"{error}" or type(error).__name__,))
