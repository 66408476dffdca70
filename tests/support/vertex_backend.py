"""Runs a compiled Vertex file in this process, step after step, with a directory in place of Cloud Storage.

Vertex's own backend is not public; the protocol is that of KFP's, which it shares: the executor input is built by the
SDK's own ``kfp.local.executor_input_utils``, outputs are merged as ``mergeRuntimeArtifacts`` does, and output
parameters are read as ``collectOutputParameters`` and ``TextToPbValue`` do in
github.com/kubeflow/pipelines, ``backend/src/v2/component/launcher_v2.go`` and ``backend/src/v2/metadata``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.local import executor_input_utils
from kfp.pipeline_spec import pipeline_spec_pb2

JOB = "{{$.pipeline_job_uuid}}"
Run = Callable[[list[str]], None]


class VertexBackend:
    """Runs one file.

    ``storage`` stands for ``gs://``. ``run`` is called with a container's command and arguments. ``executor_inputs``
    has what each container was handed.
    """

    def __init__(self, text: str, storage: Path, run: Run):
        self.spec = json_format.ParseDict(yaml.safe_load(text), pipeline_spec_pb2.PipelineSpec())
        deployment = json_format.MessageToDict(self.spec.deployment_spec)
        self._containers = {label: item["container"] for label, item in deployment["executors"].items()}
        self._storage, self._run = storage, run
        self._artifacts: dict[tuple[str, str], Any] = {}
        self._parameters: dict[tuple[str, str], Any] = {}
        self.executor_inputs: dict[str, Any] = {}

    def run(self, job: str, arguments: dict[str, Any], nodes: set[str] | None = None) -> None:
        """Runs every task, or those of ``nodes``, in the file's order; then the exit task, also after a failure."""
        self._job = job
        root = self.spec.root
        assert set(arguments) <= set(root.input_definitions.parameters)
        values = {
            name: json_format.MessageToDict(item.default_value)
            for name, item in root.input_definitions.parameters.items()
        } | arguments
        (exit_name,) = (name for name, task in root.dag.tasks.items() if task.trigger_policy.strategy)
        ((inner, _),) = ((name, task) for name, task in root.dag.tasks.items() if name != exit_name)
        tasks = self.spec.components[root.dag.tasks[inner].component_ref.name].dag.tasks
        try:
            done: set[str] = set()
            while waiting := [name for name in tasks if name not in done and (nodes is None or name in nodes)]:
                name = next(name for name in waiting if set(tasks[name].dependent_tasks) <= done)
                self._step(name, tasks[name], values)
                done.add(name)
        finally:
            self._step(exit_name, root.dag.tasks[exit_name], values)

    def _step(self, name: str, task: Any, parent: dict[str, Any]) -> None:
        component = self.spec.components[task.component_ref.name]
        given = {key: self._value(item, parent) for key, item in task.inputs.parameters.items()}
        assert set(given) == set(component.input_definitions.parameters)
        handed = self._executor_input(name, task, component, given)
        self.executor_inputs[name] = handed
        texts = {"{{$}}": json_format.MessageToJson(handed), JOB: self._job}
        texts |= {f"{{{{$.inputs.parameters['{key}']}}}}": _text(value) for key, value in given.items()}
        container = self._containers[component.executor_label]
        self._run([_fill(part, texts) for part in (*container["command"], *container["args"])])
        for key, item in handed.outputs.parameters.items():
            text = self._path(item.output_file).read_text(encoding="utf-8")
            kind = component.output_definitions.parameters[key].parameter_type
            self._parameters[name, key] = _read(text, pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(kind))
        written = pipeline_spec_pb2.ExecutorOutput()
        if handed.outputs.artifacts:
            path = self._path(handed.outputs.output_file)
            json_format.Parse(path.read_text(encoding="utf-8"), written)
        for key, value in handed.outputs.artifacts.items():
            (made,) = value.artifacts
            for said in written.artifacts[key].artifacts[:1]:
                made.uri = said.uri or made.uri
                made.metadata.update(json_format.MessageToDict(said.metadata))
            assert made.uri.startswith("gs://")
            self._artifacts[name, key] = made

    def _value(self, item: Any, parent: dict[str, Any]) -> Any:
        match item.WhichOneof("kind"):
            case "component_input_parameter":
                return parent[item.component_input_parameter]
            case "task_output_parameter":
                output = item.task_output_parameter
                return self._parameters[output.producer_task, output.output_parameter_key]
            case "runtime_value":
                return json_format.MessageToDict(item.runtime_value.constant)
            case kind:
                raise NotImplementedError(kind)

    def _executor_input(self, name: str, task: Any, component: Any, given: dict[str, Any]) -> Any:
        without = type(component)()
        without.CopyFrom(component)
        without.input_definitions.artifacts.clear()
        root = f"gs://bucket/pipelines/{self._job}/{name}"
        made = executor_input_utils.construct_executor_input(without, given, root, True)
        for key, item in task.inputs.artifacts.items():
            output = item.task_output_artifact
            found = self._artifacts[output.producer_task, output.output_artifact_key]
            made.inputs.artifacts[key].artifacts.append(found)
        return made

    def _path(self, address: str) -> Path:
        return self._storage / address.removeprefix("gs://")


def _fill(part: str, texts: dict[str, str]) -> str:
    # What an argument holds is not looked at again.
    if part in texts:
        return texts[part]
    for placeholder, text in texts.items():
        part = part.replace(placeholder, text)
    assert "{{$" not in part, f"the backend leaves {part}"
    return part


def _read(text: str, kind: str) -> Any:
    return {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}[kind](text)


def _text(value: Any) -> str:
    """As ``PbValueToText`` writes it: a whole number without a fraction."""
    if isinstance(value, bool):
        return json.dumps(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
