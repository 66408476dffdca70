"""Nothing that goes wrong with one version takes another away."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from version_world import NOT_FOUND, Diary, World, change_weights, number, refusal, states

from components.errors import BadInputError
from components.push.aliases import MODELS_CONFIG
from components.push.manifest import MANIFEST
from serving.errors import Code, RequestError
from serving.repository.states import State


def truncate_weights(directory: Path) -> None:
    os.truncate(directory / "variables" / "variables.data-00000-of-00001", 10)


def remove_manifest(directory: Path) -> None:
    (directory / MANIFEST).unlink()


def damage_manifest(directory: Path) -> None:
    (directory / MANIFEST).write_text("{")


def add_file(directory: Path) -> None:
    (directory / "assets").mkdir()
    (directory / "assets" / "more.txt").touch()


def add_code(directory: Path) -> None:
    (directory / "model.keras").touch()


def remove_graph(directory: Path) -> None:
    (directory / "saved_model.pb").unlink()


def make_link(directory: Path) -> None:
    aside = directory.parent.parent / "elsewhere"
    directory.rename(aside)
    directory.symlink_to(aside)


DAMAGES = {
    change_weights: "variables.data-00000-of-00001 has changed",
    truncate_weights: "variables.data-00000-of-00001 has changed",
    remove_manifest: f"{MANIFEST} is missing",
    damage_manifest: f"{MANIFEST} is damaged",
    add_file: f"more.txt is not in {MANIFEST}",
    add_code: "'model.keras' in it has no place in a SavedModel|'model.keras' has no place",
    remove_graph: "has no saved_model.pb|it has no saved_model.pb",
    make_link: "is a link",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_version_that_is_not_what_was_pushed_never_displaces_a_good_one(
    world: World, damage: Callable[[Path], None]
) -> None:
    world.push(2)
    world.point(champion=2)
    diary = Diary()
    repository = world.open(observer=diary)
    repository.poll()
    world.push(3)
    damage(world.base / "3")
    world.point(champion=3, previous=2)
    for _ in range(3):
        repository.poll()
    assert (number(repository), number(repository, label="champion"), repository.ready) == (2, 2, True)
    assert repository.labels("ag_news") == {"champion": 2}
    broken, good = repository.status("ag_news")
    assert (broken.version, broken.state, broken.code) == (3, State.END, Code.FAILED_PRECONDITION)
    assert (good.version, good.state, good.code, good.message) == (2, State.AVAILABLE, Code.OK, "")
    assert any(words in broken.message for words in DAMAGES[damage].split("|"))
    assert world.loads == ["2"], "it was read though its files are not those that were pushed"
    failures = [entry for entry in diary.entries if entry[0] == "failed"]
    assert failures == [("failed", "ag_news", 3, broken.message)]


@pytest.mark.parametrize("policy", ["latest", "labels"])
@pytest.mark.parametrize("place", ["errors", "warming"])
def test_a_version_that_cannot_be_loaded_never_displaces_a_good_one(
    world: World, no_collector: None, policy: str, place: str
) -> None:
    world.push(2)
    if policy == "labels":
        world.point(champion=2)
    repository = world.open()
    repository.poll()
    getattr(world, place)["broken"] = lambda: RuntimeError("no such op")
    world.push(3, "broken")
    if policy == "labels":
        world.point(champion=3, previous=2)
    for _ in range(3):
        repository.poll()
    assert (number(repository), repository.ready, states(repository)) == (2, True, {3: "END", 2: "AVAILABLE"})
    (status,) = repository.status("ag_news", version=3)
    assert (status.code, status.message) == (Code.INTERNAL, "no such op")
    assert refusal(lambda: number(repository, version=3))[0] is NOT_FOUND
    assert world.loads == ["2", "3"], "its files are the same: there is no reason to try it again"
    getattr(world, place).clear()
    assert world.living() == ["2"], "what was read of it is still in memory"
    world.push(4)
    if policy == "labels":
        world.point(champion=4, previous=2)
    repository.poll()
    # The one before a champion stays for a rollback; one that is only not the latest goes.
    assert states(repository) == {4: "AVAILABLE", 3: "END", 2: "AVAILABLE" if policy == "labels" else "END"}


def test_the_champion_stays_where_its_next_version_is_broken_and_the_challenger_is_not(world: World) -> None:
    for pushed in (1, 2):
        world.push(pushed)
    world.point(champion=1, challenger=2)
    repository = world.open()
    repository.poll()
    change_weights(world.push(3))
    world.point(champion=3, challenger=2, previous=1)
    repository.poll()
    assert (number(repository), repository.labels("ag_news")) == (1, {"champion": 1, "challenger": 2})
    assert states(repository) == {3: "END", 2: "AVAILABLE", 1: "AVAILABLE"}


def test_a_broken_version_is_tried_again_when_its_files_have_changed_and_rest(world: World) -> None:
    world.push(1)
    repository = world.open()
    repository.poll()
    directory = world.push(2)
    weights = (directory / "variables" / "variables.data-00000-of-00001").read_text()
    change_weights(directory)
    repository.poll()
    assert states(repository)[2] == "END"
    for end in range(1, 4):
        (directory / "variables" / "variables.data-00000-of-00001").write_text(weights[:end])
        repository.poll()
        assert repository.status("ag_news", version=2)[0].state is State.END
    (directory / "variables" / "variables.data-00000-of-00001").write_text(weights)
    repository.poll()
    assert world.loads == ["1"], "who copies file after file is not given until they stop"
    repository.poll()
    assert (number(repository), world.loads) == (2, ["1", "2"])
    (status,) = repository.status("ag_news", version=2)
    assert (status.state, status.code, status.message) == (State.AVAILABLE, Code.OK, "")


def test_a_version_that_is_copied_there_file_by_file_is_served_when_it_is_whole(world: World) -> None:
    whole = world.push(1).rename(world.serving.parent / "whole")
    repository = world.open(world.base)
    for path in sorted(whole.rglob("*"), reverse=True):
        target = world.base / "1" / path.relative_to(whole)
        target.mkdir(parents=True, exist_ok=True) if path.is_dir() else target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            shutil.copy(path, target)
        repository.poll()
        assert world.loads == []
    repository.poll()
    assert number(repository) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError, Code.RESOURCE_EXHAUSTED),
        (lambda: RequestError(Code.RESOURCE_EXHAUSTED, "OOM when allocating tensor"), Code.RESOURCE_EXHAUSTED),
        (lambda: OSError(errno.EIO, "Input/output error"), Code.UNAVAILABLE),
    ],
)
def test_what_may_pass_is_tried_again_after_a_minute(world: World, error: Callable[[], Exception], code: Code) -> None:
    world.push(1)
    repository = world.open()
    repository.poll()
    world.errors["large"] = error
    world.push(2, "large")
    for _ in range(3):
        repository.poll()
    assert (number(repository), states(repository)) == (1, {2: "END", 1: "AVAILABLE"})
    (status,) = repository.status("ag_news", version=2)
    assert status.code is code
    if code is Code.RESOURCE_EXHAUSTED:
        assert status.message.startswith("there is not enough memory for it (")
    world.now += 59
    repository.poll()
    assert world.loads == ["1", "2"]
    world.now += 1
    world.errors.clear()
    repository.poll()
    assert (number(repository), world.loads) == (2, ["1", "2", "2"])


def test_a_file_that_cannot_be_read_may_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.push import manifest

    world.push(1)
    repository = world.open()
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "sha256_of", lambda path: os.close(10**6))
        repository.poll()
    (status,) = repository.status("ag_news")
    assert (status.state, status.code) == (State.END, Code.UNAVAILABLE)
    assert "cannot be read (Bad file descriptor" in status.message
    world.now += 60
    repository.poll()
    assert number(repository) == 1


def test_a_version_that_is_not_there_is_told_and_served_when_it_comes(world: World) -> None:
    world.push(1)
    world.point(champion=2)
    diary = Diary()
    repository = world.open(observer=diary)
    repository.poll()
    world.now += 3600
    repository.poll()
    (status,) = repository.status("ag_news")
    assert (status.version, status.state) == (2, State.END)
    assert f"{world.base / '2'} is not there" in status.message
    assert not repository.ready
    assert len(diary.entries) == 1, "what was not there was looked for again and again"
    world.push(2)
    repository.poll()
    repository.poll()
    assert number(repository, label="champion") == 2


def test_a_base_path_that_was_wrong_is_mended(world: World) -> None:
    world.push(1)
    world.point(champion=1)
    right = (world.serving / MODELS_CONFIG).read_text()
    (world.serving / MODELS_CONFIG).write_text(right.replace(str(world.base), "/nowhere/ag_news"))
    repository = world.open()
    repository.poll()
    assert states(repository) == {1: "END"}
    assert repository.troubles[0].startswith("/nowhere/ag_news cannot be read (No such file or directory)")
    (world.serving / MODELS_CONFIG).write_text(right)
    repository.poll()
    assert (number(repository), repository.troubles) == (1, [])


def test_a_champion_that_is_broken_from_the_start_is_not_replaced_by_the_challenger(world: World) -> None:
    world.push(1, "broken")
    world.push(2)
    world.errors["broken"] = lambda: BadInputError("no good")
    world.point(champion=1, challenger=2)
    repository = world.open()
    repository.poll()
    assert number(repository, label="challenger") == 2
    assert refusal(lambda: number(repository)) == (NOT_FOUND, "Servable not found for request: Latest(ag_news)")
    assert refusal(lambda: number(repository, label="champion")) == (
        NOT_FOUND,
        "Servable not found for request: Specific(ag_news, 1)",
    )
    assert not repository.ready


def test_a_version_that_is_deleted_while_it_is_loaded_is_not_served(world: World) -> None:
    world.push(1)
    directory = world.push(2)
    repository = world.open(warm=lambda model: shutil.rmtree(directory) if model.directory == directory else None)
    repository.poll()
    (status,) = repository.status("ag_news")
    assert (status.version, status.state) == (2, State.END)
    assert "was deleted while it was loaded" in status.message
    repository.poll()
    assert number(repository) == 1
