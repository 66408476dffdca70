"""Compiles the graph for a target, after the lint."""

from collections.abc import Sequence

from tfx.orchestration.pipeline import Pipeline

from pipeline.config import Config
from pipeline.runners.lint import KUBEFLOW, Problem, Target, lint, refuse
from pipeline.runners.structure import make_structure

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


def edges_of(pipeline: Pipeline) -> dict[str, list[str]]:
    """Returns each node with the nodes that it waits for, in an order in which they may run."""
    return {node.id: sorted(before.id for before in node.upstream_nodes) for node in pipeline.components}
