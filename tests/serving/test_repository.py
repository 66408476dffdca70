"""Versions on disk become versions in memory, and nothing that goes wrong with one takes another away."""

import errno
import gc
import logging
import os
import shutil
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.aliases import MODELS_CONFIG, write_aliases
from components.errors import BadInputError
from components.garbage import discard, read_leases
from components.manifest import MANIFEST, hash_model, make_manifest
from serving import leases, loading, versions
from serving import repository as module
from serving.errors import Code, RequestError
from serving.models import Answers
from serving.observer import Observer
from serving.protocol import State
from serving.repository import Repository, Version

SECONDS = 20


class FakeModel:
    """Knows where it was read from, and is part of a cycle, as a SavedModel is."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.graph = (directory / "saved_model.pb").read_text()
        self.classes = ["World", "Sports"]
        self.signatures: dict[str, Any] = {}
        self.itself = self

    def answer(self, texts: Sequence[bytes]) -> Answers:
        raise NotImplementedError

    answer_examples = answer


@dataclass
class World:
    """A directory of models, and what was done with it.

    Attributes:
        serving: The directory.
        errors: What reading raises, by the text of the graph.
        warming: The same of warming up.
        loads: Directories in the order in which they were read.
        alive: Every model that was ever read, by its directory's name; dead ones have no target.
    """

    serving: Path
    errors: dict[str, Callable[[], Exception]] = field(default_factory=dict)
    warming: dict[str, Callable[[], Exception]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    warmed: list[str] = field(default_factory=list)
    alive: list[tuple[str, "weakref.ref[FakeModel]"]] = field(default_factory=list)
    now: float = 1000.0

    @property
    def base(self) -> Path:
        return self.serving / "ag_news"

    def open(self, place: Path | None = None, **options: Any) -> Repository:
        options = {"load": self.load, "warm": self.warm, "clock": lambda: self.now} | options
        return Repository(place or self.serving, **options)

    def load(self, directory: Path) -> FakeModel:
        self.loads.append(directory.name)
        model = FakeModel(directory)
        self.alive.append((directory.name, weakref.ref(model)))
        if model.graph in self.errors:
            raise self.errors[model.graph]()
        return model

    def warm(self, model: Any) -> None:
        self.warmed.append(model.directory.name)
        if model.graph in self.warming:
            raise self.warming[model.graph]()

    def living(self) -> list[str]:
        """Returns the versions whose models are in memory; nothing is collected here."""
        return [name for name, reference in self.alive if reference() is not None]

    def push(self, number: int, graph: str = "graph", name: str = "ag_news") -> Path:
        """Puts a version there at once, as a push does."""
        aside = self.serving / name / f".tmp-{number}"
        for place, text in (
            ("saved_model.pb", graph),
            ("variables/variables.index", "index"),
            ("variables/variables.data-00000-of-00001", "weights" * 100),
            ("assets.extra/classes.txt", "World\nSports\n"),
        ):
            (aside / place).parent.mkdir(parents=True, exist_ok=True)
            (aside / place).write_text(text)
        (aside / MANIFEST).write_text(make_manifest(number, hash_model(aside), {}))
        directory = self.serving / name / str(number)
        aside.rename(directory)
        return directory

    def point(self, name: str = "ag_news", **aliases: int) -> None:
        write_aliases(self.serving, name, aliases)


class Diary(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def loaded(self, model: str, version: int, seconds: float) -> None:
        self.entries.append(("loaded", model, version, seconds))

    def load_failed(self, model: str, version: int, message: str) -> None:
        self.entries.append(("failed", model, version, message))

    def unloaded(self, model: str, version: int) -> None:
        self.entries.append(("unloaded", model, version))

    def troubled(self, troubles: list[str]) -> None:
        self.entries.append(("troubled", *troubles))


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "serving" / "ag_news").mkdir(parents=True)
    return World(tmp_path / "serving")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's own collector stays away, so that what is freed was freed on purpose."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def number(repository: Repository, model: str = "ag_news", **asked: Any) -> int:
    """Returns the version that answers."""
    with repository.use(model, **asked) as version:
        return version.number


def refusal(call: Callable[[], Any]) -> tuple[Code, str]:
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value.code, caught.value.message


def states(repository: Repository, model: str = "ag_news") -> dict[int, str]:
    return {status.version: status.state.name for status in repository.status(model)}


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {SECONDS} s"
        time.sleep(0.005)


# --- what answers ----------------------------------------------------------------------------------------------------


def test_the_highest_version_answers_where_nothing_else_is_said(world: World) -> None:
    for pushed in (1, 2, 10):
        world.push(pushed)
    repository = world.open()
    assert not repository.ready
    repository.poll()
    assert repository.ready
    assert world.loads == world.warmed == ["10"]
    with repository.use("ag_news") as version:
        assert (version.model, version.number, version.labels) == ("ag_news", 10, frozenset())
        assert version.loaded.directory == world.base / "10"
    assert states(repository) == {10: "AVAILABLE"}


def test_champion_and_challenger_answer_to_their_labels(world: World) -> None:
    for pushed in (1, 2, 3):
        world.push(pushed)
    world.point(champion=1, challenger=3, previous=2)
    repository = world.open()
    repository.poll()
    assert number(repository) == 1, "whoever names nothing gets the champion, whatever its number"
    assert number(repository, label="champion") == 1
    assert number(repository, label="challenger") == 3
    assert number(repository, version=3) == 3
    assert repository.labels("ag_news") == {"champion": 1, "challenger": 3}
    assert states(repository) == {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}
    assert [(version.number, version.labels) for version in repository.versions()] == [
        (3, {"challenger"}),
        (2, set()),
        (1, {"champion"}),
    ]


def test_the_champion_is_loaded_first_and_then_what_has_a_label(world: World) -> None:
    for pushed in (1, 2, 3, 4):
        world.push(pushed)
    labels = "".join(f'version_labels {{ key: "{key}" value: {at} }}' for key, at in (("champion", 1), ("stable", 3)))
    (world.serving / MODELS_CONFIG).write_text(
        f'model_config_list {{ config {{ name: "ag_news" base_path: "{world.base}" model_platform: "tensorflow" '
        f"model_version_policy {{ all {{}} }} {labels} }} }}"
    )
    world.open().poll()
    assert world.loads == ["1", "3", "4", "2"]


def test_several_models_are_served_each_on_its_own(world: World) -> None:
    world.push(1)
    world.push(1, name="other")
    world.push(2, "broken", name="other")
    world.errors["broken"] = lambda: RuntimeError("no good")
    repository = world.open()
    repository.poll()
    assert repository.models() == ["ag_news", "other"]
    assert number(repository) == 1
    assert not repository.ready, "one of two models cannot answer"
    world.point(name="other", champion=1)
    world.point(champion=1)
    repository.poll()
    assert repository.ready


def test_a_base_is_served_without_what_is_around_it(world: World) -> None:
    world.push(1)
    world.push(2)
    world.point(champion=1)
    repository = world.open(world.base)
    repository.poll()
    assert number(repository, label="champion") == 1
    world.point(champion=2)
    repository.poll()
    assert (number(repository), states(repository)) == (2, {2: "AVAILABLE", 1: "END"})


NOT_FOUND, INVALID = Code.NOT_FOUND, Code.INVALID_ARGUMENT
UNKNOWN = [
    ({"model": "other"}, NOT_FOUND, "Servable not found for request: Latest(other)"),
    ({"model": "other", "version": 3}, NOT_FOUND, "Servable not found for request: Specific(other, 3)"),
    ({"model": "other", "label": "x"}, INVALID, "Unrecognized servable version label: x"),
    ({"model": "ag_news", "version": 3}, NOT_FOUND, "Servable not found for request: Specific(ag_news, 3)"),
    ({"model": "ag_news", "version": 2**64}, NOT_FOUND, f"Servable not found for request: Specific(ag_news, {2**64})"),
    ({"model": "ag_news", "version": -1}, NOT_FOUND, "Servable not found for request: Specific(ag_news, -1)"),
    ({"model": "ag_news", "label": "x"}, INVALID, "Unrecognized servable version label: x"),
    ({"model": "../ag_news"}, NOT_FOUND, "Servable not found for request: Latest(../ag_news)"),
    ({"model": "\x00"}, NOT_FOUND, "Servable not found for request: Latest(\x00)"),
    ({"model": ""}, NOT_FOUND, "Servable not found for request: Latest()"),
    ({"model": "ag_news", "label": "../1"}, INVALID, "Unrecognized servable version label: ../1"),
]


@pytest.mark.parametrize(("asked", "code", "message"), UNKNOWN)
def test_what_is_unknown_is_refused_in_tensorflow_serving_s_words(
    world: World, asked: dict[str, Any], code: Code, message: str
) -> None:
    world.push(1)
    world.point(champion=1)
    repository = world.open()
    repository.poll()
    assert refusal(lambda: number(repository, **asked)) == (code, message)
    code, message = refusal(lambda: repository.status(**asked))
    if "label" in asked:
        assert (code, message) == (INVALID, f"Unrecognized servable version label: {asked['label']}")
    elif "version" in asked and asked["model"] == "ag_news":
        assert (code, message) == (NOT_FOUND, f"Could not find version {asked['version']} of model ag_news")
    else:
        assert (code, message) == (NOT_FOUND, f"Could not find any versions of model {asked['model']}")


opened: list[str] | None = None


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if opened is not None and event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"):
        opened.append(f"{event} {arguments[:1]}")


@given(name=st.text(max_size=40), version=st.integers(-(2**70), 2**70) | st.none(), label=st.text(max_size=20))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_touches_a_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, version: int | None, label: str
) -> None:
    global opened
    repository = hooked(tmp_path_factory)
    opened = []
    try:
        for model in (name, f"../{name}", "ag_news"):
            for asked in ({"version": version}, {"label": label}, {}):
                for call in (number, Repository.status):
                    try:
                        call(repository, model, **asked)  # type: ignore[operator]
                    except RequestError:
                        continue
        assert opened == []
        os.listdir(".")
        assert opened, "the hook sees nothing"
    finally:
        opened = None


hooked_repository: list[Repository] = []


def hooked(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Returns one repository for all examples; a hook stays for as long as the process lives."""
    if not hooked_repository:
        world = World(tmp_path_factory.mktemp("hooked"))
        world.push(1)
        world.point(champion=1)
        hooked_repository.append(world.open())
        hooked_repository[0].poll()
        sys.addaudithook(note)
    return hooked_repository[0]


# --- a new version takes over ----------------------------------------------------------------------------------------


def test_a_new_version_takes_over_and_the_old_one_is_freed(world: World, no_collector: None) -> None:
    world.push(1)
    repository = world.open()
    repository.poll()
    world.push(2)
    repository.poll()
    assert number(repository) == 2
    assert states(repository) == {2: "AVAILABLE", 1: "END"}
    assert world.living() == ["2"]
    assert refusal(lambda: number(repository, version=1))[0] is NOT_FOUND
    (ended,) = repository.status("ag_news", version=1)
    assert (ended.code, ended.message) == (Code.OK, "")


def test_a_request_in_flight_finishes_on_its_version_which_is_then_freed(world: World, no_collector: None) -> None:
    world.push(1)
    repository = world.open()
    repository.poll()
    with repository.use("ag_news") as first:
        with repository.use("ag_news"):
            world.push(2)
            repository.poll()
            assert states(repository) == {2: "AVAILABLE", 1: "UNLOADING"}
            assert number(repository) == 2
            assert refusal(lambda: number(repository, version=1))[0] is NOT_FOUND
        repository.poll()
        assert states(repository)[1] == "UNLOADING", "one of two requests is still in flight"
        assert first.loaded.graph == "graph"
    del first
    assert world.living() == ["1", "2"]
    repository.poll()
    assert states(repository) == {2: "AVAILABLE", 1: "END"}
    assert world.living() == ["2"]


def test_a_request_that_fails_is_done_with_its_version_too(world: World) -> None:
    world.push(1)
    repository = world.open()
    repository.poll()
    with pytest.raises(ZeroDivisionError), repository.use("ag_news"):
        raise ZeroDivisionError
    world.push(2)
    repository.poll()
    assert states(repository) == {2: "AVAILABLE", 1: "END"}


def test_what_stays_is_read_and_warmed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    verify = loading.verify
    monkeypatch.setattr(loading, "verify", lambda directory: (hashed.append(directory.name), verify(directory)))
    world.push(1)
    world.push(2, "broken")
    world.errors["broken"] = lambda: BadInputError("no good")
    world.point(champion=1, challenger=2)
    repository = world.open()
    for _ in range(5):
        repository.poll()
    assert (sorted(world.loads), world.warmed, sorted(hashed)) == (["1", "2"], ["1"], ["1", "2"])


def test_while_the_new_one_is_loaded_and_warmed_the_old_one_answers(world: World) -> None:
    world.push(1)
    seen: list[tuple[int, str]] = []

    def watch(model: Any) -> None:
        if model.directory.name == "2":
            seen.append((number(repository), states(repository)[2]))

    repository = world.open(warm=watch, load=lambda directory: (watch(m := world.load(directory)), m)[1])
    repository.poll()
    world.push(2)
    repository.poll()
    assert seen == [(1, "LOADING"), (1, "LOADING")]


def test_labels_move_to_what_is_loaded_at_the_next_look(world: World) -> None:
    for pushed in (1, 2):
        world.push(pushed)
    world.point(champion=1, challenger=2)
    repository = world.open()
    repository.poll()
    with repository.use("ag_news", label="champion") as before:
        world.point(champion=2, challenger=1)
        repository.poll()
        assert before.labels == {"champion"}
    assert (number(repository), number(repository, label="challenger")) == (2, 1)
    assert sorted(world.loads) == ["1", "2"]


def test_a_rollback_loads_nothing_and_stays_where_it_is_when_repeated(world: World) -> None:
    for pushed in (1, 2):
        world.push(pushed)
    world.point(champion=2, previous=1)
    repository = world.open()
    repository.poll()
    for _ in range(2):
        world.point(champion=1, previous=2)
        repository.poll()
        assert (number(repository), repository.labels("ag_news")) == (1, {"champion": 1})
    world.point(champion=2, previous=1)
    repository.poll()
    assert number(repository) == 2
    assert world.loads == ["2", "1"]


def test_a_model_that_is_no_longer_listed_goes(world: World, no_collector: None) -> None:
    world.push(1)
    world.push(7, name="other")
    world.point(champion=1)
    world.point(name="other", champion=7)
    repository = world.open()
    repository.poll()
    shutil.rmtree(world.serving / "other")
    world.point(champion=1)
    repository.poll()
    assert repository.models() == ["ag_news"]
    assert repository.ready
    assert refusal(lambda: number(repository, "other"))[1] == "Servable not found for request: Latest(other)"
    assert refusal(lambda: number(repository, "other", label="champion"))[0] is INVALID
    assert states(repository, "other") == {7: "END"}
    assert world.living() == ["1"]
    world.push(8, name="other")
    world.point(name="other", champion=8)
    repository.poll()
    assert (number(repository, "other"), repository.models()) == (8, ["ag_news", "other"])


def test_ended_versions_are_forgotten_in_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_MOST_ENDED", 2)
    repository = world.open()
    for pushed in range(1, 6):
        world.push(pushed)
        repository.poll()
    assert states(repository) == {5: "AVAILABLE", 4: "END", 3: "END"}


# --- a broken version ------------------------------------------------------------------------------------------------


def change_weights(directory: Path) -> None:
    (directory / "variables" / "variables.data-00000-of-00001").write_text("other")


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
    from components import manifest

    world.push(1)
    repository = world.open()
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "sha256", lambda path: os.close(10**6))
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


# --- the disk goes away ----------------------------------------------------------------------------------------------


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
    diary = Diary()
    repository = world.open(observer=diary)
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
    assert diary.entries[-1] == ("troubled", *repository.troubles)
    if "gone" not in how:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    aside.rename(place)
    caplog.clear()
    repository.poll()
    repository.poll()
    assert (repository.troubles, number(repository)) == ([], answering)
    assert [record.message for record in caplog.records] == ["the model directory is followed again"]
    assert diary.entries[-1] == ("troubled",)
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


# --- leases ----------------------------------------------------------------------------------------------------------


def leased(base: Path) -> list[int]:
    return sorted(version for lease in read_leases(base) for version in lease.versions)


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
        assert [entry[0] for entry in diary.entries] == ["loaded", "troubled"]
    repository.poll()
    assert (repository.troubles, leased(world.base)) == ([], [1])


# --- what is told ----------------------------------------------------------------------------------------------------


def test_the_observer_is_told_and_the_log_has_each_thing_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.push(1)
    world.point(champion=1)
    diary = Diary()

    def load(directory: Path) -> FakeModel:
        world.now += 2.5
        return world.load(directory)

    repository = world.open(observer=diary, load=load)
    repository.poll()
    world.push(2)
    world.push(3, "broken")
    world.errors["broken"] = lambda: BadInputError("it is no good")
    world.point(champion=2, challenger=3)
    for _ in range(3):
        repository.poll()
    assert diary.entries == [
        ("loaded", "ag_news", 1, 2.5),
        ("loaded", "ag_news", 2, 2.5),
        ("failed", "ag_news", 3, "it is no good"),
        ("unloaded", "ag_news", 1),
    ]
    assert [record.message for record in caplog.records] == [
        "version 1 of ag_news is loaded, in 2.5 s",
        "label champion of ag_news is at version 1",
        "version 2 of ag_news is loaded, in 2.5 s",
        "label champion of ag_news is at version 2",
        "version 3 of ag_news is not served: it is no good",
        "version 1 of ag_news is unloaded",
    ]


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(world: World) -> Iterator[Callable[..., Repository]]:
    """Opens repositories that follow the disk by themselves, and stops them."""
    with ExitStack() as stack:

        def start(**options: Any) -> Repository:
            repository = world.open(poll_seconds=0.02, clock=time.monotonic, **options)
            repository.start()
            stack.callback(repository.stop)
            return repository

        yield start
    assert not [thread for thread in threading.enumerate() if thread.name in ("newsdesk-poll", "newsdesk-load")]


def test_once_started_it_follows_by_itself(world: World, started: Callable[..., Repository]) -> None:
    world.push(1)
    repository = started()
    wait_until(lambda: repository.ready, "the first version")
    world.push(2)
    wait_until(lambda: number(repository) == 2, "the second version")
    wait_until(lambda: states(repository)[1] == "END", "the end of the first")


def test_a_label_moves_while_another_version_is_being_loaded(world: World, started: Callable[..., Repository]) -> None:
    for pushed in (1, 2):
        world.push(pushed)
    world.push(3, "slow")
    release = threading.Event()

    def load(directory: Path) -> FakeModel:
        model = world.load(directory)
        assert model.graph != "slow" or release.wait(SECONDS)
        return model

    world.point(champion=2, challenger=1)
    repository = started(load=load)
    wait_until(lambda: len(repository.labels("ag_news")) == 2, "both labels")
    world.point(champion=1, challenger=3)
    # As a rollback does, of which nothing must be loaded first.
    wait_until(lambda: number(repository) == 1, "the move of the label")
    wait_until(lambda: states(repository)[3] == "LOADING", "the load of the third version")
    assert number(repository, label="challenger") == 1, "a label moves to nothing that is not available"
    release.set()
    wait_until(lambda: number(repository, label="challenger") == 3, "the move of the other label")


def test_a_version_that_nobody_wants_any_more_when_it_is_loaded_goes(
    world: World, started: Callable[..., Repository]
) -> None:
    world.push(1)
    world.push(2, "slow")
    begun, release = threading.Event(), threading.Event()

    def load(directory: Path) -> FakeModel:
        model = world.load(directory)
        if model.graph == "slow":
            begun.set()
            assert release.wait(SECONDS)
        return model

    world.point(champion=1)
    repository = started(load=load)
    wait_until(lambda: repository.ready, "the first version")
    world.point(champion=2)
    assert begun.wait(SECONDS)
    world.point(champion=1)
    time.sleep(0.1)
    release.set()
    wait_until(lambda: states(repository)[2] == "END", "the end of the second version")
    assert (number(repository), states(repository)[1]) == (1, "AVAILABLE")
    wait_until(lambda: world.living() == ["1"], "the second version's memory")


def test_what_goes_wrong_unforeseen_is_told_and_does_not_stop_it(
    world: World, started: Callable[..., Repository], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Careless(Observer):
        def loaded(self, model: str, version: int, seconds: float) -> None:
            raise KeyError("careless")

    world.push(1)
    repository = started(observer=Careless())
    wait_until(lambda: repository.ready, "the first version")
    assert "loading went wrong" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(module.ModelsSource, "read", lambda self: {}["nothing"])
        wait_until(lambda: bool(repository.troubles), "the trouble")
        time.sleep(0.1)
        assert repository.troubles == ["the model directory could not be followed: KeyError: 'nothing'"]
        assert (number(repository), caplog.text.count("could not be followed")) == (1, 1)
    world.push(2)
    wait_until(lambda: number(repository) == 2, "the second version")
    wait_until(lambda: repository.troubles == [], "the end of the trouble")


def test_stop_does_not_wait_for_a_load(world: World) -> None:
    world.push(1)
    begun, release = threading.Event(), threading.Event()

    def load(directory: Path) -> FakeModel:
        begun.set()
        assert release.wait(SECONDS)
        return world.load(directory)

    repository = world.open(load=load, poll_seconds=0.02)
    repository.start()
    assert begun.wait(SECONDS)
    before = time.monotonic()
    repository.stop(timeout_seconds=0.1)
    assert time.monotonic() - before < SECONDS / 2
    assert leased(world.base) == []
    release.set()
    repository.stop()
    assert leased(world.base) == [], "a load that went on took the lease again"


def test_requests_meet_no_gap_and_no_freed_version_while_versions_come_and_go(
    world: World, started: Callable[..., Repository]
) -> None:
    world.push(1)
    repository = started()
    wait_until(lambda: repository.ready, "the first version")
    stop, wrong, served = threading.Event(), [], set()

    def ask() -> None:
        while not stop.is_set():
            try:
                with repository.use("ag_news") as version:
                    served.add(version.number)
                    time.sleep(0)
                    if version.loaded.directory.name != str(version.number):
                        wrong.append(f"{version.number} is answered by {version.loaded.directory}")
                    if repository.status("ag_news", version=version.number)[0].state is State.END:
                        wrong.append(f"{version.number} ended while it was in use")
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for pushed in range(2, 8):
        world.push(pushed)
        wait_until(lambda pushed=pushed: pushed in served or bool(wrong), f"version {pushed}")
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    wait_until(lambda: sorted(states(repository).values()) == ["AVAILABLE", *["END"] * 6], "the end of the others")
    wait_until(lambda: world.living() == ["7"], "the memory of the others")


# --- whatever happens ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(["good", "broken", "damaged"])),
        st.tuples(st.just("point"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("mend"), st.integers(0, 5)),
        st.tuples(st.just("config"), st.sampled_from(["", "model_config_list {", "gone"])),
        st.tuples(st.just("vanish"), st.sampled_from(["base", "serving"])),
        st.tuples(
            st.just("return"),
        ),
        st.tuples(
            st.just("use"),
        ),
        st.tuples(
            st.just("done"),
        ),
        st.tuples(st.just("delete"), st.integers(0, 5)),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_what_served_goes_on_serving(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    root = tmp_path_factory.mktemp("any")
    world = World(root / "serving")
    world.errors["broken"] = lambda: BadInputError("no good")
    world.push(1)
    world.point(champion=1)
    repository = world.open()
    repository.poll()
    pushed, champion, in_use = 1, 1, list[tuple[ExitStack, Version]]()
    for step in steps:
        there = world.base.exists() and (world.base / "aliases.json").exists()
        if step[0] == "push" and there:
            pushed += 1
            directory = world.push(pushed, "broken" if step[1] == "broken" else "good")
            if step[1] == "damaged":
                change_weights(directory)
        elif step[0] == "point" and there:
            world.point(champion=1 + step[1] % pushed, challenger=1 + step[2] % pushed)
        elif step[0] == "mend" and there:
            chosen = 1 + step[1] % pushed
            shutil.rmtree(world.base / str(chosen), ignore_errors=True)
            world.push(chosen)
        elif step[0] == "delete" and there:
            shutil.rmtree(world.base / str(1 + step[1] % pushed), ignore_errors=True)
        elif step[0] == "config" and world.serving.exists():
            (world.serving / MODELS_CONFIG).unlink(missing_ok=True)
            if step[1] != "gone":
                (world.serving / MODELS_CONFIG).write_text(step[1])
        elif step[0] == "vanish" and there:
            (world.base if step[1] == "base" else world.serving).rename(root / f"aside-{step[1]}")
        elif step[0] == "return":
            for name, place in (("serving", world.serving), ("base", world.base)):
                if (root / f"aside-{name}").exists():
                    (root / f"aside-{name}").rename(place)
        elif step[0] == "use":
            stack = ExitStack()
            in_use.append((stack, stack.enter_context(repository.use("ag_news"))))
        elif step[0] == "done" and in_use:
            in_use.pop(0)[0].close()
        repository.poll()

        with repository.use("ag_news") as version:
            assert version.loaded.graph != "broken"
            assert "champion" in version.labels
            champion = version.number
        assert repository.ready
        reported = states(repository)
        assert reported[champion] == "AVAILABLE"
        assert all(reported[at] == "AVAILABLE" for at in repository.labels("ag_news").values())
        assert all(reported[version.number] in ("AVAILABLE", "UNLOADING") for _, version in in_use)
        assert set(reported.values()) <= {"AVAILABLE", "UNLOADING", "END"}
        del version
    for stack, _ in in_use:
        stack.close()
    in_use.clear()
    repository.poll()
    assert "UNLOADING" not in states(repository).values()
