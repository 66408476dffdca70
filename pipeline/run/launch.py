"""Launches single nodes of a compiled graph through TFX's portable launcher, in this process.

What runs a whole graph here, and what runs one step of it in a container, share this.
"""

import os
import shutil
import threading
import time
from dataclasses import replace
from typing import Any

import psutil
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from components.errors import BadInputError, GateRejectedError
from components.gates.verdict import check_verdict
from components.outcomes import NodeState
from pipeline.run.record import NodeRun, left_behind
from pipeline.workspace.metadata import MetadataAwayError, MetadataPlace

_MEMORY_INTERVAL = 0.05
_REASON_CHARACTERS = 4_000
_DONE = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


def compile_graph(pipeline: Pipeline, run_id: str) -> Any:
    """Returns TFX's ``Pipeline`` message of a graph, for one run of it."""
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    return ir


class NodeLauncher:
    """Launches the nodes of one run.

    Attributes:
        node_ids: All of them, in an order in which they may run.
    """

    def __init__(self, ir: Any, place: MetadataPlace, run_id: str):
        """Takes TFX's ``Pipeline`` message of a graph, and of the run its store and its name there."""
        self._ir = ir
        self._deployment = runner_utils.extract_local_deployment_config(ir)
        self._place = place
        self._run_id = run_id
        self._nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in ir.nodes}
        self.node_ids = list(self._nodes)

    def run(self, node_id: str) -> tuple[NodeRun, BaseException | None]:
        """Runs a node to its end, and reads its verdict if it is a gate.

        A node that was cut short in this run is run again into an empty place, and one that is done already is not
        run twice.

        Returns:
            The node as it ended, and what it raised, if it failed; or the no of its gate.
        """
        with Cost() as cost:
            try:
                return self._run(node_id, cost)
            except MetadataAwayError as error:
                # Nothing more can be read or written; the execution stays as it is, for the doctor to find.
                return NodeRun(node_id, NodeState.FAILED, cost.seconds, cost.peak_mb), error

    def _run(self, node_id: str, cost: "Cost") -> tuple[NodeRun, BaseException | None]:
        node = self._nodes[node_id]
        self._sweep(node)
        try:
            execution = self._launch(node)
        except MetadataAwayError:
            raise
        except BaseException as error:
            failed_id = self._record_reason(node, error)
            return NodeRun(node_id, NodeState.FAILED, cost.seconds, cost.peak_mb, failed_id), error
        with reach(self._place) as handle:
            outputs = _outputs(handle.store, execution.id)
        state = NodeState.CACHED if execution.last_known_state == metadata_store_pb2.Execution.CACHED else NodeState.RAN
        ended, no = judge(NodeRun(node_id, state, cost.seconds, cost.peak_mb, execution.id, outputs))
        if no is not None:
            # An execution that failed answers no later run from the cache.
            with reach(self._place) as handle:
                for each in [execution, *_others_with(handle.store, outputs, execution)]:
                    _end(handle.store, each, metadata_store_pb2.Execution.FAILED, no)
        return ended, no

    def _launch(self, node: Any) -> metadata_store_pb2.Execution:
        node_id = node.node_info.id
        info = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=reach(self._place),
            pipeline_info=self._ir.pipeline_info,
            pipeline_runtime_spec=self._ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(self._deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(self._deployment, node_id),
        ).launch()
        if info is None or info.execution_id is None:
            raise RuntimeError(f"node {node_id} was not executed: its inputs are missing")
        with reach(self._place) as handle:
            (execution,) = handle.store.get_executions_by_id([info.execution_id])
        if execution.last_known_state not in _DONE:
            # TFX raises nothing where it cannot resolve the inputs.
            raise RuntimeError(f"node {node_id} was not executed: a node that it needs has not ended well")
        return execution

    def _executions(self, store: metadata_store.MetadataStore, node: Any) -> list[metadata_store_pb2.Execution]:
        """Returns what this run has recorded of a node: nodes of one run may be launched at once."""
        contexts = [
            store.get_context_by_type_and_name(item.type.name, item.name.field_value.string_value)
            for item in node.contexts.contexts
        ]
        if not all(contexts):
            return []
        found = [{item.id: item for item in store.get_executions_by_context(context.id)} for context in contexts]
        common = set.intersection(*map(set, found))
        return [found[0][number] for number in sorted(common)]

    def _sweep(self, node: Any) -> None:
        """Removes what an attempt that did not end has left in the outputs of this run's execution."""
        with reach(self._place) as handle:
            executions = self._executions(handle.store, node)
        root = self._ir.runtime_spec.pipeline_root.field_value.string_value
        for execution in executions:
            if execution.last_known_state not in _DONE:
                for output in node.outputs.outputs:
                    directory = os.path.join(root, node.node_info.id, output, str(execution.id))
                    shutil.rmtree(directory, ignore_errors=True)

    def _record_reason(self, node: Any, error: BaseException) -> int | None:
        """Writes why a node failed to its execution: the launcher records only that it did.

        Where the process was asked to end the launcher records not even that.
        """
        stopped = not isinstance(error, Exception)
        state = metadata_store_pb2.Execution.RUNNING if stopped else metadata_store_pb2.Execution.FAILED
        with reach(self._place) as handle:
            failed = [item for item in self._executions(handle.store, node) if item.last_known_state == state]
            if not failed:
                return None
            _end(handle.store, failed[-1], metadata_store_pb2.Execution.CANCELED if stopped else state, error)
            return failed[-1].id


def judge(node: NodeRun) -> tuple[NodeRun, Exception | None]:
    """Returns a node as its verdict leaves it, and the error that stops the run.

    A gate's component returns normally whatever it found, so every launcher asks here before it calls a node done,
    also where the cache answered: the process may have been killed after a no was recorded and before it was judged.

    Args:
        node: One that ran, or was answered from the cache, with its outputs.

    Returns:
        The node as it is and None where it is no gate or its verdict is yes. A gate that said no has failed, and keeps
        its outputs; one whose verdict cannot be read has failed, and has none.
    """
    try:
        for verdict in left_behind([node]).verdicts():
            check_verdict(verdict)
    except GateRejectedError as error:
        return replace(node, state=NodeState.FAILED), error
    except BadInputError as error:
        return replace(node, state=NodeState.FAILED, outputs={}), error
    return node, None


def annotate_run(place: MetadataPlace, run_id: str, **properties: str) -> int:
    """Writes custom properties to a run's context in the metadata store and returns the context's id."""
    with reach(place) as handle:
        context = handle.store.get_context_by_type_and_name("pipeline_run", run_id)
        if context is None:
            raise LookupError(f"the metadata store knows no run {run_id}")
        for name, value in properties.items():
            context.custom_properties[name].string_value = value
        handle.store.put_contexts([context])
        return context.id


class Cost:
    """Wall time and peak memory of the block it surrounds."""

    def __enter__(self) -> "Cost":
        self._started = time.perf_counter()
        self._process = psutil.Process()
        self._done = threading.Event()
        self.peak_mb = 0.0
        self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Wall time since the block was entered."""
        return time.perf_counter() - self._started

    def _watch(self) -> None:
        while not self._done.wait(_MEMORY_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 2**20)


class _Patient(metadata.Metadata):
    def __init__(self, place: MetadataPlace):
        super().__init__(place.connection)
        self._place = place

    def __enter__(self) -> "_Patient":
        # TFX's own tries ten times within seconds, and its store does not outlast a lost connection.
        self._store: Any = self._place.open()
        self._users += 1
        return self


def reach(place: MetadataPlace) -> metadata.Metadata:
    """Returns a handle to a store: TFX's own for a file, one that outlasts an outage for a server."""
    return _Patient(place) if place.server else metadata.Metadata(place.connection)


def _end(
    store: metadata_store.MetadataStore, execution: metadata_store_pb2.Execution, state: Any, error: BaseException
) -> None:
    """Writes to an execution how it ended and why."""
    execution.last_known_state = state
    execution.custom_properties["reason"].string_value = f"{error}"[:_REASON_CHARACTERS]
    store.put_executions([execution])


def _others_with(
    store: metadata_store.MetadataStore,
    outputs: dict[str, metadata_store_pb2.Artifact],
    execution: metadata_store_pb2.Execution,
) -> list[metadata_store_pb2.Execution]:
    """Returns the other executions with these outputs: where the cache answered, those that it took them from."""
    events = store.get_events_by_artifact_ids([artifact.id for artifact in outputs.values()])
    made = {event.execution_id for event in events if event.type == metadata_store_pb2.Event.OUTPUT}
    return store.get_executions_by_id(sorted(made - {execution.id}))


def _outputs(store: metadata_store.MetadataStore, execution_id: int) -> dict[str, metadata_store_pb2.Artifact]:
    events = [
        event
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    artifacts = {item.id: item for item in store.get_artifacts_by_id([event.artifact_id for event in events])}
    return {event.path.steps[0].key: artifacts[event.artifact_id] for event in events}
