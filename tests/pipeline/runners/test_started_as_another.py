"""A compiled file that is started as another family than the one it was compiled for trains as that one says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubeflow_backend import SUCCEEDED, Backend
from nested import under
from tfx.proto.orchestration import pipeline_pb2
from tiny_bert import make_learned_tensors, write_checkpoint
from tiny_settings import to_options
from vertex_backend import VertexBackend

from pipeline.cli.main import cli
from pipeline.config.config import flatten, override
from pipeline.config.families import FAMILIES
from pipeline.config.presets import make_config
from pipeline.runners.compile import compile_for

TINY_BERT = {"bert.top_layers": "2", "bert.max_tokens": "24", "bert.precision": "float32"}
PAIRS = [(first, second) for first in FAMILIES for second in FAMILIES if first != second]


class World:
    """A file for either target in a workspace of its own, and how it is begun."""

    def __init__(self, root: Path, data: Path):
        self.root, self.data = root, data
        self.workspace = root / "bucket" / "workspace"
        self.tracking = f"sqlite:///{root}/mlflow.db"
        encoder = write_checkpoint(root / "encoder", tensors=make_learned_tensors())
        self.settings = TINY_BERT | {"bert.encoder": str(encoder)}

    def compile(self, target: Any, family: str) -> str:
        places = {
            "model": family,
            "orchestrator.workspace": str(self.workspace),
            "orchestrator.cache": str(self.root / "cache"),
            "orchestrator.mount": str(self.root),
            "orchestrator.claim": "newsdesk",
            "orchestrator.bucket": "gs://bucket/pipelines",
            "orchestrator.environment": json.dumps({"MLFLOW_TRACKING_URI": self.tracking}),
        }
        config = override(make_config("sample"), self.settings | places)
        return compile_for(target, config, ["--preset", "sample", *to_options(self.settings)])[0]

    def begin(self, target: str, text: str, job: str, **arguments: Any) -> dict[str, Any]:
        """Returns what the Trainer is handed."""

        def start(command: list[str]) -> int:
            cli(command[1:], standalone_mode=False)
            return 0

        kept = self.workspace / "runs" / job
        if target == "vertex":
            backend = VertexBackend(text, self.root, start)
            backend.run(job, {"data": str(self.data), **arguments}, {"begin"})
            return json.loads(json.loads((kept / "constants.json").read_text())["trainer_custom_config"])
        file = self.root / "kubeflow.yaml"
        file.write_text(text, encoding="utf-8")
        backend = Backend(file, {}, here=start)
        outcome = backend.run(job, {"data": str(self.data), **arguments}, {"begin"})
        assert outcome.states["begin"] == SUCCEEDED, outcome.log()
        graph = pipeline_pb2.Pipeline.FromString((kept / "pipeline.pb").read_bytes())
        (trainer,) = [it.pipeline_node for it in graph.nodes if it.pipeline_node.node_info.id == "Trainer"]
        return json.loads(trainer.parameters.parameters["custom_config"].field_value.string_value)


@pytest.fixture
def world(tmp_path: Path, make_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, make_data())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSDESK_GCS", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.tracking)
    return made


@pytest.mark.parametrize(("compiled", "started"), PAIRS)
@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_the_epochs_are_those_of_the_family_that_is_started(
    world: World, target: str, compiled: str, started: str
) -> None:
    text = world.compile(target, compiled)
    key = FAMILIES[started].epochs
    handed = world.begin(target, text, "job-1", model=started)
    assert under(key.rpartition(".")[2], handed) == [flatten(make_config("sample"))[key]]


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_epochs_that_a_start_names_are_those_of_its_family(world: World, target: str) -> None:
    handed = world.begin(target, world.compile(target, "bert"), "job-1", model="transformer", epochs=7)
    assert handed["model"]["epochs"] == 7
