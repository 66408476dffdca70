"""What an edit re-runs: the nodes it concerns and those behind them, and no others."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from project_copy import copy_project

pytestmark = pytest.mark.e2e

AHEAD = {"ExampleGen", "ImportSchema", "StatisticsGen", "ExampleValidator", "Baseline"}
TRANSFORM = {"Transform"}
BEHIND = {"Trainer", "Evaluator", "Answers", "ServingGate"}
REGISTRY = {"Champion", "DataGate", "Register", "ModelGate", "Card", "Pusher", "Promote"}
"""Nodes that also depend on the champion, which the tests here change."""


@pytest.fixture(scope="module")
def copy(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the source, for which the cache holds what the original made: ``(source, data, workspace)``."""
    return copy_project(tmp_path_factory.mktemp("cache")), served.data, served.workspace


def test_removed_version_is_pushed_again_under_a_new_number(copy: Any, run_tiny: Any) -> None:
    source, data, workspace = copy
    shutil.rmtree(workspace / "serving" / "ag_news" / "1")
    after = run_tiny(data, workspace, cwd=source)
    assert after.code == 0, after.err
    assert Path(after.result["model_dir"]).is_dir()
    assert int(after.result["model_version"]) > 1
    assert in_state(after, "ran") == set()


@pytest.mark.parametrize(
    ("edits", "settings", "ran"),
    [
        (
            ("components/evaluation/metrics.py", "pipeline/cli/commands/predict.py"),
            {"serving_gate.requests": "11", "model_gate.margin": "0.3"},
            {"Evaluator", "ServingGate"},
        ),
        (("trainers/fit.py",), {}, BEHIND),
        ((), {"text.max_tokens": "20"}, TRANSFORM | BEHIND),
    ],
    ids=["judges", "training", "texts"],
)
def test_an_edit_reruns_what_it_concerns(
    copy: Any, run_tiny: Any, edits: tuple[str, ...], settings: dict[str, str], ran: set[str]
) -> None:
    """Which nodes an edit concerns is said by tests/pipeline/test_graph.py; here they and those behind them run."""
    source, data, workspace = copy
    originals = {source / edit: (source / edit).read_text() for edit in edits}
    for path, text in originals.items():
        path.write_text(text + "\n# an edit\n")
    try:
        again = run_tiny(data, workspace, cwd=source, settings=settings)
    finally:
        for path, text in originals.items():
            path.write_text(text)
    assert again.code == 0, again.err
    assert in_state(again, "ran") == ran
    assert in_state(again, "cached") == (AHEAD | TRANSFORM | BEHIND) - ran


def in_state(finished: Any, state: str) -> set[str]:
    return {node for node, found in finished.states().items() if found == state} - REGISTRY
