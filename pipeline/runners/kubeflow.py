"""Compiles the graph for open-source Kubeflow Pipelines v2: a plain container per node.

TFX's own compile writes what open-source Kubeflow refuses. Here each container runs ``newsdesk node``, which launches
its node through TFX's portable launcher over the metadata store and the workspace that all steps share. Kubeflow's own
caching is off, since a step that it left out would be missing from this run's metadata; the launcher does the caching.
``finish`` is the exit task, so that it runs whatever became of the nodes.

Secrets and the shared volume are written as ``kubernetes_platform/proto/kubernetes_executor_config.proto`` of
kubeflow/pipelines has them, into the field of a task that kfp has for it.
"""

import inspect
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import structures

from pipeline.config.config import Config
from pipeline.config.orchestrator import OrchestratorConfig
from pipeline.runners.parameters import Parameter, parameters_of, slug

COMMAND = ["newsdesk", "node"]
BEGIN, FINISH = "begin", "finish"
Edges = dict[str, list[str]]


def compile_kubeflow(edges: Edges, config: Config, image: str, preset_arguments: Sequence[str]) -> str:
    """Returns the pipeline as YAML; ``edges`` are what ``edges_of`` returns, the rest as ``compile_for`` takes it."""
    orchestrator, parameters = config.orchestrator, parameters_of(config)
    place = ["--workspace", orchestrator.workspace]
    metadata = ["--metadata", orchestrator.metadata] if orchestrator.metadata else []
    constants = [*place, "--cache", orchestrator.cache, *metadata, *preset_arguments]

    def graph(*given: Any) -> None:
        channels = dict(zip((item.name for item in parameters), given, strict=True))

        def add(name: str, node: str, more: Sequence[Parameter] = (), arguments: Sequence[str] = place) -> Any:
            step = _step(name, image, [*COMMAND, node], arguments, more)
            task = step(job=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **{item.name: channels[item.name] for item in more})
            _equip(task, node, orchestrator)
            return task

        with dsl.ExitHandler(add(FINISH, FINISH), name="run"):
            tasks = {BEGIN: add(BEGIN, BEGIN, parameters, constants)}
            for node, before in edges.items():
                tasks[node] = add(slug(node), node).after(tasks[BEGIN], *(tasks[name] for name in before))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = [
        inspect.Parameter(item.name, kind, default=item.default, annotation=type(item.default)) for item in parameters
    ]
    described = dsl.pipeline(name=slug(config.name), description=f"newsdesk, preset {config.preset}")
    pipeline = described(_signed(graph, signature))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text(encoding="utf-8")


def _step(name: str, image: str, command: list[str], arguments: Sequence[str], more: Sequence[Parameter]) -> Any:
    """Returns a container component with the input ``job`` and the given parameters."""

    def step(job: Any, *given: Any) -> dsl.ContainerSpec:
        args = ["--job", job, *arguments]
        for item, value in zip(more, given, strict=True):
            args += [item.option, value]
        return dsl.ContainerSpec(image=image, command=command, args=args)

    step.__name__ = name
    job = inspect.Parameter("job", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
    inputs = [inspect.Parameter(item.name, job.kind, annotation=type(item.default)) for item in more]
    return dsl.container_component(_signed(step, [job, *inputs]))


def _signed(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    """Gives a function a signature, from which kfp reads names, types and defaults."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in parameters}
    return function


def _equip(task: Any, node: str, orchestrator: OrchestratorConfig) -> None:
    resources = orchestrator.of(node)
    memory = f"{round(resources.memory_gib * 1024)}Mi"
    cpu = f"{round(resources.cpu * 1000)}m"
    # The task's own setters look at the whole call stack each time, seconds in all where TFX is loaded.
    task.container_spec.resources = structures.ResourceSpec(
        cpu_request=cpu,
        cpu_limit=cpu,
        memory_request=memory,
        memory_limit=memory,
        accelerator_type=resources.accelerator,
        accelerator_count=str(resources.accelerators) if resources.accelerator else None,
    )
    task.container_spec.env = dict(sorted(orchestrator.environment.items())) or None
    task.set_caching_options(False).set_display_name(node)
    if orchestrator.retries:
        task.set_retry(orchestrator.retries, backoff_duration=f"{orchestrator.backoff_seconds}s", backoff_factor=2.0)
    kubernetes: dict[str, Any] = {}
    if orchestrator.claim:
        kubernetes["pvcMount"] = [{"mountPath": orchestrator.mount, "constant": orchestrator.claim}]
    if orchestrator.secrets:
        kubernetes["secretAsEnv"] = [
            {"secretName": kept.partition("/")[0], "keyToEnv": [{"secretKey": kept.partition("/")[2], "envVar": name}]}
            for name, kept in sorted(orchestrator.secrets.items())
        ]
    if kubernetes:
        task.platform_config["kubernetes"] = kubernetes
