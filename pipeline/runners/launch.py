"""Launches single nodes of a compiled graph through TFX's portable launcher, in this process.

What runs a whole graph here, and what runs one step of it in a container, share this.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher

from components.errors import GateRejectedError
from pipeline.metadata import MetadataAwayError, MetadataPlace
from pipeline.nodes import CACHED, FAILED, RAN, NodeRun
from pipeline.runners.reach import reach

VERDICT = "verdict"
_MEMORY_INTERVAL = 0.05
_REASON_CHARACTERS = 4_000
_DONE = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


class NodeLauncher:
    """Launches the nodes of one run.

    Attributes:
        node_ids: All of them, in an order in which they may run.
    """

    def __init__(self, ir: Any, place: MetadataPlace, run_id: str):
        """Takes a compiled graph.

        Args:
            ir: TFX's ``Pipeline`` message, with the run's id filled in.
            place: The metadata store.
            run_id: Name of the run there.
        """
        self._ir = ir
        self._deployment = runner_utils.extract_local_deployment_config(ir)
        self._place = place
        self._run_id = run_id
        self._nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in ir.nodes}
        self.node_ids = list(self._nodes)

    def run(self, node_id: str) -> tuple[NodeRun, BaseException | None]:
        """Runs a node to its end.

        A node that was cut short in this run is run again into an empty place, and one that is done already is not
        run twice.

        Returns:
            The node as it ended, and what it raised, if it failed.
        """
        with Cost() as cost:
            try:
                return self._run(node_id, cost)
            except MetadataAwayError as error:
                # Nothing more can be read or written; the execution stays as it is, for the doctor to find.
                return NodeRun(node_id, FAILED, cost.seconds, cost.peak_mb), error

    def _run(self, node_id: str, cost: "Cost") -> tuple[NodeRun, BaseException | None]:
        node = self._nodes[node_id]
        self._sweep(node)
        try:
            execution_id = self._launch(node)
        except MetadataAwayError:
            raise
        except BaseException as error:
            failed_id = self._record_reason(node, error)
            if isinstance(error, GateRejectedError) and error.files:
                self._keep_verdict(node, failed_id, error)
            outputs = self._left_behind(node, failed_id)
            return NodeRun(node_id, FAILED, cost.seconds, cost.peak_mb, failed_id, outputs), error
        with self.store() as store:
            (execution,) = store.get_executions_by_id([execution_id])
            outputs = _outputs(store, execution_id)
        cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
        return NodeRun(node_id, CACHED if cached else RAN, cost.seconds, cost.peak_mb, execution_id, outputs), None

    @contextmanager
    def store(self) -> Iterator[metadata_store.MetadataStore]:
        """Opens the metadata store."""
        with reach(self._place) as handle:
            yield handle.store

    def _launch(self, node: Any) -> int:
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
        return info.execution_id

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
        with self.store() as store:
            executions = self._executions(store, node)
        for execution in executions:
            if execution.last_known_state not in _DONE:
                for output in node.outputs.outputs:
                    shutil.rmtree(self._output_dir(node, output, execution.id), ignore_errors=True)

    def _record_reason(self, node: Any, error: BaseException) -> int | None:
        """Writes why a node failed to its execution: the launcher records only that it did.

        Where the process was asked to end the launcher records not even that.
        """
        stopped = not isinstance(error, Exception)
        state = metadata_store_pb2.Execution.RUNNING if stopped else metadata_store_pb2.Execution.FAILED
        with self.store() as store:
            failed = [item for item in self._executions(store, node) if item.last_known_state == state]
            if not failed:
                return None
            if stopped:
                failed[-1].last_known_state = metadata_store_pb2.Execution.CANCELED
            failed[-1].custom_properties["reason"].string_value = f"{error}"[:_REASON_CHARACTERS]
            store.put_executions([failed[-1]])
            return failed[-1].id

    def _keep_verdict(self, node: Any, execution_id: int | None, error: GateRejectedError) -> None:
        """Writes what a gate wrote once more: the launcher has deleted it."""
        place = self._output_dir(node, VERDICT, execution_id)
        os.makedirs(place)
        for name, content in error.files.items():
            with open(os.path.join(place, name), "wb") as file:
                file.write(content)

    def _left_behind(self, node: Any, execution_id: int | None) -> dict[str, metadata_store_pb2.Artifact]:
        """Returns what is left of a failed node: the verdict of a gate."""
        places = {name: self._output_dir(node, name, execution_id) for name in node.outputs.outputs}
        return {name: metadata_store_pb2.Artifact(uri=uri) for name, uri in places.items() if os.path.isdir(uri)}

    def _output_dir(self, node: Any, output: str, execution_id: int | None) -> str:
        root = self._ir.runtime_spec.pipeline_root.field_value.string_value
        return os.path.join(root, node.node_info.id, output, str(execution_id))


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


def _outputs(store: metadata_store.MetadataStore, execution_id: int) -> dict[str, metadata_store_pb2.Artifact]:
    events = [
        event
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    artifacts = {item.id: item for item in store.get_artifacts_by_id([event.artifact_id for event in events])}
    return {event.path.steps[0].key: artifacts[event.artifact_id] for event in events}
