"""The node that promotes what was pushed: it tells the registry first, can be asked again, and fails closed."""

import json
from pathlib import Path
from typing import Any

import pytest
from memory_registry import CutError, MemoryRegistry
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order
from tfx.types import standard_artifacts

from components.artifacts import Promotion, Registration
from components.errors import BadInputError, GateRejectedError
from components.file_names import REGISTRATION_FILE
from components.outcomes import Standing
from components.push.aliases import MODELS_CONFIG, read_aliases
from components.push.manifest import MANIFEST, hash_files, make_manifest
from components.registry import promote as module
from components.registry.promote import Promote
from components.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, SERVING_VERSION, STATUS
from components.registry.tracking import Store

NAME = "ag_news"


class World:
    """Versions 1 and 3 are pushed; 1, which is 101 in the registry, is the champion."""

    def __init__(self, root: Path):
        self.serving = root / "serving"
        self.registration = root / "registration"
        self.registration.mkdir()
        for number in (1, 3):
            version = self.serving / NAME / str(number)
            version.mkdir(parents=True)
            (version / "saved_model.pb").write_text(f"graph {number}")
            (version / MANIFEST).write_text(make_manifest(number, hash_files(version), {}))
        self.registry = MemoryRegistry(NAME)
        self.registry.held = {"101": {SERVING_VERSION: "1", STATUS: Standing.APPROVED}, "103": {STATUS: "pending"}}
        self.registry.pointed = {CHAMPION: "101"}
        self.asked: list[tuple[str, str]] = []

    def run(self, alias: str = CHAMPION, registered: str = "103", number: str = "3", then: str | None = "101") -> Any:
        """Runs the node on what Pusher and Register left; returns its output."""
        model, registration, promotion = standard_artifacts.PushedModel(), Registration(), Promotion()
        model.set_string_custom_property("pushed_version", number)
        registration.uri = str(self.registration)
        (self.registration / REGISTRATION_FILE).write_text(
            f'{{"registry_version": "{registered}", "mlflow_run_id": "r", "digest": "d", "status": "pending",'
            ' "serving_version": null}'
        )
        Promote.test_call(
            pushed_model=model, registration=registration, promotion=promotion, serving=str(self.serving), name=NAME,
            alias=alias, store="sqlite://", registry=json.dumps({CHAMPION: then}), code_digest="x",
        )  # fmt: skip
        return promotion

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.serving)): path.read_bytes()
            for path in self.serving.rglob("*")
            if path.is_file() and not path.name.endswith("lock")
        }

    def state(self) -> tuple:
        tags = {number: {**tags, "promoted_at": ""} for number, tags in self.registry.held.items()}
        return self.registry.pointed, tags, self.files()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)

    def open_registry(store: Store, name: str) -> MemoryRegistry:
        made.asked.append((store.uri, name))
        return made.registry

    monkeypatch.setattr(module, "Registry", open_registry)
    return made


@pytest.mark.parametrize(
    ("alias", "expected", "said"),
    [
        (CHAMPION, {CHAMPION: 3, PREVIOUS: 1}, "version 3 of ag_news is now champion, after version 1"),
        (CHALLENGER, {CHAMPION: 1, CHALLENGER: 3}, "version 3 of ag_news is now challenger"),
    ],
)
def test_what_was_pushed_gets_the_alias(world: World, alias: str, expected: dict[str, int], said: str) -> None:
    promotion = world.run(alias)
    assert world.registry.held["103"][SERVING_VERSION] == "3"
    assert world.registry.held["103"][STATUS] == Standing.APPROVED
    assert read_aliases(world.serving / NAME) == expected
    assert promotion.get_string_custom_property("alias") == alias
    assert promotion.get_string_custom_property("sentence") == said
    assert world.asked == [("sqlite://", NAME)]


def test_asked_again_it_finds_everything_done(world: World) -> None:
    world.run()
    before = world.state()
    promotion = world.run()
    assert world.state() == before
    assert promotion.get_string_custom_property("sentence") == "version 3 of ag_news is already champion"


def test_cut_anywhere_it_is_finished_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str) -> World:
        (tmp_path / name).mkdir()
        made = World(tmp_path / name)
        monkeypatch.setattr(module, "Registry", lambda *_: made.registry)
        return made

    whole = make("whole")
    whole.run()
    expected = whole.registry.pointed, whole.registry.held.keys()
    for step in range(whole.registry.steps):
        world = make(str(step))
        world.registry.cut = step
        with pytest.raises(CutError):
            world.run()
        world.registry.cut = None
        assert CHAMPION in world.registry.pointed
        world.run()
        assert (world.registry.pointed, world.registry.held.keys()) == expected
        assert read_aliases(world.serving / NAME) == {CHAMPION: 3, PREVIOUS: 1}


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ("102", "101", "was version 2 .*is version 1 now"),
        (None, "101", "was none .*is version 1 now"),
        ("101", None, "is none"),
    ],
)
def test_a_champion_that_was_moved_during_the_run_stays(
    world: World, alias: str, then: str | None, now: str | None, said: str
) -> None:
    """A rollback by hand while a run is going is not undone by that run."""
    world.registry.held["102"] = {SERVING_VERSION: "2"}
    world.registry.pointed = {CHAMPION: now} if now else {}
    before = world.registry.pointed.copy(), world.files()
    with pytest.raises(GateRejectedError, match=said):
        world.run(alias, then=then)
    assert (world.registry.pointed, world.files()) == before
    assert world.registry.held["103"][STATUS] == Standing.PENDING


def test_files_that_are_not_those_pushed_are_not_promoted(world: World) -> None:
    (world.serving / NAME / "3" / "saved_model.pb").write_text("another graph")
    before = world.registry.pointed.copy(), world.files()
    with pytest.raises(BadInputError, match="is not what was pushed"):
        world.run()
    assert (world.registry.pointed, world.files()) == before


def test_without_a_registry_nothing_is_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store")
    client = MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
    run = client.create_run(client.create_experiment(NAME, store.artifacts)).info
    client.create_registered_model(NAME)
    client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id)
    world = World(tmp_path)
    registry = module.Registry
    monkeypatch.setattr(module, "Registry", lambda _, name: registry(store, name))
    before = world.files()
    with out_of_order(tmp_path / "store"), pytest.raises(BadInputError, match="does not answer or refuses"):
        world.run(registered="1", then=None)
    assert world.files() == before
    assert not (world.serving / MODELS_CONFIG).exists()
    world.run(registered="1", then=None)
    assert client.get_model_version_by_alias(NAME, CHAMPION).tags[SERVING_VERSION] == "3"
