"""TFX's own form of a graph, which its portable launcher runs."""

from typing import Any

from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import runtime_parameter_utils


def compile_graph(pipeline: Pipeline, run_id: str) -> Any:
    """Returns TFX's ``Pipeline`` message of a graph, for one run of it."""
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    return ir
