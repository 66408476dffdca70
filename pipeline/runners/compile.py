"""Compiles the graph for a target, after the lint."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfx.orchestration.pipeline import Pipeline

from components.example_gen.source import Source
from components.features import AG_NEWS_CLASSES
from pipeline.config.config import Config
from pipeline.graph import RegistryState, create_pipeline
from pipeline.runners.lint import KUBEFLOW, Problem, Target, lint, refuse
from pipeline.workspace.place import Workspace

UNPINNED = "newsdesk:latest"
"""Stands in a file that names no image, which is not submitted."""


def compile_for(target: Target, config: Config, preset_arguments: Sequence[str]) -> tuple[str, list[Problem]]:
    """Returns the pipeline as YAML, and what is still missing before it may be submitted.

    Args:
        target: What it is for.
        config: Settings.
        preset_arguments: What gives the same settings to ``newsdesk node begin``: ``--preset`` and ``--set``.

    Raises:
        BadInputError: The target cannot run the graph.
    """
    pipeline = make_structure(config)
    problems = lint(pipeline, config, target)
    refuse([problem for problem in problems if not problem.deployment], target)
    image = config.orchestrator.image or UNPINNED
    if target == KUBEFLOW:
        from pipeline.runners.kubeflow import compile_kubeflow

        return compile_kubeflow(edges_of(pipeline), config, image, preset_arguments), problems
    from pipeline.runners.vertex import compile_vertex

    return compile_vertex(pipeline, config, image, preset_arguments), problems


def make_structure(config: Config) -> Pipeline:
    """Returns the graph with every property that a node can have, over data that nobody reads.

    What a run decides, such as the digest of its data, ``begin`` puts in its place.
    """
    span = "span-20000101"
    pair = (f"{span}/train.csv", f"{span}/test.csv")
    source = Source(Path("/nonexistent"), *pair, AG_NEWS_CLASSES, "", (span,), (pair,))
    # The graph looks into the model base, and would make it.
    with tempfile.TemporaryDirectory() as directory:
        workspace = Workspace(Path(directory))
        return create_pipeline(config, source, workspace, None, RegistryState("", ""), enable_cache=True)


def edges_of(pipeline: Pipeline) -> dict[str, list[str]]:
    """Returns each node with the nodes that it waits for, in an order in which they may run."""
    return {node.id: sorted(before.id for before in node.upstream_nodes) for node in pipeline.components}
