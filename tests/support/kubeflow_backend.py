"""Runs a compiled Kubeflow file with processes in place of containers, as Kubeflow's backend would.

What the backend does is written after its source in github.com/kubeflow/pipelines: inputs of a task and the id of the
run as in ``backend/src/v2/driver/resolve.go``, placeholders of a command as in ``getPlaceholders`` of
``backend/src/v2/component/launcher_v2.go``, retries and the trigger of an exit task as in
``backend/src/v2/compiler/argocompiler/{container,dag}.go``.
"""

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2
from newsdesk_process import fork

JOB = "{{$.pipeline_job_uuid}}"
EXIT = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.ALL_UPSTREAM_TASKS_COMPLETED
SUCCEEDED, FAILED, SKIPPED = "succeeded", "failed", "skipped"


@dataclass
class Attempt:
    """One start of one container: exit code (negative for a signal), and when, in seconds."""

    task: str
    command: list[str]
    code: int | None = None
    started: float = 0.0
    ended: float = 0.0
    log: str = ""


@dataclass
class Outcome:
    """What became of a run: the state of each task, and every attempt in order of its start."""

    states: dict[str, str] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)

    def of(self, task: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.task == task]

    def log(self) -> str:
        return "\n".join(f"== {item.task}: {item.code}\n{item.log[-3000:]}" for item in self.attempts)


class Backend:
    """Runs one file.

    ``environment`` is that of the image. ``secrets`` are those of the cluster, by name and key. ``on_start`` is called
    in a thread of its own with the task, the number of the attempt and its process. ``here`` is called with the command
    of a container in place of a process, one at a time; it returns the exit code.
    """

    def __init__(
        self,
        file: Path,
        environment: dict[str, str],
        secrets: dict[tuple[str, str], str] | None = None,
        on_start: Callable[[str, int, BaseProcess], None] | None = None,
        here: Callable[[list[str]], int] | None = None,
    ):
        loaded = components.load_component_from_file(str(file))
        self.spec = loaded.pipeline_spec
        platform = json_format.MessageToDict(loaded.platform_spec)
        self._platform = (
            platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        )
        self._executors = {
            label: json_format.ParseDict(executor, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec())
            for label, executor in json_format.MessageToDict(self.spec.deployment_spec)["executors"].items()
        }
        self._environment, self._secrets = environment, secrets or {}
        self._on_start = on_start or (lambda *_: None)
        self._here = here
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def run(self, job: str, arguments: dict[str, Any], tasks: set[str] | None = None) -> Outcome:
        """Runs every task, or those of ``tasks`` alone."""
        defined = self.spec.root.input_definitions.parameters
        assert set(arguments) <= set(defined)
        values = {name: _plain(item.default_value) for name, item in defined.items()} | arguments
        self._job, self._outcome, self._only = job, Outcome(), tasks
        self._run_dag(self.spec.root.dag, values)
        return self._outcome

    def _run_dag(self, dag: Any, parent: dict[str, Any]) -> str:
        """Starts every task as soon as those before it are done, all that can at once."""
        waiting = dict(dag.tasks)
        done: dict[str, str] = {}
        running: dict[Future, str] = {}
        with ThreadPoolExecutor(len(waiting)) as pool:
            while waiting or running:
                for name, task in list(waiting.items()):
                    if set(task.dependent_tasks) <= set(done):
                        del waiting[name]
                        before = {done[item] for item in task.dependent_tasks}
                        if self._leaves_out(name, task):
                            done[name] = self._outcome.states[name] = SKIPPED
                            continue
                        if before <= {SUCCEEDED} or task.trigger_policy.strategy == EXIT:
                            running[pool.submit(self._run_task, name, task, parent)] = name
                        else:
                            done[name] = self._outcome.states[name] = SKIPPED
                if not running:
                    assert not waiting or set(done) & set(dag.tasks), "the file's dependencies have a loop"
                    continue
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    done[name] = self._outcome.states[name] = future.result()
        return SUCCEEDED if set(done.values()) == {SUCCEEDED} else FAILED

    def _leaves_out(self, name: str, task: Any) -> bool:
        is_container = self.spec.components[task.component_ref.name].WhichOneof("implementation") != "dag"
        return self._only is not None and is_container and name not in self._only

    def _run_task(self, name: str, task: Any, parent: dict[str, Any]) -> str:
        component = self.spec.components[task.component_ref.name]
        inputs = {key: self._resolve(given, parent) for key, given in task.inputs.parameters.items()}
        assert set(inputs) == set(component.input_definitions.parameters)
        if component.WhichOneof("implementation") == "dag":
            return self._run_dag(component.dag, inputs)
        container = self._executors[component.executor_label].container
        for number in range(task.retry_policy.max_retry_count + 1):
            if number:
                time.sleep(task.retry_policy.backoff_duration.seconds)
            if self._attempt(name, number, component.executor_label, container, inputs) == 0:
                return SUCCEEDED
        return FAILED

    def _resolve(self, given: Any, parent: dict[str, Any]) -> Any:
        match given.WhichOneof("kind"):
            case "component_input_parameter":
                return parent[given.component_input_parameter]
            case "runtime_value":
                value = _plain(given.runtime_value.constant)
                # Only a value that is nothing but the placeholder is filled in.
                return self._job if value == JOB else value
            case kind:
                raise NotImplementedError(kind)

    def _attempt(self, name: str, number: int, label: str, container: Any, inputs: dict[str, Any]) -> int:
        texts = {f"{{{{$.inputs.parameters['{key}']}}}}": _text(value) for key, value in inputs.items()}
        command = [_fill(part, texts) for part in (*container.command, *container.args)]
        environment = self._environment | {item.name: item.value for item in container.env}
        for secret in self._platform.get(label, {}).get("secretAsEnv", ()):
            for entry in secret["keyToEnv"]:
                environment[entry["envVar"]] = self._secrets[secret["secretName"], entry["secretKey"]]
        attempt = Attempt(name, command, started=time.monotonic())
        with self._lock:
            self._outcome.attempts.append(attempt)
        if self._here:
            with self._turn:
                attempt.code = self._here(command)
            return attempt.code
        assert command[0] == "newsdesk"
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory, "log")
            process = fork(command[1:], environment, log, log, f"import os; os.chdir({environment['HOME']!r})")
            watcher = threading.Thread(target=self._on_start, args=(name, number, process), daemon=True)
            watcher.start()
            process.join(800)
            if process.exitcode is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
            watcher.join()
            attempt.log = log.read_text(encoding="utf-8")
        attempt.code, attempt.ended = process.exitcode, time.monotonic()
        return process.exitcode


def _fill(part: str, texts: dict[str, str]) -> str:
    for placeholder, text in texts.items():
        part = part.replace(placeholder, text)
    assert "{{" not in part, f"the backend leaves {part}"
    return part


def _plain(value: Any) -> Any:
    return json_format.MessageToDict(value)


def _text(value: Any) -> str:
    """As Go's ``strconv`` and ``json.Marshal`` write it."""
    if isinstance(value, bool | dict | list):
        return json.dumps(value)
    return f"{value:.17g}" if isinstance(value, float) else str(value)
