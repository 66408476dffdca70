"""Digests of source: what an edit reaches, and what it leaves alone."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import source_digest as subject
from pipeline.config.config import override
from pipeline.config.families import FAMILIES, Family
from pipeline.config.presets import make_config

FILES = {
    "pipeline/__init__.py": "",
    "pipeline/graph.py": "from components import ingest, shape\n",
    "components/__init__.py": "",
    "components/words.py": "import collections\n\nWORDS = ('a', 'b')\n",
    "components/ingest.py": "from components.words import WORDS\n",
    "components/shape.py": "import components.words\n",
    "components/alone.py": "from pathlib import Path\n",
    "components/page/__init__.py": "",
    "components/page/render.py": "import pathlib\n",
    "components/page/templates/page.j2": "Title\n",
    "trainers/__init__.py": "",
    "trainers/fit.py": "def fit():\n    from components import shape\n",
    "trainers/run.py": "from trainers.fit import fit\n",
    "trainers/cycle.py": "import trainers.back\n",
    "trainers/back.py": "import trainers.cycle\n",
    "serving/__init__.py": "",
}
NODES = (
    "components.page.render",
    "components.ingest",
    "components.shape",
    "components.alone",
    "trainers.run",
    "trainers.cycle",
)
PROBE = """
import json, sys
from pipeline import source_digest
nodes = {name: source_digest.source_digest(name) for name in sys.argv[1:]}
print(json.dumps({"file": source_digest.__file__, "nodes": nodes, "project": source_digest.project_digest()}))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project of the same four packages, with the module under test in its place."""
    root = tmp_path / "tree"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    shutil.copy(subject.__file__, root / "pipeline")
    return root


@pytest.fixture
def digests(tree: Path) -> Callable[[], dict[str, Any]]:
    """Asks a fresh process in the small project for all digests: some results are kept for a process's life."""

    def ask() -> dict[str, Any]:
        environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", PROBE, *NODES]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert Path(answer["file"]).is_relative_to(tree)
        return answer

    return ask


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in NODES if before["nodes"][name] != after["nodes"][name]}


def test_a_touched_or_moved_file_changes_nothing(tree: Path, digests: Callable[[], dict[str, Any]]) -> None:
    before = digests()
    for path in tree.rglob("*.py"):
        os.utime(path, (1, 1))
    (tree / "components" / "notes.txt").write_text("not source", encoding="utf-8")
    # What is left of a package that an older version had where this one has a module.
    (tree / "components" / "words" / "__pycache__").mkdir(parents=True)
    after = digests()
    assert after["nodes"] == before["nodes"]
    assert after["project"] == before["project"]


@pytest.mark.parametrize(
    ("edited", "reached"),
    [
        ("components/ingest.py", {"components.ingest"}),
        ("components/words.py", {"components.ingest", "components.shape", "trainers.run"}),
        ("components/shape.py", {"components.shape", "trainers.run"}),
        ("components/alone.py", {"components.alone"}),
        ("trainers/fit.py", {"trainers.run"}),
        ("trainers/back.py", {"trainers.cycle"}),
        ("components/page/templates/page.j2", {"components.page.render"}),
        ("pipeline/graph.py", set()),
        ("serving/__init__.py", set()),
    ],
)
def test_an_edit_reaches_the_nodes_that_import_the_file_and_no_others(
    tree: Path, digests: Callable[[], dict[str, Any]], edited: str, reached: set[str]
) -> None:
    before = digests()
    with (tree / edited).open("a", encoding="utf-8") as file:
        file.write("EDITED = True\n")
    after = digests()
    assert changed(before, after) == reached
    assert after["project"] != before["project"]


def test_an_edit_undone_gives_the_digest_of_before(tree: Path, digests: Callable[[], dict[str, Any]]) -> None:
    before = digests()
    (tree / "components" / "words.py").write_text("WORDS = ()\n", encoding="utf-8")
    assert digests() != before
    (tree / "components" / "words.py").write_text(FILES["components/words.py"], encoding="utf-8")
    assert digests() == before


def test_the_project_digest_knows_new_removed_and_renamed_files(
    tree: Path, digests: Callable[[], dict[str, Any]]
) -> None:
    seen = [digests()]
    (tree / "serving" / "new.py").write_text("", encoding="utf-8")
    seen.append(digests())
    (tree / "serving" / "new.py").rename(tree / "serving" / "renamed.py")
    seen.append(digests())
    (tree / "components" / "alone.py").rename(tree / "trainers" / "alone.py")
    (tree / "components" / "alone.py").write_text("", encoding="utf-8")
    seen.append(digests())
    assert len({answer["project"] for answer in seen}) == 4


def test_a_digest_is_sixteen_hex_digits_in_any_order_of_modules() -> None:
    digest = subject.source_digest("components.text.words", "components.features")
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert subject.source_digest("components.features", "components.text.words") == digest
    assert len(subject.project_digest()) == 16


@pytest.mark.parametrize("package", ["tfx", "tensorflow"])
def test_another_version_of_the_stack_changes_every_digest(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    before = subject.source_digest("components.features")
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == package else real(name))
    assert subject.source_digest("components.features") != before


@pytest.mark.parametrize("name", ["components.nothing", "nothing.at.all"])
def test_a_module_that_does_not_exist_is_an_error(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        subject.source_digest(name)


def test_the_transform_node_depends_on_tokenisation_and_names_and_on_no_trainer() -> None:
    closure = subject.imported_modules("components.text.transform")
    assert {"components.text.transform", "components.text.words", "components.features"} <= closure
    assert not [name for name in closure if name.split(".")[0] != "components"]


def test_the_trainer_node_depends_on_fitting_and_not_on_the_pipeline() -> None:
    closure = subject.imported_modules("trainers.transformer.run")
    assert {"trainers.fit", "trainers.input", "trainers.export", "trainers.transformer.layers"} <= closure
    assert "components.features" in closure
    assert not [name for name in closure if name.split(".")[0] in ("pipeline", "serving")]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_node_of_a_family_depends_on_the_pipeline(family: Family) -> None:
    for function in (family.preprocessing_fn, family.run_fn):
        closure = subject.imported_modules(Family.module(function))
        assert not [name for name in closure if name.split(".")[0] == "pipeline"]


def test_the_stack_itself_is_not_walked() -> None:
    closure = subject.imported_modules("pipeline.graph")
    assert {name.split(".")[0] for name in closure} <= set(subject.PACKAGES)
    assert {"pipeline.config.families", "components.push.local", "components.gates.table"} <= closure


@pytest.mark.parametrize(
    ("setting", "value", "is_other"),
    [
        ("transformer.epochs", "99", True),
        ("data.eval_fraction", "0.2", True),
        ("floors.accuracy", "0.1", True),
        ("model_gate.margin", "0.5", True),
        ("retrain.champion_days", "7", False),
        ("schedule.cron", "0 4 * * *", False),
        ("orchestrator.retries", "1", False),
    ],
)
def test_work_is_other_work_with_settings_that_a_model_or_its_verdict_depends_on(
    setting: str, value: str, is_other: bool
) -> None:
    """A retrain does not try the same work again: with lower floors a rejected model may be pushed."""
    before, after = (override(make_config("sample"), changes) for changes in ({}, {setting: value}))
    assert (subject.work_digest(after) != subject.work_digest(before)) is is_other
