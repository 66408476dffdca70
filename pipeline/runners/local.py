"""Runs the graph in this process, node after node, through TFX's portable launcher.

TFX's LocalDagRunner does the same, but tells nobody which node runs, which was answered from the cache and
what it cost.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tfx.orchestration.pipeline import Pipeline

from pipeline.metadata import MetadataPlace
from pipeline.nodes import RUNNING, SKIPPED, NodeRun
from pipeline.runners.ir import compile_graph
from pipeline.runners.launch import NodeLauncher, annotate_run


class LocalRunner:
    """Runs one pipeline once.

    Attributes:
        nodes: The nodes in running order, replaced as they change.
    """

    def __init__(
        self, pipeline: Pipeline, place: MetadataPlace, run_id: str, on_change: Callable[[list[NodeRun]], None]
    ):
        """Compiles the pipeline.

        Args:
            pipeline: What to run.
            place: The metadata store.
            run_id: Name of the run in the metadata store.
            on_change: Called with all nodes whenever one changes.
        """
        self._place, self._run_id = place, run_id
        self._launcher = NodeLauncher(compile_graph(pipeline, run_id), place, run_id)
        self._on_change = on_change
        self.nodes = [NodeRun(node_id) for node_id in self._launcher.node_ids]

    def run(self) -> None:
        """Runs every node.

        Raises:
            Exception: What the first failing node raised; the nodes behind it are marked skipped.
        """
        for position, node_id in enumerate(self._launcher.node_ids):
            self._change(position, state=RUNNING)
            self.nodes[position], error = self._launcher.run(node_id)
            self._on_change(list(self.nodes))
            if error:
                for later in range(position + 1, len(self.nodes)):
                    self._change(later, state=SKIPPED)
                raise error

    def annotate(self, **properties: str) -> int:
        """Writes custom properties to this run's context in the metadata store and returns the context's id."""
        return annotate_run(self._place, self._run_id, **properties)

    def _change(self, position: int, **values: Any) -> None:
        self.nodes[position] = replace(self.nodes[position], **values)
        self._on_change(list(self.nodes))
