"""A disk that goes away unloads nothing, and leases tell who deletes versions what is in use."""

import errno
import logging
import shutil
from pathlib import Path

import pytest
from version_world import Diary, FakeModel, World, change_weights, leased, number, states

from components.push.aliases import MODELS_CONFIG
from components.push.garbage import discard
from serving.repository import leases, loading


@pytest.mark.parametrize("policy", ["latest", "labels"])
@pytest.mark.parametrize("how", ["emptied", "gone", "a file", "base emptied", "base gone"])
def test_a_directory_that_goes_away_unloads_nothing(
    world: World, caplog: pytest.LogCaptureFixture, policy: str, how: str
) -> None:
    caplog.set_level(logging.INFO)
    world.push(1)
    world.push(2)
    if policy == "labels":
        world.point(champion=1)
    repository = world.open()
    repository.poll()
    answering = number(repository)
    place, aside = world.base if how.startswith("base") else world.serving, world.serving.parent / "aside"
    place.rename(aside)
    if "emptied" in how:
        place.mkdir()
    elif how == "a file":
        place.touch()
    caplog.clear()
    for _ in range(3):
        repository.poll()
    assert (number(repository), repository.ready) == (answering, True)
    assert states(repository) == {answering: "AVAILABLE"}
    assert repository.troubles
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == repository.troubles, "each trouble is logged, and once"
    if "gone" not in how:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    aside.rename(place)
    caplog.clear()
    repository.poll()
    repository.poll()
    assert (repository.troubles, number(repository)) == ([], answering)
    assert [record.message for record in caplog.records] == ["the model directory is followed again"]
    assert world.loads == [str(answering)]


def test_a_trouble_is_not_logged_again_for_another(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ag_news", "other"):
        world.push(1, name=name)
    repository = world.open()
    repository.poll()
    caplog.set_level(logging.WARNING, "newsdesk.serving")
    caplog.clear()
    for name in ("ag_news", "other"):
        (world.serving / name / "1").rename(world.serving.parent / name)
        repository.poll()
    told = [record.message for record in caplog.records]
    assert len(told) == len(set(told))
    assert sorted(told) == sorted(repository.troubles)


@pytest.mark.parametrize("name", [MODELS_CONFIG, "ag_news/aliases.json"])
@pytest.mark.parametrize("text", ["", "{", None])
def test_a_file_that_is_damaged_or_gone_unloads_nothing(world: World, name: str, text: str | None) -> None:
    world.push(1)
    world.push(2)
    world.point(champion=1)
    repository = world.open(world.serving if name == MODELS_CONFIG else world.base)
    repository.poll()
    (world.serving / name).unlink()
    if text is not None:
        (world.serving / name).write_text(text)
    repository.poll()
    assert (number(repository), states(repository), len(repository.troubles)) == (1, {1: "AVAILABLE"}, 1)
    world.point(champion=2)
    repository.poll()
    assert (number(repository), repository.troubles) == (2, [])


def test_labels_still_move_while_the_base_cannot_be_read(world: World) -> None:
    for pushed in (1, 2):
        world.push(pushed)
    world.point(champion=1, challenger=2)
    repository = world.open()
    repository.poll()
    world.point(champion=2)
    world.base.rename(world.serving / ".aside")
    repository.poll()
    assert number(repository) == 2


def test_what_is_in_memory_is_leased_before_it_is_read_and_until_the_end(world: World) -> None:
    world.push(1)
    seen: list[list[int]] = []

    def load(directory: Path) -> FakeModel:
        seen.append(leased(world.base))
        return world.load(directory)

    repository = world.open(load=load)
    repository.poll()
    with repository.use("ag_news"):
        world.push(2)
        repository.poll()
        repository.poll()
        assert leased(world.base) == [1, 2], "a request still needs the first"
    repository.poll()
    assert seen == [[1], [1, 2]]
    assert leased(world.base) == [2]
    repository.stop()
    assert leased(world.base) == []
    assert number(repository) == 2, "what is loaded goes on answering while the server drains"


def test_what_is_hashed_is_leased_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push(1)
    seen: list[list[int]] = []
    monkeypatch.setattr(loading, "check_model_files", lambda directory: seen.append(leased(world.base)))
    world.open().poll()
    assert seen == [[1]]


def test_a_version_that_gc_took_before_its_lease_is_not_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push(1)
    world.push(2)
    hold = leases.Leases.hold

    def too_late(self: leases.Leases, base: Path, versions: set[int]) -> None:
        if (base / "2").exists():
            discard(base / "2")
        hold(self, base, versions)

    monkeypatch.setattr(leases.Leases, "hold", too_late)
    repository = world.open()
    repository.poll()
    assert "is not there" in repository.status("ag_news", version=2)[0].message
    repository.poll()
    assert number(repository) == 1


def test_a_broken_version_is_not_kept_from_gc(world: World) -> None:
    world.push(1)
    change_weights(world.push(2))
    repository = world.open()
    repository.poll()
    repository.poll()
    assert leased(world.base) == []


def test_a_disk_that_takes_no_lease_is_served_from_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push(1)

    def refuse(self: leases.Leases, base: Path, versions: set[int]) -> None:
        if versions:
            raise OSError(errno.EROFS, "Read-only file system")

    diary = Diary()
    repository = world.open(observer=diary)
    with monkeypatch.context() as patch:
        patch.setattr(leases.Leases, "hold", refuse)
        repository.poll()
        repository.poll()
        assert number(repository) == 1
        assert repository.troubles == [
            f"{world.base} takes no lease (Read-only file system): nothing keeps gc off what is loaded"
        ]
        assert [entry[0] for entry in diary.entries] == ["loaded"]
    repository.poll()
    assert (repository.troubles, leased(world.base)) == ([], [1])
