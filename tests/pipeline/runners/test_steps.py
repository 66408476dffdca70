"""The files of one run that an orchestrator's steps share, where they are damaged."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.errors import BadInputError
from components.outcomes import NodeState
from pipeline.run.record import NodeRun
from pipeline.runners.node import run_node
from pipeline.runners.steps import Ended, Steps

pytestmark = pytest.mark.stack

READERS: dict[str, Callable[[Steps], object]] = {
    "run.json": Steps.decided,
    "run-id": Steps.run_id,
    "nodes/Trainer.json": lambda steps: steps.ended("Trainer"),
    "pipeline.pb": lambda steps: run_node(steps, "Trainer"),
}


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """A run in which one node has ended."""
    steps = Steps(tmp_path, "job-1")
    assert steps.claim_id("run-1") == steps.claim_id("run-2") == "run-1"
    steps.end(Ended(NodeRun("Trainer", NodeState.RAN)))
    return steps


def test_what_was_kept_is_read(steps: Steps) -> None:
    ended = steps.ended("Trainer")
    assert ended is not None
    assert ended.node.state is NodeState.RAN
    assert steps.run_id() == "run-1"


DAMAGES = (b"\xff\xfe no such thing", b'{"a": [1]}', None)
CASES = [
    (file, damage)
    for file in READERS
    for damage in DAMAGES
    # Any text is an id, of a run that MLflow does not know.
    if (file, damage) != ("run-id", DAMAGES[1])
]


@pytest.mark.parametrize(("file", "damage"), CASES)
def test_a_damaged_file_is_one_sentence(
    steps: Steps, file: str, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file == "pipeline.pb":
        monkeypatch.setattr(Steps, "decided", lambda _: SimpleNamespace(nodes=("Trainer",)))
        (steps.directory / "nodes" / "Trainer.json").unlink()
    path = steps.directory / file
    path.unlink(missing_ok=True)
    if damage is None:
        path.mkdir()
    else:
        path.write_bytes(damage)
    with pytest.raises(BadInputError, match=rf"{file} (is damaged|cannot be read)"):
        READERS[file](steps)
