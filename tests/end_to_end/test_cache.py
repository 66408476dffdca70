"""What an edit re-runs: the nodes it concerns and those behind them, and no others."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import pipeline

pytestmark = pytest.mark.e2e

ROOT = Path(pipeline.__file__).parent.parent
AHEAD = {"ExampleGen", "ImportSchema", "StatisticsGen", "ExampleValidator", "Baseline"}
TRANSFORM = {"Transform"}
BEHIND = {"Trainer", "Evaluator", "Answers", "ServingGate"}
REGISTRY = {"Champion", "DataGate", "Register", "ModelGate", "Card", "Pusher", "Promote"}
"""Nodes that also depend on the champion, which the tests here change."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, tiny_world: Any, run_tiny: Any) -> Any:
    """A copy of the source that has run once: ``(source, data, workspace)``."""
    root = tmp_path_factory.mktemp("cache")
    source = root / "source"
    for package in ("pipeline", "components", "trainers", "serving"):
        shutil.copytree(ROOT / package, source / package)
    data = tiny_world(root / "data")
    first = run_tiny(data, root / "ws", cwd=source)
    assert first.code == 0, first.err
    return source, data, root / "ws"


@pytest.mark.parametrize(
    ("edit", "ran"),
    [
        ("pipeline/cli/predict.py", set()),
        ("trainers/fit.py", BEHIND),
        ("components/text.py", TRANSFORM | BEHIND),
        ("components/metrics.py", {"Evaluator"}),
    ],
)
def test_edited_code_reruns_what_it_concerns(copy: Any, run_tiny: Any, edit: str, ran: set[str]) -> None:
    source, data, workspace = copy
    path = source / edit
    original = path.read_text()
    path.write_text(original + "\n# an edit\n")
    try:
        again = run_tiny(data, workspace, cwd=source)
    finally:
        path.write_text(original)
    assert again.code == 0, again.err
    assert in_state(again, "ran") == ran
    assert in_state(again, "cached") == (AHEAD | TRANSFORM | BEHIND) - ran


@pytest.mark.parametrize(
    ("settings", "ran"),
    [
        ({"transformer.epochs": "4"}, BEHIND),
        ({"text.max_tokens": "20"}, TRANSFORM | BEHIND),
        ({"floors.accuracy": "0.75"}, {"Evaluator"}),
        ({"model_gate.margin": "0.3"}, set()),
        ({"serving_gate.requests": "11"}, {"ServingGate"}),
    ],
)
def test_edited_setting_reruns_what_it_concerns(copy: Any, run_tiny: Any, settings: dict, ran: set[str]) -> None:
    source, data, workspace = copy
    again = run_tiny(data, workspace, cwd=source, settings=settings)
    assert again.code == 0, again.err
    assert in_state(again, "ran") == ran


def test_no_cache_reruns_everything(copy: Any, run_tiny: Any) -> None:
    source, data, workspace = copy
    again = run_tiny(data, workspace, "--no-cache", cwd=source)
    assert again.code == 0, again.err
    assert set(again.states().values()) == {"ran"}


def test_removed_version_is_pushed_again_under_a_new_number(copy: Any, run_tiny: Any) -> None:
    source, data, workspace = copy
    before = run_tiny(data, workspace, cwd=source)
    shutil.rmtree(before.result["model_dir"])
    after = run_tiny(data, workspace, cwd=source)
    assert after.code == 0, after.err
    assert Path(after.result["model_dir"]).is_dir()
    assert int(after.result["model_version"]) > int(before.result["model_version"])
    assert in_state(after, "ran") == set()


def in_state(finished: Any, state: str) -> set[str]:
    return {node for node, found in finished.states().items() if found == state} - REGISTRY
