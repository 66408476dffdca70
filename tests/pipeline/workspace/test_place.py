"""Paths of a workspace, and the lock that admits one run at a time."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from components.errors import BadInputError
from pipeline.workspace.place import Workspace, exclusive, open_workspace

HOLDER = """
import sys
from pathlib import Path
from pipeline.workspace.place import exclusive, open_workspace
with exclusive(open_workspace(Path(sys.argv[1])), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def hold(workspace: Workspace) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts another process that holds the workspace until its standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(run_id: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(workspace.root), run_id]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["w?", "w*", "w[1]", "a\\b", "caf\udce9", "a?/below"])
def test_a_path_that_would_be_taken_for_another_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=r" path[, ].*: name another with --workspace"):
        open_workspace(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_another_user_reaches_what_is_served_and_nothing_else(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = open_workspace(tmp_path / "workspace")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (made.root, made.serving, made.artifacts, made.logs)}
    assert modes == {"workspace": 0o711, "serving": 0o755, "artifacts": 0o700, "logs": 0o700}
    made.serving.chmod(0o700)
    open_workspace(made.root)
    assert made.serving.stat().st_mode & 0o777 == 0o700


def test_a_workspace_has_the_places_of_the_contract(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    workspace = Workspace(root)
    assert workspace.artifacts == root / "artifacts"
    assert workspace.metadata == root / "metadata.sqlite"
    assert workspace.mlflow_store == root / "mlflow.db"
    assert workspace.mlflow_artifacts == root / "mlartifacts"
    assert workspace.serving == root / "serving"
    assert workspace.model_base("ag_news") == root / "serving" / "ag_news"
    assert workspace.quarantine == root / "quarantine"
    assert workspace.logs == root / "logs"


def test_opening_makes_the_directories_and_leaves_no_other_trace(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "workspace"
    workspace = open_workspace(root)
    assert sorted(path.name for path in root.iterdir()) == ["artifacts", "logs", "serving"]
    assert all(path.is_dir() for path in root.iterdir())
    assert open_workspace(root) == workspace


def test_a_relative_workspace_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = open_workspace(Path("workspace"))
    monkeypatch.chdir("/")
    assert workspace.root == tmp_path / "workspace"


@pytest.mark.parametrize("place", [".", "below", "below/further"])
def test_a_file_in_the_place_of_a_workspace_is_refused_and_kept(tmp_path: Path, place: str) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("mine", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"cannot be written to \(.+\): name another with --workspace$") as caught:
        open_workspace(occupied / place)
    assert str(occupied) in str(caught.value)
    assert occupied.read_text(encoding="utf-8") == "mine"


def test_a_file_in_the_place_of_one_of_its_directories_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serving").write_text("", encoding="utf-8")
    with pytest.raises(BadInputError, match="--workspace"):
        open_workspace(tmp_path)


def test_a_symbolic_link_to_itself_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(BadInputError, match="--workspace"):
        open_workspace(loop)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_write_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    with pytest.raises(BadInputError, match="--workspace"):
        open_workspace(locked / "workspace")


def test_an_existing_workspace_that_has_become_read_only_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(BadInputError, match="Read-only file system"):
        open_workspace(workspace.root)


def test_a_second_process_is_refused_by_run_and_process_id(
    workspace: Workspace, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    holder = hold("20300102-030405-abcd")
    with pytest.raises(BadInputError) as caught, exclusive(workspace, "second"):
        pytest.fail("two runs hold one workspace")
    assert "run 20300102-030405-abcd " in str(caught.value)
    assert f"(process {holder.pid})" in str(caught.value)
    assert str(workspace.root) in str(caught.value)


def test_a_refused_run_neither_frees_nor_renames_the_lock(
    workspace: Workspace, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    hold("first")
    for _ in range(2):
        with pytest.raises(BadInputError, match="run first "), exclusive(workspace, "second"):
            pytest.fail("two runs hold one workspace")


def test_the_lock_is_free_once_its_holder_has_ended(
    workspace: Workspace, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    holder = hold("first")
    holder.communicate("")
    assert holder.returncode == 0
    with exclusive(workspace, "second"):
        pass


def test_the_lock_is_free_after_its_holder_was_killed(
    workspace: Workspace, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    holder = hold("first")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with exclusive(workspace, "second"):
        found = json.loads((workspace.root / ".run.json").read_text(encoding="utf-8"))
        assert found == {"pid": os.getpid(), "run_id": "second"}


def test_the_lock_holds_within_one_process_too(workspace: Workspace) -> None:
    with (
        exclusive(workspace, "first"),
        pytest.raises(BadInputError, match="run first "),
        exclusive(workspace, "second"),
    ):
        pytest.fail("two runs hold one workspace")


def test_two_workspaces_do_not_exclude_each_other(tmp_path: Path) -> None:
    with exclusive(open_workspace(tmp_path / "one"), "first"), exclusive(open_workspace(tmp_path / "two"), "second"):
        pass


def test_the_lock_is_released_after_an_exception(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real, kept = filelock.FileLock, []

    def make(*arguments: Any, **options: Any) -> filelock.BaseFileLock:
        """A lock that nothing refers to any more would release itself."""
        kept.append(real(*arguments, **options))
        return kept[-1]

    monkeypatch.setattr(filelock, "FileLock", make)
    with pytest.raises(ZeroDivisionError), exclusive(workspace, "first"):
        raise ZeroDivisionError
    with exclusive(workspace, "second"):
        assert len(kept) == 2


def test_no_holder_is_named_once_a_run_has_ended(workspace: Workspace) -> None:
    with exclusive(workspace, "first"):
        assert (workspace.root / ".run.json").exists()
    assert not (workspace.root / ".run.json").exists()


@pytest.mark.parametrize("left", [None, "", "{half"])
def test_a_holder_that_left_no_readable_name_is_another_process(workspace: Workspace, left: str | None) -> None:
    if left is not None:
        (workspace.root / ".run.json").write_text(left, encoding="utf-8")
    with (
        filelock.FileLock(workspace.root / ".run.lock"),
        pytest.raises(BadInputError, match="in use by another process"),
        exclusive(workspace, "second"),
    ):
        pytest.fail("two runs hold one workspace")
