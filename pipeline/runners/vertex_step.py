"""One step of a run on Vertex AI: TFX's container entry point, with Cloud Storage as files.

Vertex mounts every bucket below ``/gcs``, so ``gs://`` addresses become paths on the way in and addresses again on the
way out. What a node leaves is kept by what it depends on, and a later run on the same is answered from it: Vertex's own
caching would leave a step out without telling ``finish``.
"""

import argparse
import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as entry_point
from tfx.types import artifact as tfx_artifact

from components import artifacts
from components.errors import BadInputError
from components.files import undamaged, write_whole
from components.outcomes import NodeState
from pipeline.run.launch import Cost, judge
from pipeline.run.record import NodeRun
from pipeline.runners.node import ended, repeat
from pipeline.runners.steps import Steps

SCHEME = "gs://"
PREFIX = "newsdesk."
"""Of the names of our artifact types in a file for Vertex, where TFX takes only names of one dot."""


@dataclass(frozen=True)
class Mount:
    """Where Cloud Storage is mounted; ``root`` is ``/gcs`` on Vertex."""

    root: Path

    def to_path(self, address: str) -> str:
        """Returns the path of a ``gs://`` address; anything else as it is."""
        return f"{self.root}/{address.removeprefix(SCHEME)}" if address.startswith(SCHEME) else address

    def to_address(self, path: str) -> str:
        """Returns the address of a path below the mount; anything else as it is."""
        return SCHEME + path.removeprefix(f"{self.root}/") if path.startswith(f"{self.root}/") else path


def run_vertex_node(steps: Steps, node_id: str, arguments: Sequence[str], mount: Mount, workspace: Path) -> NodeRun:
    """Runs a node and notes how it ended.

    ``arguments`` are those of TFX's entry point, with the executor input filled in.

    Raises:
        BadInputError: The run has not begun, or the arguments are not those of TFX's entry point.
        Exception: What the node raised, or the no of its gate.
    """
    decided = steps.decided()
    given, beam_arguments = _parse(arguments)
    invocation = _replace(json.loads(given.json_serialized_invocation_args), _addresses(mount.to_path))
    output_file = Path(invocation["outputs"]["outputFile"])
    kept = workspace / "step-cache" / f"{_digest(given, invocation)}.json"
    if before := repeat(steps, node_id):
        return before
    steps.start(node_id)
    with Cost() as cost:
        left = _answer(kept) if decided.enable_cache else None
        error: BaseException | None = None
        state = NodeState.RAN
        if left is not None:
            state = NodeState.CACHED
        else:
            # An earlier attempt's file would be taken for what a driver says.
            output_file.unlink(missing_ok=True)
            _empty(invocation)
            named = importlib.import_module("pipeline.runners.named")
            named.RUN_ID["name"] = decided.run_id
            given.executor_class_path = named.EXECUTORS.get(given.executor_class_path, given.executor_class_path)
            given.json_serialized_invocation_args = json.dumps(_replace(invocation, {"instanceSchema": _to_class_path}))
            try:
                entry_point.main((given, beam_arguments))
                left = json.loads(output_file.read_text(encoding="utf-8"))
            except BaseException as raised:
                error = raised
    node = NodeRun(node_id, NodeState.FAILED, cost.seconds, cost.peak_mb)
    if error is None and left is not None:
        done, error = judge(replace(node, state=state, outputs=_artifacts(left)))
        try:
            if error is None:
                write_whole(kept, json.dumps(left))
                write_whole(output_file, json.dumps(_replace(left, _addresses(mount.to_address))))
            node = done
        except OSError as raised:
            error = raised
    steps.end(ended(node, error))
    if error:
        raise error
    return node


def write_parameters(executor_input: str, texts: dict[str, str], mount: Mount) -> None:
    """Writes output parameters where an executor input says."""
    wanted = json.loads(executor_input)["outputs"]["parameters"]
    for key, text in texts.items():
        write_whole(Path(mount.to_path(wanted[key]["outputFile"])), text.encode())


def class_of(name: str) -> type | None:
    """Returns the class of an artifact type by its name without the prefix; None if there is none."""
    found = getattr(artifacts, name, None)
    return found if isinstance(found, type) else None


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for name in ("executor_class_path", "json_serialized_invocation_args", "json_serialized_inputs_spec_args"):
        parser.add_argument(f"--{name}", default="")
    given, beam_arguments = parser.parse_known_args(arguments)
    if not given.executor_class_path or not given.json_serialized_invocation_args:
        raise BadInputError("behind -- stand the arguments of TFX's container entry point, as a compiled file has them")
    return given, beam_arguments


def _replace(value: Any, changes: Mapping[str, Callable[[str], str]]) -> Any:
    """Changes the texts that stand under certain keys, at any depth."""
    if isinstance(value, list):
        return [_replace(item, changes) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: changes[key](item) if key in changes and isinstance(item, str) else _replace(item, changes)
        for key, item in value.items()
    }


def _addresses(change: Callable[[str], str]) -> dict[str, Callable[[str], str]]:
    """Returns a change of what is an address: no property of a node is touched."""
    return dict.fromkeys(("uri", "outputFile"), change)


def _to_class_path(text: str) -> str:
    """Replaces our name in the schema of an artifact by the path of its class, which TFX imports in the container."""
    schema = yaml.safe_load(text)
    found = class_of(str(schema.get("title", "")).removeprefix(PREFIX))
    if found is None or schema["title"] != found.__dict__.get("TYPE_NAME"):
        return text
    return yaml.safe_dump(schema | {"title": f"{found.__module__}.{found.__name__}"}, sort_keys=False)


def _empty(invocation: dict[str, Any]) -> None:
    """Makes the directories of the outputs, and clears what an earlier attempt left in them."""
    for value in invocation["outputs"].get("artifacts", {}).values():
        for item in value["artifacts"]:
            shutil.rmtree(item["uri"], ignore_errors=True)
            Path(item["uri"]).mkdir(parents=True)


def _digest(given: argparse.Namespace, invocation: dict[str, Any]) -> str:
    """Names everything that a node's outputs depend on: its properties, the digest of its code among them."""
    inputs = invocation.get("inputs", {})
    uris = {name: [item["uri"] for item in value["artifacts"]] for name, value in inputs.get("artifacts", {}).items()}
    parts = [given.executor_class_path, inputs.get("parameterValues", {}), uris]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _answer(kept: Path) -> dict[str, Any] | None:
    """Returns what an earlier run left, if all of it is still there."""
    if not kept.exists():
        return None
    with undamaged(kept, "delete it, and the node is run again"):
        left: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        uris = [item["uri"] for value in left["artifacts"].values() for item in value["artifacts"]]
        return left if all(Path(uri).exists() for uri in uris) else None


def _artifacts(left: dict[str, Any]) -> dict[str, metadata_store_pb2.Artifact]:
    found = {}
    for name, value in left["artifacts"].items():
        (item,) = value["artifacts"]
        result = metadata_store_pb2.Artifact(uri=item["uri"])
        for key, said in item.get("metadata", {}).items():
            plain = key.removeprefix(tfx_artifact.CUSTOM_PROPERTIES_PREFIX)
            result.custom_properties[plain].string_value = said if isinstance(said, str) else json.dumps(said)
        found[name] = result
    return found
