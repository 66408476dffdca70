"""What answers a request, and how a new version takes over from an old one."""

import os
import shutil
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from version_world import INVALID, NOT_FOUND, World, number, refusal, states

from components.errors import BadInputError
from components.push.aliases import MODELS_CONFIG
from serving.errors import Code, RequestError
from serving.repository import loading, versions
from serving.repository.repository import Repository


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


@pytest.mark.parametrize("label", [None, "champion"])
def test_while_the_new_one_is_loaded_and_warmed_the_old_one_answers(world: World, label: str | None) -> None:
    world.push(1)
    if label:
        world.point(champion=1)
    seen: list[tuple[int, str]] = []

    def watch(model: Any) -> None:
        if model.directory.name == "2":
            seen.append((number(repository, label=label), states(repository)[2]))

    repository = world.open(warm=watch, load=lambda directory: (watch(m := world.load(directory)), m)[1])
    repository.poll()
    world.push(2)
    if label:
        world.point(champion=2)
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
