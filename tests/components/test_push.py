"""A push is all or nothing, and a version number is given out once."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components import push
from components.artifacts import Verdict
from components.push import (
    LEDGER,
    MANIFEST,
    Pusher,
    given_versions,
    present_versions,
    push_model,
    read_manifest,
    removed_versions,
)

SECONDS = 60


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a directory laid out like a SavedModel; other weights, another model."""

    def make(weights: str) -> Path:
        directory = tmp_path / "models" / weights
        for name, text in (
            ("saved_model.pb", "graph"),
            ("variables/variables.index", "index"),
            ("variables/variables.data-00000-of-00001", weights),
            ("assets.extra/classes.txt", "World\nSports\n"),
        ):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        return directory

    return make


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model base that does not exist yet."""
    return tmp_path / "serving" / "ag_news"


def contents(directory: Path) -> dict[str, bytes]:
    """Returns every file below a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def leftovers(base: Path) -> list[str]:
    """Returns what stands in a base beside versions, ledger and lock."""
    return sorted(path.name for path in base.iterdir() if path.name.startswith(".tmp-"))


def test_versions_count_up_from_one(make_model: Callable[[str], Path], base: Path) -> None:
    pushed = [push_model(make_model(f"w{number}"), base) for number in range(11)]
    assert [item.version for item in pushed] == list(range(1, 12))
    assert [item.path for item in pushed] == [base / str(number) for number in range(1, 12)]
    assert all(item.new for item in pushed)
    assert present_versions(base) == given_versions(base) == list(range(1, 12))


def test_a_version_holds_the_model_and_a_manifest(make_model: Callable[[str], Path], base: Path) -> None:
    model = make_model("w")
    pushed = push_model(model, base)
    files = contents(pushed.path)
    manifest = json.loads(files.pop(MANIFEST))
    assert files == contents(model)
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest["version"] == 1
    assert manifest["digest"] == pushed.digest
    age = datetime.now(UTC) - datetime.fromisoformat(manifest["pushed_at"])
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert read_manifest(pushed.path) == manifest


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "assets.extra/classes.txt"])
def test_the_digest_follows_every_file(make_model: Callable[[str], Path], base: Path, name: str) -> None:
    model = make_model("w")
    before = push_model(model, base)
    (model / name).write_text("other")
    after = push_model(model, base)
    assert (after.version, after.new) == (2, True)
    assert after.digest != before.digest


def test_the_digest_follows_file_names(make_model: Callable[[str], Path], base: Path) -> None:
    model = make_model("w")
    before = push_model(model, base)
    (model / "saved_model.pb").rename(model / "saved_model.pbtxt")
    assert push_model(model, base).digest != before.digest


def test_the_newest_model_is_not_pushed_twice(make_model: Callable[[str], Path], base: Path) -> None:
    first = push_model(make_model("w"), base)
    before = contents(base)
    again = push_model(make_model("w"), base)
    assert (again.version, again.path, again.digest, again.new) == (1, first.path, first.digest, False)
    assert contents(base) == before


def test_an_older_model_is_pushed_again(make_model: Callable[[str], Path], base: Path) -> None:
    versions = [push_model(make_model(weights), base).version for weights in ("a", "b", "a")]
    assert versions == [1, 2, 3]


def test_a_number_is_not_used_again_after_its_version_is_deleted(make_model: Callable[[str], Path], base: Path) -> None:
    for weights in ("a", "b", "c"):
        push_model(make_model(weights), base)
    shutil.rmtree(base / "3")
    shutil.rmtree(base / "1")
    assert removed_versions(base) == [1, 3]
    assert push_model(make_model("c"), base).version == 4
    assert present_versions(base) == [2, 4]
    assert removed_versions(base) == [1, 3]


def test_a_number_is_not_used_again_after_all_are_deleted(make_model: Callable[[str], Path], base: Path) -> None:
    push_model(make_model("a"), base)
    shutil.rmtree(base / "1")
    assert push_model(make_model("a"), base).version == 2


def test_an_unused_base_has_no_versions(base: Path) -> None:
    assert present_versions(base) == given_versions(base) == removed_versions(base) == []


def test_a_version_made_by_hand_is_counted(make_model: Callable[[str], Path], base: Path) -> None:
    shutil.copytree(make_model("hand"), base / "7")
    assert read_manifest(base / "7") == {}
    pushed = push_model(make_model("hand"), base)
    assert (pushed.version, pushed.new) == (8, True)
    assert present_versions(base) == [7, 8]
    assert removed_versions(base) == []


def test_what_is_no_version_is_not_counted(make_model: Callable[[str], Path], base: Path) -> None:
    for name in ("9x", "v9", "9.0", "-9", ".tmp-9"):
        (base / name).mkdir(parents=True)
    (base / "99").write_text("a file")
    assert present_versions(base) == []
    assert push_model(make_model("w"), base).version == 1


def test_leftovers_of_a_dead_push_are_removed(make_model: Callable[[str], Path], base: Path) -> None:
    dead = base / ".tmp-1-0123"
    (dead / "variables").mkdir(parents=True)
    (dead / "variables" / "variables.index").write_text("half")
    assert push_model(make_model("w"), base).version == 1
    assert leftovers(base) == []


def test_a_leftover_of_a_dead_ledger_write_is_removed(make_model: Callable[[str], Path], base: Path) -> None:
    base.mkdir(parents=True)
    (base / f".tmp-{LEDGER}").write_text('{"giv')
    assert push_model(make_model("w"), base).version == 1
    assert leftovers(base) == []


def test_no_version_is_visible_while_it_is_copied(
    make_model: Callable[[str], Path], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    copytree, rename = shutil.copytree, os.rename

    def copy(*args: Any, **options: Any) -> None:
        copytree(*args, **options)
        seen.append(present_versions(base))

    def move(source: Path, target: Path) -> None:
        assert read_manifest(Path(source))["version"] == 1
        seen.append(present_versions(base))
        rename(source, target)

    monkeypatch.setattr(shutil, "copytree", copy)
    monkeypatch.setattr(os, "rename", move)
    push_model(make_model("w"), base)
    assert len(seen) >= 2
    assert not any(seen)
    assert present_versions(base) == [1]


def test_every_file_is_on_disk_before_the_version_shows(
    make_model: Callable[[str], Path], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    expected: set[int] = set()
    fsync, rename = os.fsync, os.rename

    def flush(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        fsync(handle)

    def move(source: Path, target: Path) -> None:
        expected.update(path.stat().st_ino for path in [Path(source), *Path(source).rglob("*")])
        assert expected <= flushed
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", move)
    push_model(make_model("w"), base)
    assert len(expected) == 8
    assert base.stat().st_ino in flushed


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_copy(source: Path, target: Path) -> None:
    target.mkdir()
    shutil.copy(source / "saved_model.pb", target)
    no_space()


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        (shutil, "copytree", half_copy),
        (os, "fsync", no_space),
        (os, "replace", no_space),
        (os, "rename", no_space),
    ],
    ids=["copy", "flush", "ledger", "rename"],
)
def test_a_full_disk_leaves_no_version_and_the_next_push_works(
    make_model: Callable[[str], Path],
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    fault: Callable[..., None],
) -> None:
    push_model(make_model("old"), base)
    before = contents(base / "1")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fault)
        with pytest.raises(OSError, match="No space left") as caught:
            push_model(make_model("new"), base)
    assert caught.value.errno == errno.ENOSPC
    assert present_versions(base) == [1]
    assert contents(base / "1") == before
    pushed = push_model(make_model("new"), base)
    assert present_versions(base) == [1, pushed.version]
    assert {key: value for key, value in contents(pushed.path).items() if key != MANIFEST} == contents(
        make_model("new")
    )
    assert leftovers(base) == []


def run_processes(target: Callable[[int], None], count: int = 2) -> list[int | None]:
    """Runs a function in processes at once; returns their exit codes."""
    processes = [multiprocessing.get_context("fork").Process(target=target, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def test_a_push_that_is_killed_before_the_rename_leaves_no_version(
    make_model: Callable[[str], Path], base: Path
) -> None:
    model = make_model("w")

    def die(_: int) -> None:
        os.rename = lambda *_: os._exit(9)  # type: ignore[assignment]
        push_model(model, base)

    assert run_processes(die, count=1) == [9]
    assert present_versions(base) == []
    assert len(leftovers(base)) == 1
    pushed = push_model(model, base)
    assert present_versions(base) == [pushed.version]
    assert leftovers(base) == []


@pytest.mark.parametrize(("weights", "versions"), [(("a", "b"), [1, 2]), (("a", "a"), [1])], ids=["two", "same"])
def test_two_processes_that_push_at_once_take_turns(
    make_model: Callable[[str], Path],
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: tuple[str, str],
    versions: list[int],
) -> None:
    models = [make_model(name) for name in weights]
    ready = multiprocessing.get_context("fork").Barrier(2)
    copytree = shutil.copytree

    def slow_copy(*args: Any, **options: Any) -> None:
        time.sleep(0.1)
        copytree(*args, **options)
        time.sleep(0.1)

    def start(number: int) -> None:
        ready.wait(SECONDS)
        push_model(models[number], base)

    monkeypatch.setattr(shutil, "copytree", slow_copy)
    assert run_processes(start) == [0, 0]
    assert present_versions(base) == given_versions(base) == versions
    held = [contents(base / str(version)) for version in versions]
    assert {files["variables/variables.data-00000-of-00001"].decode() for files in held} == set(weights)
    assert leftovers(base) == []


def test_the_node_says_where_the_model_went(make_model: Callable[[str], Path], base: Path, tmp_path: Path) -> None:
    model, verdict, pushed = standard_artifacts.Model(), Verdict(), standard_artifacts.PushedModel()
    model.uri = str(tmp_path / "trained")
    shutil.copytree(make_model("w"), tmp_path / "trained" / "Format-Serving")
    for _ in range(2):
        Pusher.test_call(
            model=model, verdict=verdict, pushed_model=pushed, base=str(base), removed="[]", code_digest="x"
        )
        assert pushed.get_string_custom_property("pushed_destination") == str(base / "1")
        assert pushed.get_string_custom_property("pushed_version") == "1"
        assert pushed.get_int_custom_property("pushed") == 1
    assert contents(base / "1").keys() == {*contents(make_model("w")), MANIFEST}
    assert push.present_versions(base) == [1]
