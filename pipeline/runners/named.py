"""Executors that must know the run's name, for TFX's container entry point, which tells it to none."""

from typing import Any

from components.example_gen import component as example_gen
from components.registry import register

RUN_ID = {"name": ""}
"""Set by the step before TFX makes the executor."""


class _Named:
    def __init__(self, context: Any = None):
        super().__init__(context)  # type: ignore[call-arg]
        context._pipeline_run_id = RUN_ID["name"]


class ExampleGenExecutor(_Named, example_gen.Executor):
    """Names the file of malformed rows after the run."""


class RegisterExecutor(_Named, register.Executor):
    """Registers the model in the run's own MLflow run."""


EXECUTORS = {
    "components.example_gen.component.Executor": f"{__name__}.ExampleGenExecutor",
    "components.registry.register.Executor": f"{__name__}.RegisterExecutor",
}
