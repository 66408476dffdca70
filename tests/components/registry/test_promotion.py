"""Moves of the aliases: what they do, what they refuse, and that one cut anywhere is finished by asking again."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_registry import CutError, MemoryRegistry
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order
from model_server_config import parse_models_config

from components.errors import BadInputError
from components.outcomes import Standing
from components.push import model_base
from components.push.aliases import ALIASES_FILE, MODELS_CONFIG, read_aliases
from components.push.manifest import MANIFEST, hash_files, make_manifest
from components.push.model_base import ALIASES_LOCK
from components.registry.promotion import Move, find_apart, promote, rollback, settle
from components.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, SERVING_VERSION, STATUS, Registry
from components.registry.tracking import Store

NAME = "ag_news"
VERSIONS = (1, 2, 3, 4)
# Version 3 of the model base is version 103 of the registry: the two count apart.
OFFSET = 100
TIMES = ("rolled_back_at", "promoted_at")
Operation = tuple[Any, ...]
Setup = tuple[Operation, ...]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four versions of a model, pushed, none promoted."""
    serving = tmp_path_factory.mktemp("pushed") / "serving"
    for number in VERSIONS:
        version = serving / NAME / str(number)
        version.mkdir(parents=True)
        (version / "saved_model.pb").write_text(f"graph {number}")
        (version / MANIFEST).write_text(make_manifest(number, hash_files(version), {}))
    return serving


class World:
    """Pushed versions and a registry that knows them."""

    def __init__(self, pushed: Path, root: Path, registry: Any):
        self.serving = Path(shutil.copytree(pushed, root / "serving"))
        self.registry = registry

    def do(self, *operations: Operation) -> Move:
        """Performs moves such as ``("promote", 3)`` and ``("rollback",)``; returns what the last one did."""
        for name, *arguments in operations:
            call = {"promote": promote, "rollback": rollback}[name]
            move = call(self.registry, self.serving, *arguments)
        return move

    def aliases(self) -> dict[str, int]:
        """Returns what the registry says, as directories."""
        return {
            alias: item.serving_version
            for item in self.registry.versions()
            for alias in item.aliases
            if item.serving_version is not None
        }

    def tags(self) -> dict[str, dict[str, str]]:
        """Returns tags by version; of moments, only that there is one."""
        return {
            item.version: {key: "a time" if key in TIMES else value for key, value in item.tags.items()}
            for item in self.registry.versions()
        }

    def files(self) -> dict[str, bytes]:
        """Returns every file that a server could see, locks left out; of where this world is, nothing."""
        paths = (path for path in self.serving.rglob("*") if path.is_file() and not path.name.endswith("lock"))
        here = str(self.serving).encode()
        return {str(path.relative_to(self.serving)): path.read_bytes().replace(here, b"/serving") for path in paths}

    def state(self) -> tuple:
        """Returns all that a move may change, after holding the files against the registry."""
        aliases = self.aliases()
        assert read_aliases(self.serving / NAME) == aliases
        assert self.labels() == {key: number for key, number in aliases.items() if key != PREVIOUS}
        return aliases, self.tags(), self.files()

    def labels(self) -> dict[str, int]:
        """Returns what TensorFlow Serving would answer to; each of it can be loaded."""
        path = self.serving / MODELS_CONFIG
        models = parse_models_config(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not models:
            return {}
        for version in models[NAME].versions:
            assert (self.serving / NAME / str(version) / "saved_model.pb").is_file()
        return models[NAME].labels


@pytest.fixture
def make_world(pushed: Path, tmp_path: Path) -> Callable[[], World]:
    """Makes a world with a registry in memory."""
    numbers = itertools.count()

    def make() -> World:
        registry = MemoryRegistry(NAME)
        for number in VERSIONS:
            registry.held[str(OFFSET + number)] = {SERVING_VERSION: str(number), STATUS: "pending"}
        return World(pushed, tmp_path / str(next(numbers)), registry)

    return make


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    return make_world()


def test_the_first_promotion(world: World) -> None:
    move = world.do(("promote", 1))
    assert move == Move(1, {CHAMPION: 1}, True, "version 1 of ag_news is now champion")
    assert world.state()[0] == {CHAMPION: 1}
    assert world.tags()["101"] == {SERVING_VERSION: "1", STATUS: Standing.APPROVED, "promoted_at": "a time"}
    assert {tags[STATUS] for number, tags in world.tags().items() if number != "101"} == {"pending"}


def test_the_champion_before_becomes_the_previous(world: World) -> None:
    world.do(("promote", 1))
    move = world.do(("promote", 3))
    assert move == Move(3, {CHAMPION: 3, PREVIOUS: 1}, True, "version 3 of ag_news is now champion, after version 1")
    assert world.state()[0] == {CHAMPION: 3, PREVIOUS: 1}
    world.do(("promote", 2))
    assert world.state()[0] == {CHAMPION: 2, PREVIOUS: 3}


def test_a_challenger_does_not_move_the_champion(world: World) -> None:
    world.do(("promote", 1), ("promote", 2))
    move = world.do(("promote", 3, CHALLENGER))
    assert move == Move(
        3, {CHAMPION: 2, PREVIOUS: 1, CHALLENGER: 3}, True, "version 3 of ag_news is now challenger"
    )  # fmt: skip
    assert world.state()[0] == {CHAMPION: 2, PREVIOUS: 1, CHALLENGER: 3}
    assert world.labels() == {CHAMPION: 2, CHALLENGER: 3}
    world.do(("promote", 4, CHALLENGER))
    assert world.state()[0] == {CHAMPION: 2, PREVIOUS: 1, CHALLENGER: 4}


def test_a_challenger_may_come_before_any_champion(world: World) -> None:
    world.do(("promote", 1, CHALLENGER))
    assert world.state()[0] == {CHALLENGER: 1}


def test_a_challenger_that_wins_challenges_no_more(world: World) -> None:
    world.do(("promote", 1), ("promote", 2, CHALLENGER), ("promote", 2))
    assert world.state()[0] == {CHAMPION: 2, PREVIOUS: 1}


def test_another_challenger_stays_when_somebody_else_wins(world: World) -> None:
    world.do(("promote", 1), ("promote", 2, CHALLENGER), ("promote", 3))
    assert world.state()[0] == {CHAMPION: 3, PREVIOUS: 1, CHALLENGER: 2}


def test_the_champion_cannot_challenge_itself(world: World) -> None:
    world.do(("promote", 1))
    before = world.state()
    with pytest.raises(BadInputError, match="version 1 is the champion: it cannot challenge itself"):
        world.do(("promote", 1, CHALLENGER))
    assert world.state() == before


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
def test_what_is_promoted_already_is_left_as_it_is(world: World, alias: str) -> None:
    world.do(("promote", 1), ("promote", 2), ("promote", 3, alias))
    before = world.state()
    move = world.do(("promote", 3, alias))
    assert (move.changed, move.sentence) == (False, f"version 3 of ag_news is already {alias}")
    assert world.state() == before


def test_rollback_is_one_step_however_often_it_is_asked_for(world: World) -> None:
    world.do(("promote", 1), ("promote", 2), ("promote", 3))
    move = world.do(("rollback",))
    assert move == Move(2, {CHAMPION: 2}, True, "version 2 of ag_news is champion again, after 3")
    before = world.state()
    assert before[0] == {CHAMPION: 2}
    for _ in range(2):
        again = world.do(("rollback",))
        assert (again.version, again.changed) == (2, False)
        assert again.sentence == "version 2 of ag_news is champion already, since the rollback of version 3"
        assert world.state() == before


def test_rollback_is_told_to_both_versions(world: World) -> None:
    world.do(("promote", 1), ("promote", 2), ("rollback",))
    assert world.tags()["102"] == {
        SERVING_VERSION: "2", STATUS: Standing.ROLLED_BACK, "promoted_at": "a time", "rolled_back_at": "a time"
    }  # fmt: skip
    assert world.tags()["101"][STATUS] == Standing.APPROVED
    assert world.tags()["101"]["restored_after"] == "2"


def test_the_next_promotion_after_a_rollback_can_be_rolled_back(world: World) -> None:
    world.do(("promote", 1), ("promote", 2), ("rollback",), ("promote", 3))
    assert world.state()[0] == {CHAMPION: 3, PREVIOUS: 1}
    world.do(("rollback",))
    assert world.state()[0] == {CHAMPION: 1}


def test_a_version_that_was_rolled_back_may_be_promoted_by_hand(world: World) -> None:
    world.do(("promote", 1), ("promote", 2), ("rollback",), ("promote", 2))
    assert world.state()[0] == {CHAMPION: 2, PREVIOUS: 1}
    assert world.tags()["102"][STATUS] == Standing.APPROVED


def test_rollback_leaves_the_challenger(world: World) -> None:
    world.do(("promote", 1), ("promote", 2), ("promote", 3, CHALLENGER), ("rollback",))
    assert world.state()[0] == {CHAMPION: 1, CHALLENGER: 3}


def test_a_version_that_serves_again_challenges_no_more(world: World) -> None:
    world.do(("promote", 1), ("promote", 2), ("promote", 1, CHALLENGER), ("rollback",))
    assert world.state()[0] == {CHAMPION: 1}


def test_rollback_without_a_predecessor_is_bad_input(world: World) -> None:
    with pytest.raises(BadInputError, match="ag_news has no champion: there is nothing to roll back"):
        world.do(("rollback",))
    world.do(("promote", 1))
    before = world.state()
    with pytest.raises(BadInputError, match="version 1 of ag_news has no predecessor: choose a version with newsdesk"):
        world.do(("rollback",))
    assert world.state() == before


def test_rollback_to_what_is_gone_is_refused(world: World) -> None:
    world.do(("promote", 1), ("promote", 2))
    shutil.rmtree(world.serving / NAME / "1")
    before = world.aliases(), world.tags(), world.files()
    with pytest.raises(BadInputError, match=r"version 1 of ag_news is no longer at .*: choose another"):
        world.do(("rollback",))
    assert (world.aliases(), world.tags(), world.files()) == before


@pytest.mark.parametrize("operation", [("promote", 2), ("promote", 2, CHALLENGER), ("rollback",)], ids=str)
def test_a_version_that_is_not_what_was_pushed_is_refused(world: World, operation: Operation) -> None:
    world.do(("promote", 2), ("promote", 1)) if operation == ("rollback",) else world.do(("promote", 1))
    (world.serving / NAME / "2" / "saved_model.pb").write_text("another graph")
    before = world.state()
    with pytest.raises(BadInputError, match="is not what was pushed"):
        world.do(operation)
    assert world.state() == before


@pytest.mark.parametrize("version", [5, 101, 0, -1])
def test_a_version_that_was_never_pushed_is_refused(world: World, version: int) -> None:
    world.do(("promote", 1))
    before = world.state()
    with pytest.raises(BadInputError, match=f"no version {version} of ag_news was pushed: newsdesk models list"):
        world.do(("promote", version))
    assert world.state() == before


def test_before_any_push_there_is_nothing_to_move(tmp_path: Path) -> None:
    for call in (lambda: promote(MemoryRegistry(NAME), tmp_path, 1), lambda: rollback(MemoryRegistry(NAME), tmp_path)):
        with pytest.raises(BadInputError, match=r"nothing has been pushed to .*: newsdesk run pushes"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_lost_or_damaged_are_written_anew(world: World) -> None:
    world.do(("promote", 1), ("promote", 2))
    expected = world.state()
    (world.serving / NAME / ALIASES_FILE).write_text("{")
    (world.serving / MODELS_CONFIG).unlink()
    assert not world.do(("promote", 2)).changed
    assert world.state() == expected


def test_one_move_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.do(("promote", 1))
    before = world.state()
    monkeypatch.setattr(model_base, "_LOCK_SECONDS", 0.05)
    with filelock.FileLock(world.serving / NAME / ALIASES_LOCK):
        for operation in (("promote", 2), ("rollback",)):
            with pytest.raises(BadInputError, match=r"another process has been at work in .*: try again"):
                world.do(operation)
    assert world.state() == before
    world.do(("promote", 2))


CUTS: dict[str, tuple[Setup, Operation]] = {
    "first": ((), ("promote", 1)),
    "second": ((("promote", 1),), ("promote", 2)),
    "third": ((("promote", 1), ("promote", 2)), ("promote", 3)),
    "challenger": ((("promote", 1), ("promote", 2)), ("promote", 3, CHALLENGER)),
    "next challenger": ((("promote", 1), ("promote", 2, CHALLENGER)), ("promote", 3, CHALLENGER)),
    "challenger wins": ((("promote", 1), ("promote", 2, CHALLENGER)), ("promote", 2)),
    "back to previous by hand": ((("promote", 1), ("promote", 2)), ("promote", 1)),
    "rolled back by hand": ((("promote", 1), ("promote", 2), ("rollback",)), ("promote", 2)),
    "rollback": ((("promote", 1), ("promote", 2)), ("rollback",)),
    "rollback of three": ((("promote", 1), ("promote", 2), ("promote", 3)), ("rollback",)),
    "second rollback": ((("promote", 1), ("promote", 2), ("rollback",), ("promote", 3)), ("rollback",)),
    "rollback beside a challenger": ((("promote", 1), ("promote", 2), ("promote", 3, CHALLENGER)), ("rollback",)),
    "rollback to the challenger": ((("promote", 1), ("promote", 2), ("promote", 1, CHALLENGER)), ("rollback",)),
}


@pytest.fixture
def cut_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[MemoryRegistry]]:
    """Makes the replacement of a file a step of the registry that is put into this list."""
    counted: list[MemoryRegistry] = []
    replace = os.replace

    def step(source: Path, target: Path) -> None:
        for registry in counted:
            registry.step()
        replace(source, target)

    monkeypatch.setattr(os, "replace", step)
    return counted


@pytest.mark.parametrize(("setup", "operation"), CUTS.values(), ids=CUTS)
def test_a_move_that_is_cut_anywhere_is_finished_by_asking_again(
    make_world: Callable[[], World], cut_files: list[MemoryRegistry], setup: Setup, operation: Operation
) -> None:
    whole = make_world()
    cut_files[:] = [whole.registry]
    whole.do(*setup, operation)
    expected = whole.state()
    for steps in itertools.count():
        world = make_world()
        cut_files[:] = [world.registry]
        if setup:
            world.do(*setup)
        served, serving = "champion" in world.registry.pointed, world.labels()
        world.registry.cut = world.registry.steps + steps
        try:
            world.do(operation)
        except CutError:
            finished = False
        else:
            finished = True
        world.registry.cut = None
        # Whatever the kill left, somebody serves, and servers can read what they are told.
        assert ("champion" in world.registry.pointed) >= served
        assert world.labels() in (serving, {key: number for key, number in expected[0].items() if key != PREVIOUS})
        world.do(operation)
        assert world.state() == expected, f"cut before step {steps}"
        if finished:
            break
    assert steps >= 6  # two looks, two changes, two files at least


@pytest.mark.parametrize(("setup", "operation"), CUTS.values(), ids=CUTS)
def test_a_move_that_was_cut_is_told_and_settled_as_the_registry_has_it(
    make_world: Callable[[], World], cut_files: list[MemoryRegistry], setup: Setup, operation: Operation
) -> None:
    """Also where nobody asks for it again."""
    told = []
    for steps in itertools.count():
        world = make_world()
        cut_files[:] = [world.registry]
        world.do(*setup) if setup else None
        world.registry.cut = world.registry.steps + steps
        finished = False
        with contextlib.suppress(CutError):
            world.do(operation)
            finished = True
        world.registry.cut = None
        pointed = world.registry.pointed.copy()
        apart = find_apart(world.registry, world.serving)
        if apart is None and CHAMPION in pointed:
            world.state()
        told.append(bool(apart))
        settle(world.registry, world.serving)
        assert find_apart(world.registry, world.serving) is None
        assert world.registry.pointed.get(CHAMPION) == pointed.get(CHAMPION)
        world.state()
        if finished:
            break
    assert (told[0], told[-1]) == (False, False)
    # Between the registry and its first file, and between the two files.
    assert sum(told) >= 2


def test_files_without_a_registry_are_not_settled(world: World) -> None:
    """An empty store would take away what serves."""
    world.do(("promote", 1), ("promote", 2))
    before = world.files()
    world.registry.held.clear()
    world.registry.pointed.clear()
    world.registry.store = Store("sqlite:///new.db", None)
    with pytest.raises(
        BadInputError, match=r"version 2 of ag_news serves, but MLflow at sqlite:///new.db has no champ"
    ):
        settle(world.registry, world.serving)
    assert world.files() == before


MOVES = st.tuples(
    st.one_of(
        st.tuples(st.just("promote"), st.sampled_from(VERSIONS), st.sampled_from([CHAMPION, CHALLENGER])),
        st.just(("rollback",)),
    ),
    st.none() | st.integers(0, 14),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(MOVES, min_size=1, max_size=8))
def test_whatever_was_asked_for_and_cut_files_follow_the_registry(
    make_world: Callable[[], World], cut_files: list[MemoryRegistry], moves: list[tuple[Operation, int | None]]
) -> None:
    world = make_world()
    cut_files[:] = [world.registry]
    for operation, steps in moves:
        if steps is not None:
            world.registry.cut = world.registry.steps + steps
            with contextlib.suppress(CutError, BadInputError):
                world.do(operation)
            world.registry.cut = None
        before = (world.aliases(), world.tags(), world.files())
        try:
            move = world.do(operation)
        except BadInputError:
            assert (world.aliases(), world.tags(), world.files()) == before
            continue
        aliases, tags, _ = world.state()
        assert move.aliases == aliases
        champion = aliases.get(CHAMPION)
        assert champion is None or champion not in (aliases.get(PREVIOUS), aliases.get(CHALLENGER))
        assert champion is None or tags[str(OFFSET + champion)][STATUS] == Standing.APPROVED
        if operation[0] == "promote":
            assert aliases[operation[2]] == operation[1]


def test_the_registry_in_memory_moves_as_mlflow_does(pushed: Path, tmp_path: Path, world: World) -> None:
    store = make_store(tmp_path / "store")
    client = MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    run = client.create_run(client.create_experiment(NAME, store.artifacts)).info
    client.create_registered_model(NAME)
    numbers = {}
    for number in VERSIONS:
        made = client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id)
        numbers[str(made.version)] = str(OFFSET + number)
        for key, value in {SERVING_VERSION: str(number), STATUS: "pending"}.items():
            client.set_model_version_tag(NAME, made.version, key, value)
    real = World(pushed, tmp_path / "real", Registry(store, NAME))
    for operation in (
        ("promote", 1), ("promote", 2), ("promote", 3, CHALLENGER), ("rollback",), ("rollback",), ("promote", 3),
        ("promote", 3), ("promote", 4), ("rollback",),
    ):  # fmt: skip
        assert real.do(operation) == world.do(operation)
        aliases, tags, files = real.state()
        assert (aliases, {numbers[key]: value for key, value in tags.items()}) == world.state()[:2]
        assert files[f"{NAME}/{ALIASES_FILE}"] == world.files()[f"{NAME}/{ALIASES_FILE}"]


def test_nothing_moves_while_the_store_is_away(pushed: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    client = MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    run = client.create_run(client.create_experiment(NAME, store.artifacts)).info
    client.create_registered_model(NAME)
    for number in (1, 2):
        client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id, tags={SERVING_VERSION: str(number)})
    world = World(pushed, tmp_path / "real", Registry(store, NAME))
    world.do(("promote", 1), ("promote", 2))
    before = world.state()
    with out_of_order(tmp_path / "store"):
        files = world.files()
        for operation in (("promote", 1), ("promote", 1, CHALLENGER), ("rollback",)):
            with pytest.raises(BadInputError, match=r"MLflow at .* does not answer or refuses"):
                world.do(operation)
        assert world.files() == files
    assert world.state() == before
