"""Runs the graph in this process, node after node, through TFX's portable launcher.

TFX's LocalDagRunner does the same, but tells nobody which node runs, which was answered from the cache and
what it cost.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from components.errors import GateRejectedError
from pipeline.nodes import CACHED, FAILED, RAN, RUNNING, SKIPPED, NodeRun

VERDICT = "verdict"
_MEMORY_INTERVAL = 0.05
_REASON_CHARACTERS = 4_000


class LocalRunner:
    """Runs one pipeline once.

    Attributes:
        nodes: The nodes in running order, replaced as they change.
    """

    def __init__(self, pipeline: Pipeline, run_id: str, on_change: Callable[[list[NodeRun]], None]):
        """Compiles the pipeline.

        Args:
            pipeline: What to run.
            run_id: Name of the run in the metadata store.
            on_change: Called with all nodes whenever one changes.
        """
        self._ir = compiler.Compiler().compile(pipeline)
        runtime_parameter_utils.substitute_runtime_parameter(
            self._ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
        )
        self._deployment = runner_utils.extract_local_deployment_config(self._ir)
        self._connection = pipeline.metadata_connection_config
        self._run_id = run_id
        self._on_change = on_change
        self.nodes = [NodeRun(node.pipeline_node.node_info.id) for node in self._ir.nodes]

    def run(self) -> None:
        """Runs every node.

        Raises:
            Exception: What the first failing node raised; the nodes behind it are marked skipped.
        """
        for position, node in enumerate(self._ir.nodes):
            self._change(position, state=RUNNING)
            with _Cost() as cost:
                try:
                    execution_id = self._launch(node.pipeline_node)
                except BaseException as error:
                    failed_id = self._record_reason(error)
                    if isinstance(error, GateRejectedError) and error.files:
                        self._keep_verdict(node.pipeline_node, failed_id, error)
                    self._change(
                        position,
                        state=FAILED,
                        seconds=cost.seconds,
                        peak_mb=cost.peak_mb,
                        execution_id=failed_id,
                        outputs=self._left_behind(node.pipeline_node, failed_id),
                    )
                    for later in range(position + 1, len(self.nodes)):
                        self._change(later, state=SKIPPED)
                    raise
            with self.store() as store:
                (execution,) = store.get_executions_by_id([execution_id])
                outputs = _outputs(store, execution_id)
            cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
            self._change(
                position,
                state=CACHED if cached else RAN,
                seconds=cost.seconds,
                peak_mb=cost.peak_mb,
                execution_id=execution_id,
                outputs=outputs,
            )

    @contextmanager
    def store(self) -> Iterator[metadata_store.MetadataStore]:
        """Opens the metadata store."""
        with metadata.Metadata(self._connection) as handle:
            yield handle.store

    def annotate(self, **properties: str) -> int:
        """Writes custom properties to this run's context in the metadata store and returns the context's id."""
        with self.store() as store:
            context = store.get_context_by_type_and_name("pipeline_run", self._run_id)
            if context is None:
                raise LookupError(f"the metadata store knows no run {self._run_id}")
            for name, value in properties.items():
                context.custom_properties[name].string_value = value
            store.put_contexts([context])
            return context.id

    def _launch(self, node: Any) -> int:
        node_id = node.node_info.id
        info = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(self._connection),
            pipeline_info=self._ir.pipeline_info,
            pipeline_runtime_spec=self._ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(self._deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(self._deployment, node_id),
        ).launch()
        if info is None or info.execution_id is None:
            raise RuntimeError(f"node {node_id} was not executed: its inputs are missing")
        return info.execution_id

    def _record_reason(self, error: BaseException) -> int | None:
        """Writes why a node failed to its execution: the launcher records only that it did."""
        with self.store() as store:
            context = store.get_context_by_type_and_name("pipeline_run", self._run_id)
            executions = store.get_executions_by_context(context.id) if context else []
            failed = [item for item in executions if item.last_known_state == metadata_store_pb2.Execution.FAILED]
            if not failed:
                return None
            execution = max(failed, key=lambda item: item.id)
            execution.custom_properties["reason"].string_value = f"{error}"[:_REASON_CHARACTERS]
            store.put_executions([execution])
            return execution.id

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

    def _change(self, position: int, **values: Any) -> None:
        self.nodes[position] = replace(self.nodes[position], **values)
        self._on_change(list(self.nodes))


class _Cost:
    """Wall time and peak memory of the block it surrounds."""

    def __enter__(self) -> "_Cost":
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
