"""One whole run in this process: lock, stores, graph, tracking and report."""

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tfx.orchestration.pipeline import Pipeline

from components.errors import BadInputError, GateRejectedError
from components.outcomes import NodeState, Outcome
from components.registry.spool import Spool
from components.registry.tracking import start_run
from pipeline.graph import RegistryState, create_pipeline
from pipeline.run.launch import NodeLauncher, annotate_run, compile_graph
from pipeline.run.record import NodeRun, Request, RunResult, explain
from pipeline.run.track import describe, keep_report, link, tag_candidate, track
from pipeline.workspace.abandoned import WORKSPACE, close_killed
from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import exclusive
from pipeline.workspace.stores import remember


def execute(request: Request, run_id: str, on_change: Callable[[list[NodeRun]], None]) -> RunResult:
    """Runs the pipeline once and tracks it.

    Args:
        request: What to run.
        run_id: Name of the run.
        on_change: Called with all nodes whenever one changes.

    Returns:
        The result; a failure is in its ``outcome`` and ``reasons``, tracked, and its traceback is on standard error.

    Raises:
        BadInputError: Another run holds the workspace, or a store does not answer or refuses.
    """
    started = time.perf_counter()
    config, workspace = request.config, request.workspace
    result = RunResult(Outcome.PUSHED, run_id, model_family=config.model, model_name=config.name)
    with exclusive(workspace, run_id):
        place = MetadataPlace(request.metadata_uri, patience_seconds=config.stores.patience_seconds)
        place.check()
        remember(workspace, config.stores)
        close_killed(workspace, request.tracking)
        registry = RegistryState.of(request.tracking, config.name, workspace)
        pipeline = create_pipeline(
            config, request.source, workspace, request.prepared, registry, request.enable_cache, request.metadata
        )
        runner = LocalRunner(pipeline, place, run_id, on_change)
        try:
            spool, owner = Spool(workspace.spool), {WORKSPACE: str(workspace.root)}
            with start_run(request.tracking, config.name, run_id, spool, owner) as tracked:
                result.mlflow_run_id = tracked.id
                describe(tracked, request, run_id)
                try:
                    runner.run()
                finally:
                    result.nodes = [node.summary() for node in runner.nodes]
                    link(tracked, runner.nodes, partial(annotate_run, place, run_id))
                    track(tracked, runner.nodes, request, result)
        except Exception as error:
            if not isinstance(error, BadInputError | GateRejectedError):
                traceback.print_exc()
            result.outcome, result.reasons = explain(error)
        if result.mlflow_run_id:
            tag_candidate(tracked, runner.nodes, config.name, result)
        result.seconds = round(time.perf_counter() - started, 2)
        if result.mlflow_run_id:
            keep_report(result, runner.nodes, request)
    return result


class LocalRunner:
    """Runs one pipeline once, node after node, through TFX's portable launcher.

    TFX's LocalDagRunner does the same, but tells nobody which node runs, which was answered from the cache and what it
    cost.

    Attributes:
        nodes: The nodes in running order, replaced as they change.
    """

    def __init__(
        self, pipeline: Pipeline, place: MetadataPlace, run_id: str, on_change: Callable[[list[NodeRun]], None]
    ):
        """Compiles the pipeline; ``on_change`` is called with all nodes whenever one changes."""
        self._launcher = NodeLauncher(compile_graph(pipeline, run_id), place, run_id)
        self._on_change = on_change
        self.nodes = [NodeRun(node_id) for node_id in self._launcher.node_ids]

    def run(self) -> None:
        """Runs every node.

        Raises:
            Exception: What the first failing node raised; the nodes behind it are marked skipped.
        """
        for position, node_id in enumerate(self._launcher.node_ids):
            self._change(position, state=NodeState.RUNNING)
            self.nodes[position], error = self._launcher.run(node_id)
            self._on_change(list(self.nodes))
            if error:
                for later in range(position + 1, len(self.nodes)):
                    self._change(later, state=NodeState.SKIPPED)
                raise error

    def _change(self, position: int, **values: Any) -> None:
        self.nodes[position] = replace(self.nodes[position], **values)
        self._on_change(list(self.nodes))
