"""A push to an object store: no rename, no lock, and still all or nothing under a number of its own."""

import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from components.errors import BadInputError
from components.example_gen.source import SAMPLE_DIR, find_source
from components.push import remote as module
from components.push.local import Pushed, gone_versions, push
from components.push.manifest import MANIFEST
from components.push.remote import (
    ABANDONED_SECONDS,
    CLAIMS,
    RemotePushed,
    given_remote_versions,
    push_remote,
    remote_versions,
)
from pipeline.config.presets import make_config
from pipeline.graph import RegistryState, create_pipeline
from pipeline.workspace.place import open_workspace

gfile = tf.io.gfile
GRAPH, WEIGHTS = "saved_model.pb", "variables/variables.data-00000-of-00001"


@pytest.fixture
def base() -> str:
    """A place in memory that no other test uses."""
    return f"ram://{uuid.uuid4().hex}/models/ag_news"


def contents(place: str) -> dict[str, bytes]:
    """Returns every file below a place."""
    found = {}
    for directory, _, names in gfile.walk(place):
        for name in names:
            path = f"{directory.rstrip('/')}/{name}"
            with gfile.GFile(path, "rb") as file:
                found[path.removeprefix(f"{place}/")] = file.read()
    return found


def write(path: str, text: str = "") -> None:
    gfile.makedirs(path.rpartition("/")[0])
    with gfile.GFile(path, "w") as file:
        file.write(text)


def claim(base: str, version: int, age: float) -> None:
    write(f"{base}/{CLAIMS}/{version}-{int(time.time() - age)}-{uuid.uuid4().hex}")


def test_versions_count_up_and_hold_the_model(make_model: Callable[[str], Path], base: str) -> None:
    model = make_model("a")
    pushed = push_remote(model, f"{base}/", {"MODEL_CARD.md": "# Größe\n"})
    assert (pushed.version, pushed.path, pushed.new) == (1, f"{base}/1", True)
    assert push_remote(make_model("b"), base).version == 2
    assert remote_versions(base) == given_remote_versions(base) == [1, 2]
    files = contents(f"{base}/1")
    manifest = json.loads(files.pop(MANIFEST))
    assert files[WEIGHTS] == b"a"
    assert files["MODEL_CARD.md"].decode() == "# Größe\n"
    assert files.keys() == {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()} | {
        "MODEL_CARD.md"
    }
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert (manifest["version"], manifest["digest"], manifest["extra"]) == (1, pushed.digest, ["MODEL_CARD.md"])


def test_the_digest_is_that_of_a_push_to_a_directory(
    make_model: Callable[[str], Path], base: str, tmp_path: Path
) -> None:
    here, there = push(make_model("a"), str(tmp_path / "base")), push(make_model("a"), base)
    assert isinstance(here, Pushed)
    assert isinstance(there, RemotePushed)
    assert here.digest == there.digest


def test_the_newest_model_is_not_pushed_twice(make_model: Callable[[str], Path], base: str) -> None:
    first = push_remote(make_model("a"), base)
    before = contents(base)
    again = push_remote(make_model("a"), base, {"MODEL_CARD.md": "card"})
    assert (again.version, again.path, again.digest, again.new) == (1, first.path, first.digest, False)
    assert contents(base) == before
    assert [push_remote(make_model(weights), base).version for weights in ("b", "a")] == [2, 3]


def test_graph_and_manifest_are_written_last(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    real = gfile.GFile

    def opened(path: str, mode: str = "r") -> Any:
        if "w" in mode:
            written.append(path.removeprefix(f"{base}/1/"))
        return real(path, mode)

    monkeypatch.setattr(tf.io.gfile, "GFile", opened)
    push_remote(make_model("a"), base, {"MODEL_CARD.md": "card"})
    assert written[-1] == MANIFEST
    assert len(written) == 1 + 4 + 1 + 1
    assert all(written.index(GRAPH) > written.index(name) for name in written if "/" in name)


def test_a_number_is_not_used_again(make_model: Callable[[str], Path], base: str) -> None:
    for weights in ("a", "b"):
        push_remote(make_model(weights), base)
    for version in (1, 2):
        gfile.rmtree(f"{base}/{version}")
    assert remote_versions(base) == []
    assert push_remote(make_model("b"), base).version == 3


def test_a_model_put_there_by_hand_is_counted_and_kept(make_model: Callable[[str], Path], base: str) -> None:
    write(f"{base}/1700000000/{GRAPH}", "theirs")
    assert push_remote(make_model("a"), base).version == 1700000001
    assert contents(f"{base}/1700000000") == {GRAPH: b"theirs"}
    assert remote_versions(base) == [1700000001]


@pytest.mark.parametrize(("age", "stays"), [(0, True), (ABANDONED_SECONDS - 60, True), (ABANDONED_SECONDS + 60, False)])
def test_what_a_killed_push_left_goes_after_an_hour(
    make_model: Callable[[str], Path], base: str, age: float, stays: bool
) -> None:
    claim(base, 4, age)
    write(f"{base}/4/{WEIGHTS}", "half")
    assert push_remote(make_model("a"), base).version == 5
    assert gfile.exists(f"{base}/4/{WEIGHTS}") == stays
    assert remote_versions(base) == [5]


def test_an_old_version_with_a_manifest_stays(make_model: Callable[[str], Path], base: str) -> None:
    push_remote(make_model("a"), base)
    before = contents(f"{base}/1")
    for name in gfile.listdir(f"{base}/{CLAIMS}"):
        gfile.remove(f"{base}/{CLAIMS}/{name}")
    claim(base, 1, 10 * ABANDONED_SECONDS)
    push_remote(make_model("b"), base)
    assert contents(f"{base}/1") == before


class DeathError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_a_push_that_ends_at_any_file_leaves_no_version(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The claim is the first file and the manifest the sixth; nothing is tidied up, as after a kill."""
    push_remote(make_model("old"), base)
    before = contents(f"{base}/1")
    real, opened = gfile.GFile, []

    def die(path: str, mode: str = "r") -> Any:
        if "w" in mode:
            opened.append(path)
            if len(opened) == at:
                raise DeathError
        return real(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "GFile", die)
        patch.setattr(tf.io.gfile, "rmtree", lambda _: None)
        with pytest.raises(DeathError):
            push_remote(make_model("new"), base)
    assert remote_versions(base) == [1]
    assert contents(f"{base}/1") == before
    pushed = push_remote(make_model("new"), base)
    assert pushed.version == (2 if at == 1 else 3)
    assert remote_versions(base) == [1, pushed.version]


def test_a_store_that_refuses_is_one_sentence_and_leaves_nothing(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gfile.GFile

    def refuse(path: str, mode: str = "r") -> Any:
        if path.endswith(GRAPH):
            raise tf.errors.PermissionDeniedError(None, None, "you may not\nwrite here")
        return real(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "GFile", refuse)
        with pytest.raises(BadInputError, match=r"was not pushed to ram://.+ \(you may not write here\): see that"):
            push_remote(make_model("a"), base)
    assert not gfile.exists(f"{base}/1")
    assert push_remote(make_model("a"), base).version == 2


def test_an_unknown_store_is_one_sentence(make_model: Callable[[str], Path]) -> None:
    with pytest.raises(BadInputError, match=r"was not pushed to nowhere://bucket/models .+: see that the store"):
        push(make_model("a"), "nowhere://bucket/models")


@pytest.mark.parametrize("keep", [0, 3])
def test_a_store_that_loses_bytes_is_found(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    copy = module._copy

    def lose(source: Path, target: str) -> Any:
        answer = copy(source, target)
        if source.name == GRAPH:
            # In memory, opening what exists for writing keeps what is in it.
            gfile.remove(target)
            with gfile.GFile(target, "w") as file:
                file.write("graph"[:keep])
        return answer

    monkeypatch.setattr(module, "_copy", lose)
    with pytest.raises(BadInputError, match=f"/1/{GRAPH} has {keep} bytes and not the 5 that were sent"):
        push_remote(make_model("a"), base)
    assert remote_versions(base) == []


@pytest.mark.parametrize("name", [WEIGHTS, "assets.extra/classes.txt", "variables/more"])
def test_a_model_that_changes_while_it_is_sent_is_not_pushed(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of these files one is sent already, one not yet, and one is new."""
    model = make_model("a")
    copy = module._copy

    def change(source: Path, target: str) -> Any:
        if source.name == "variables.index":
            (model / name).write_text("other")
        return copy(source, target)

    monkeypatch.setattr(module, "_copy", change)
    with pytest.raises(BadInputError, match="changed while it was copied"):
        push_remote(model, base)
    assert remote_versions(base) == []


def test_a_damaged_manifest_is_told(make_model: Callable[[str], Path], base: str) -> None:
    push_remote(make_model("a"), base)
    write(f"{base}/1/{MANIFEST}", "{half")
    with pytest.raises(BadInputError, match=r"/1/MANIFEST\.json is damaged"):
        push_remote(make_model("b"), base)


def test_pushes_at_once_get_numbers_of_their_own(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 4
    models = [make_model(f"w{number}") for number in range(count)]
    pushed: list[RemotePushed] = []
    # All look at the same numbers before any of them claims one.
    together = threading.Barrier(count)
    real, seen = module.given_remote_versions, threading.local()

    def look(place: str) -> list[int]:
        found = real(place)
        if not getattr(seen, "once", False):
            seen.once = True
            together.wait(30)
        return found

    monkeypatch.setattr(module, "given_remote_versions", look)
    threads = [threading.Thread(target=lambda model=model: pushed.append(push_remote(model, base))) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    versions = [item.version for item in pushed]
    assert len(set(versions)) == len(versions) == count
    assert remote_versions(base) == sorted(versions)
    assert {contents(item.path)[WEIGHTS] for item in pushed} == {f"w{number}".encode() for number in range(count)}


def test_a_number_with_a_rival_is_nobodys(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has looked already, found itself alone and gone ahead; it is for the later one to yield."""
    real: Callable[[str], list[int]] = module.given_remote_versions
    answers: Iterator[bool] = iter([True])

    def look(place: str) -> list[int]:
        found = real(place)
        if next(answers, False):
            claim(base, 1, 0)
            write(f"{base}/1/{WEIGHTS}", "theirs")
        return found

    monkeypatch.setattr(module, "given_remote_versions", look)
    assert push_remote(make_model("a"), base).version == 2
    assert contents(f"{base}/1") == {WEIGHTS: b"theirs"}


def test_a_store_that_hides_what_was_written_gives_no_number(
    make_model: Callable[[str], Path], base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_claims", lambda _: {})
    monkeypatch.setattr(module, "_MOST_PAUSE_SECONDS", 0)
    with pytest.raises(BadInputError, match="again and again"):
        push_remote(make_model("a"), base)
    assert not gfile.exists(f"{base}/1")


def test_what_was_removed_is_known_without_a_directory(base: str, make_model: Callable[[str], Path]) -> None:
    assert gone_versions(base) == []
    for weights in "abc":
        push_remote(make_model(weights), base)
    assert gone_versions(f"{base}/") == []
    gfile.rmtree(f"{base}/2")
    gfile.remove(f"{base}/3/{MANIFEST}")
    assert gone_versions(base) == [2, 3]


def test_a_store_that_refuses_is_told_where_versions_are_looked_for(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: str) -> None:
        raise tf.errors.PermissionDeniedError(None, None, "who are you?")

    monkeypatch.setattr(module, "_children", refuse)
    with pytest.raises(BadInputError, match=rf"^the models were not found at {base} \(who are you\?\)"):
        gone_versions(base)


def test_a_directory_has_a_ledger(tmp_path: Path, make_model: Callable[[str], Path]) -> None:
    push(make_model("a"), str(tmp_path / "base"))
    assert gone_versions(str(tmp_path / "base")) == []


def test_the_graph_tells_the_pusher_which_versions_are_gone(tmp_path: Path, make_model: Callable[[str], Path]) -> None:
    """Else the node would be answered from the cache with a directory that is no longer there."""
    place = open_workspace(tmp_path / "workspace")
    for weights in "ab":
        push(make_model(weights), str(place.model_base("ag_news")))
    shutil.rmtree(place.model_base("ag_news") / "1")
    graph = create_pipeline(make_config("sample"), find_source(SAMPLE_DIR), place, {}, RegistryState("", ""))
    (pusher,) = (node for node in graph.components if node.id == "Pusher")
    assert json.loads(pusher.exec_properties["removed"]) == [1]
