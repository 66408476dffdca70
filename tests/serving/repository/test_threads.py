"""The repository at work by itself: what it tells, how it stops, and requests that meet no gap."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_server import wait_until
from version_world import SECONDS, Diary, FakeModel, World, change_weights, leased, number, states

from components.errors import BadInputError
from components.push.aliases import MODELS_CONFIG
from serving.repository import repository as module
from serving.repository.repository import Observer, Repository
from serving.repository.states import State
from serving.repository.versions import Version

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
    ]
    assert [record.message for record in caplog.records] == [
        "version 1 of ag_news is loaded, in 2.5 s",
        "label champion of ag_news is at version 1",
        "version 2 of ag_news is loaded, in 2.5 s",
        "label champion of ag_news is at version 2",
        "version 3 of ag_news is not served: it is no good",
        "version 1 of ag_news is unloaded",
    ]


def test_once_started_it_follows_by_itself(world: World, started: Callable[..., Repository]) -> None:
    world.push(1)
    repository = started()
    wait_until(lambda: repository.ready, what="the first version")
    world.push(2)
    wait_until(lambda: number(repository) == 2, what="the second version")
    wait_until(lambda: states(repository)[1] == "END", what="the end of the first")


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
    wait_until(lambda: len(repository.labels("ag_news")) == 2, what="both labels")
    world.point(champion=1, challenger=3)
    # As a rollback does, of which nothing must be loaded first.
    wait_until(lambda: number(repository) == 1, what="the move of the label")
    wait_until(lambda: states(repository)[3] == "LOADING", what="the load of the third version")
    assert number(repository, label="challenger") == 1, "a label moves to nothing that is not available"
    release.set()
    wait_until(lambda: number(repository, label="challenger") == 3, what="the move of the other label")


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
    wait_until(lambda: repository.ready, what="the first version")
    world.point(champion=2)
    assert begun.wait(SECONDS)
    world.point(champion=1)
    time.sleep(0.1)
    release.set()
    wait_until(lambda: states(repository)[2] == "END", what="the end of the second version")
    assert (number(repository), states(repository)[1]) == (1, "AVAILABLE")
    wait_until(lambda: world.living() == ["1"], what="the second version's memory")


def test_what_goes_wrong_unforeseen_is_told_and_does_not_stop_it(
    world: World, started: Callable[..., Repository], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Careless(Observer):
        def loaded(self, model: str, version: int, seconds: float) -> None:
            raise KeyError("careless")

    world.push(1)
    repository = started(observer=Careless())
    wait_until(lambda: repository.ready, what="the first version")
    assert "loading went wrong" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(module.ModelsSource, "read", lambda self: {}["nothing"])
        wait_until(lambda: bool(repository.troubles), what="the trouble")
        time.sleep(0.1)
        assert repository.troubles == ["the model directory could not be followed: KeyError: 'nothing'"]
        assert (number(repository), caplog.text.count("could not be followed")) == (1, 1)
    world.push(2)
    wait_until(lambda: number(repository) == 2, what="the second version")
    wait_until(lambda: repository.troubles == [], what="the end of the trouble")


def test_stop_does_not_wait_for_a_load(world: World) -> None:
    world.push(1)
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def load(directory: Path) -> FakeModel:
        begun.set()
        released = release.wait(SECONDS)
        ended.set()
        assert released
        return world.load(directory)

    repository = world.open(load=load, poll_seconds=0.02)
    repository.start()
    assert begun.wait(SECONDS)
    repository.stop(timeout_seconds=0.1)
    assert not ended.is_set()
    assert leased(world.base) == []
    release.set()
    repository.stop()
    assert leased(world.base) == [], "a load that went on took the lease again"


def test_requests_meet_no_gap_and_no_freed_version_while_versions_come_and_go(
    world: World, started: Callable[..., Repository]
) -> None:
    world.push(1)
    repository = started()
    wait_until(lambda: repository.ready, what="the first version")
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
        wait_until(lambda pushed=pushed: pushed in served or bool(wrong), what=f"version {pushed}")
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    wait_until(lambda: sorted(states(repository).values()) == ["AVAILABLE", *["END"] * 6], what="the end of the others")
    wait_until(lambda: world.living() == ["7"], what="the memory of the others")


# --- whatever happens ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(["good", "broken", "damaged"])),
        st.tuples(st.just("point"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("mend"), st.integers(0, 5)),
        st.tuples(st.just("config"), st.sampled_from(["", "model_config_list {", "gone"])),
        st.tuples(st.just("vanish"), st.sampled_from(["base", "serving"])),
        st.tuples(st.just("return")),
        st.tuples(st.just("use")),
        st.tuples(st.just("done")),
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
