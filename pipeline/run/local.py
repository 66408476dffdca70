"""Runs the graph in this process, node after node, through TFX's portable launcher.

TFX's LocalDagRunner does the same, but tells nobody which node runs, which was answered from the cache and
what it cost.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tfx.orchestration.pipeline import Pipeline

from components.outcomes import NodeState
from pipeline.run.launch import NodeLauncher, compile_graph
from pipeline.run.record import NodeRun
from pipeline.workspace.metadata import MetadataPlace


class LocalRunner:
    """Runs one pipeline once.

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
