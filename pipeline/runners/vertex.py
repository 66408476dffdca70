"""Compiles the graph for Vertex AI: TFX's own compile of every node, between ``begin`` and ``finish``.

TFX writes what a run decides, such as the digest of its data, as constants. Here each property of a node is an output
parameter of ``begin`` instead, which builds the graph of this run and hands TFX's constants for it to the nodes; so the
file runs on any data and with any family. Each container runs ``newsdesk node``, which leads TFX's own entry point.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline

from components.errors import BadInputError
from pipeline.config.config import Config
from pipeline.config.orchestrator import OrchestratorConfig
from pipeline.runners.parameters import Parameter, parameters_of, slug

COMMAND = ["newsdesk", "node"]
BEGIN, FINISH, RUN = "begin", "finish", "run"
JOB = "{{$.pipeline_job_uuid}}"
"""Vertex fills it in where it stands in an argument; an input would make every run another one for its cache."""
_TYPES = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", bool: "BOOLEAN"}


def compile_vertex(pipeline: Pipeline, config: Config, image: str, preset_arguments: Sequence[str]) -> str:
    """Returns the pipeline, every property of a node filled in, as YAML; arguments are as in ``compile_for``."""
    orchestrator, parameters = config.orchestrator, parameters_of(config)
    spec = _compile(pipeline, slug(config.name), image)
    executors, components = spec["deploymentSpec"]["executors"], spec["components"]
    tasks = spec["root"]["dag"]["tasks"]
    common = ["--vertex", "--job", JOB, "--workspace", orchestrator.workspace, *_secrets(orchestrator)]
    outputs: dict[str, Any] = {}
    for node, task in tasks.items():
        component = components[task["componentRef"]["name"]]
        defined = component.get("inputDefinitions", {}).get("parameters", {})
        for name, given in task.get("inputs", {}).get("parameters", {}).items():
            key = key_of(node, name)
            outputs[key] = {"parameterType": defined[name]["parameterType"]}
            given.clear()
            given["taskOutputParameter"] = {"producerTask": BEGIN, "outputParameterKey": key}
        task["dependentTasks"] = sorted({*task.get("dependentTasks", ()), BEGIN})
        container = executors[component["executorLabel"]]["container"]
        container |= {"command": [*COMMAND, node], "args": [*common, "--", *container["args"]]}
    begin_arguments = [*common, "--cache", orchestrator.cache, *preset_arguments, "--executor-input", "{{$}}"]
    for item in parameters:
        begin_arguments += [item.option, f"{{{{$.inputs.parameters['{item.name}']}}}}"]
    for name, arguments in ((BEGIN, begin_arguments), (FINISH, common)):
        executors[f"{name}_executor"] = {"container": {"image": image, "command": [*COMMAND, name], "args": arguments}}
        components[name] = {"executorLabel": f"{name}_executor"}
    inner = {"parameters": {item.name: {"parameterType": _TYPES[type(item.default)]} for item in parameters}}
    handed_on = {"parameters": {item.name: {"componentInputParameter": item.name} for item in parameters}}
    components[BEGIN] |= {"inputDefinitions": inner, "outputDefinitions": {"parameters": outputs}}
    tasks[BEGIN] = {"taskInfo": {"name": BEGIN}, "componentRef": {"name": BEGIN}, "inputs": handed_on}
    finish = {"taskInfo": {"name": FINISH}, "componentRef": {"name": FINISH}}
    for name, task in [*tasks.items(), (FINISH, finish)]:
        executor = executors[components[task["componentRef"]["name"]]["executorLabel"]]
        _equip(task, executor["container"], name, orchestrator)
    components[RUN] = {"inputDefinitions": inner, "dag": {"tasks": tasks}}
    spec["root"] = {
        "inputDefinitions": {"parameters": {item.name: _definition(item) for item in parameters}},
        "dag": {
            "tasks": {
                RUN: {"taskInfo": {"name": RUN}, "componentRef": {"name": RUN}, "inputs": handed_on},
                FINISH: finish
                | {"dependentTasks": [RUN], "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}},
            }
        },
    }
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    head = f"# newsdesk, preset {config.preset}, for Vertex AI\n"
    return head + yaml.safe_dump(spec, sort_keys=True, width=120)


def constants_of(pipeline: Pipeline, name: str) -> dict[str, str]:
    """Returns what TFX writes for the properties of a graph's nodes, by key, as the text of a parameter."""
    spec = _compile(pipeline, name, "none")
    texts = {}
    for node, task in spec["root"]["dag"]["tasks"].items():
        defined = spec["components"][task["componentRef"]["name"]].get("inputDefinitions", {}).get("parameters", {})
        for key, given in task.get("inputs", {}).get("parameters", {}).items():
            value = given["runtimeValue"]["constant"]
            # In this form every number is a float.
            whole = defined[key]["parameterType"] == "NUMBER_INTEGER"
            texts[key_of(node, key)] = str(int(value) if whole else value)
    return texts


def fill(texts: Mapping[str, str], wanted: Iterable[str]) -> dict[str, str]:
    """Returns the text of each parameter that a compiled file wants; of a property that this graph lacks, none.

    Args:
        texts: Of this run, by key.
        wanted: Keys of ``begin``'s outputs.

    Raises:
        BadInputError: The file has no place for one of them.
    """
    keys = set(wanted)
    if lost := sorted(set(texts) - keys):
        raise BadInputError(f"the compiled file knows no {lost[0]}: compile it again with the version in the image")
    return {key: texts.get(key, "") for key in sorted(keys)}


def key_of(node: str, name: str) -> str:
    """Returns the name of ``begin``'s output for a node's property."""
    return f"{node}_{name}".lower()


def _compile(pipeline: Pipeline, name: str, image: str) -> dict[str, Any]:
    # The pipeline's own name, which is that of the model too, may hold what Vertex does not take.
    pipeline.pipeline_info.pipeline_name = name
    settings = KubeflowV2DagRunnerConfig(default_image=image, default_commands=COMMAND, use_pipeline_spec_2_1=True)
    spec: dict[str, Any] = KubeflowV2DagRunner(settings).run(pipeline, write_out=False)["pipelineSpec"]
    return spec


def _definition(item: Parameter) -> dict[str, Any]:
    return {"parameterType": _TYPES[type(item.default)], "defaultValue": item.default, "description": item.help}


def _secrets(orchestrator: OrchestratorConfig) -> list[str]:
    arguments = []
    for variable, kept in sorted(orchestrator.secrets.items()):
        name, _, version = kept.partition("/")
        place = f"projects/{orchestrator.project}/secrets/{name}/versions/{version}"
        arguments += ["--secret", f"{variable}={place}"]
    return arguments


def _equip(task: dict[str, Any], container: dict[str, Any], node: str, orchestrator: OrchestratorConfig) -> None:
    resources = orchestrator.of(node)
    container["resources"] = {"cpuLimit": resources.cpu, "memoryLimit": resources.memory_gib * 2**30 / 10**9}
    if resources.accelerator:
        container["resources"]["accelerator"] = {"type": resources.accelerator, "count": str(resources.accelerators)}
    if orchestrator.environment:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(orchestrator.environment.items())]
    # Newsdesk answers from earlier runs itself, so that finish knows of every node.
    task["cachingOptions"] = {}
    if orchestrator.retries:
        task["retryPolicy"] = {
            "maxRetryCount": orchestrator.retries,
            "backoffDuration": f"{orchestrator.backoff_seconds}s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "3600s",
        }
