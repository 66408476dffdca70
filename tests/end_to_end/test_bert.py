"""Whole runs of the BERT family on the tiny world, with a tiny checkpoint and sockets blocked."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from blocked_sockets import BLOCK_SOCKETS
from mlflow import MlflowClient
from tiny_bert import make_learned_tensors, write_checkpoint
from tiny_settings import TINY_BERT

pytestmark = pytest.mark.e2e

AHEAD = {"ExampleGen", "ImportSchema", "StatisticsGen", "ExampleValidator", "Baseline"}
BEHIND = {"Trainer", "Answers", "Evaluator"}
# Their answers depend on what the registry holds, which every push changes: tests/end_to_end/test_cache.py.
JUDGES = {"Champion", "DataGate", "Register", "ModelGate", "ServingGate", "Card", "Pusher", "Promote"}
NODES = AHEAD | {"Transform"} | BEHIND | JUDGES


@dataclass(frozen=True)
class World:
    """Where everything is, and how it is run again: ``world.run(encoder=None, **settings)``."""

    root: Path
    encoder: Path
    first: Any
    run: Callable[..., Any]

    @property
    def workspace(self) -> Path:
        return self.root / "ws"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, run_tiny: Any, tiny_world: Any) -> World:
    """One run that pushed a model; the tests below run again in its workspace."""
    root = tmp_path_factory.mktemp("bert")
    data = tiny_world(root / "data")
    checkpoint = write_checkpoint(root / "encoder", tensors=make_learned_tensors())

    def run(encoder: str | Path = checkpoint, **settings: str) -> Any:
        named = {f"bert.{key}": value for key, value in settings.items()}
        return run_tiny(
            data,
            root / "ws",
            *("--model", "bert", "--cache", root / "cache"),
            settings=TINY_BERT | {"bert.encoder": str(encoder)} | named,
            prelude=BLOCK_SOCKETS,
        )

    first = run()
    assert first.code == 0, first.err
    return World(root, checkpoint, first, run)


def ran(finished: Any) -> set[str]:
    """Returns the nodes that ran; all others were answered from the cache."""
    assert finished.code == 0, finished.err
    states = finished.states()
    assert set(states) == NODES
    assert set(states.values()) <= {"ran", "cached"}
    return {node for node, state in states.items() if state == "ran"}


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_a_tiny_encoder_is_trained_and_pushed(world: World) -> None:
    result = world.first.result
    assert ran(world.first) == NODES
    assert (result["status"], result["model_family"], result["model_version"]) == ("pushed", "bert", "1")
    assert result["metrics"]["accuracy"] > 0.9
    assert Path(result["model_dir"]) == world.workspace / "serving" / "ag_news" / "1"
    classes = Path(result["model_dir"]) / "assets.extra" / "classes.txt"
    assert classes.read_text().splitlines() == ["World", "Sports", "Business", "Sci/Tech"]


def test_the_run_remembers_its_encoder(world: World) -> None:
    client = MlflowClient(f"sqlite:///{world.workspace}/mlflow.db")
    run = client.get_run(world.first.result["mlflow_run_id"])
    assert run.data.params["bert.encoder"] == run.data.tags["prepared.name"] == str(world.encoder)
    assert run.data.tags["prepared.precision"] == "float32"
    assert len(run.data.tags["prepared.digest"]) == 64
    assert len(client.get_metric_history(run.info.run_id, "train/eval_accuracy")) == 4


def test_predict_answers(world: World, newsdesk: Any) -> None:
    row = "The coach and the striker Report 7 on the season of today, coach again."
    done = newsdesk("predict", "--json", "--workspace", world.workspace, row, "", "😀" * 50)
    assert done.code == 0, done.err
    answers = json.loads(done.out)
    assert (answers[0]["label"], answers[0]["label_id"]) == ("Sports", 1)
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_second_run_is_answered_from_the_cache(world: World) -> None:
    before = tree(world.root / "cache")
    again = world.run()
    assert ran(again) <= JUDGES
    assert again.result["model_version"] == "1"
    assert again.result["metrics"] == world.first.result["metrics"]
    assert tree(world.root / "cache") == before
    assert "converting" in world.first.err
    assert "converting" not in again.err


def test_other_weights_leave_the_texts_alone(world: World) -> None:
    write_checkpoint(world.encoder, tensors=make_learned_tensors(seed=1))
    try:
        again = world.run(top_layers="1")
    finally:
        write_checkpoint(world.encoder, tensors=make_learned_tensors())
    assert ran(again) - JUDGES == BEHIND
