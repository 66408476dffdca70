"""A push is all or nothing, and a version number is given out once."""

import ctypes
import errno
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from memory_registry import MemoryRegistry
from tfx.types import standard_artifacts

from components.artifacts import ModelCard, Registration, Verdict
from components.errors import BadInputError, GateRejectedError
from components.file_names import CARD_FILE, REGISTRATION_FILE
from components.gates.gate import Gate
from components.gates.table import GATES
from components.gates.verdict import Check, write_verdict
from components.outcomes import Standing
from components.push import model_base
from components.push.local import push_model
from components.push.manifest import MANIFEST, read_manifest, verify
from components.push.model_base import (
    ALIASES_LOCK,
    LEDGER,
    LOCK,
    MOST_VERSIONS,
    given_versions,
    locked,
    present_versions,
    removed_versions,
)
from components.pusher import Executor, PusherSpec
from components.records import RegistrationRecord
from components.registry.registry import CHAMPION, SERVING_VERSION

SECONDS = 60
FORK = multiprocessing.get_context("fork")
MODEL_FILES = 4
KIB = 2**10


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
    copyfile, rename = shutil.copyfile, os.rename

    def copy(*args: Any, **options: Any) -> None:
        copyfile(*args, **options)
        seen.append(present_versions(base))

    def move(source: Path, target: Path) -> None:
        assert read_manifest(Path(source))["version"] == 1
        seen.append(present_versions(base))
        rename(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy)
    monkeypatch.setattr(os, "rename", move)
    push_model(make_model("w"), base)
    assert len(seen) == MODEL_FILES + 1
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


def half_copy(source: Path, target: Path, **_: Any) -> None:
    target.write_bytes(source.read_bytes()[:1])
    no_space()


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [(shutil, "copyfile", half_copy), (os, "fsync", no_space), (os, "replace", no_space), (os, "rename", no_space)],
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
        with pytest.raises(BadInputError, match="No space left") as caught:
            push_model(make_model("new"), base)
    assert isinstance(caught.value.__cause__, OSError)
    assert re.fullmatch(
        rf"the model was not pushed to {re.escape(str(base))} \(No space left on device\): "
        "free some space there and run again; older versions are untouched",
        str(caught.value),
    )
    assert present_versions(base) == [1]
    assert contents(base / "1") == before
    assert leftovers(base) == []
    pushed = push_model(make_model("new"), base)
    assert present_versions(base) == [1, pushed.version]
    assert {key: value for key, value in contents(pushed.path).items() if key != MANIFEST} == contents(
        make_model("new")
    )


def test_what_cannot_be_removed_after_a_fault_is_removed_by_the_next_push(
    make_model: Callable[[str], Path], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", no_space)
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(BadInputError, match="No space left"):
            push_model(make_model("w"), base)
    assert len(leftovers(base)) == 1
    pushed = push_model(make_model("w"), base)
    assert present_versions(base) == [pushed.version]
    assert leftovers(base) == []


def limit_file_size() -> None:
    """Lets this process write no file above 64 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KIB, resource.RLIM_INFINITY))


def lift_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class SmallDisk:
    """A file system of 128 KiB over a directory, in this process's own namespace: it goes with the process."""

    NEW_NAMESPACE, NEW_USER, REMOUNT, PRIVATE = 0x00020000, 0x10000000, 0x20, 0x4000 | 0x40000

    def __init__(self, place: Path):
        self._place = place
        self._libc = ctypes.CDLL(None, use_errno=True)

    def mount(self) -> bool:
        """Returns whether that is allowed here."""
        user = os.getuid()
        if self._libc.unshare(self.NEW_NAMESPACE) != 0:
            if self._libc.unshare(self.NEW_NAMESPACE | self.NEW_USER) != 0:
                return False
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        private = self._libc.mount(None, b"/", None, self.PRIVATE, None) == 0
        return private and self._mount(0, "128k")

    def grow(self) -> None:
        assert self._mount(self.REMOUNT, "4m")

    def _mount(self, flags: int, size: str) -> bool:
        return self._libc.mount(b"tmpfs", os.fsencode(self._place), b"tmpfs", flags, f"size={size}".encode()) == 0


def push_where_it_is_full(disk: str, small: Path, large: Path, serving: Path, answer: Connection) -> None:
    """Pushes a model that fits, one that does not, and that one again when there is room; tells what it saw."""
    base = serving / "ag_news"
    small_disk = SmallDisk(serving)
    full = disk == "tmpfs" and small_disk.mount()
    push_model(small, base)
    before = contents(base / "1")
    if not full:
        limit_file_size()
    try:
        push_model(large, base)
        message = "pushed"
    except BadInputError as error:
        message = str(error)
    seen = {"versions": present_versions(base), "left": leftovers(base), "same": contents(base / "1") == before}
    small_disk.grow() if full else lift_file_size()
    again = push_model(large, base)
    verify(again.path)
    answer.send({"full": full, "message": message, **seen, "after": present_versions(base), "again": again.version})


@pytest.mark.parametrize("disk", ["limit", "tmpfs"])
def test_a_disk_that_is_really_full_leaves_no_version(
    make_model: Callable[[str], Path], tmp_path: Path, disk: str
) -> None:
    """Where no file system may be mounted, ``tmpfs`` too falls back to a limit of file sizes."""
    large = make_model("large")
    (large / "variables" / "variables.data-00000-of-00001").write_bytes(os.urandom(300 * KIB))
    serving = tmp_path / "small"
    serving.mkdir()
    here, there = FORK.Pipe(duplex=False)
    child = FORK.Process(target=push_where_it_is_full, args=(disk, make_model("small"), large, serving, there))
    child.start()
    there.close()
    try:
        assert here.poll(SECONDS)
        seen = here.recv()
    finally:
        child.kill()
        child.join()
    why, remedy = (
        ("No space left on device", "free some space there")
        if seen["full"]
        else ("File too large", "raise the limit of a file's size")
    )
    assert why in seen["message"]
    assert remedy in seen["message"]
    assert (seen["versions"], seen["left"], seen["same"]) == ([1], [], True)
    assert seen["after"] == [1, seen["again"]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_base_that_may_not_be_written_is_one_sentence(make_model: Callable[[str], Path], base: Path) -> None:
    base.parent.mkdir(parents=True)
    base.parent.chmod(0o500)
    with pytest.raises(BadInputError, match=r"Permission denied of .+: see that it can be read and written"):
        push_model(make_model("w"), base)


def test_a_file_in_the_place_of_the_base_is_one_sentence(make_model: Callable[[str], Path], base: Path) -> None:
    base.parent.mkdir(parents=True)
    base.write_text("mine")
    with pytest.raises(BadInputError, match=r"was not pushed to .+ \(File exists"):
        push_model(make_model("w"), base)
    assert base.read_text() == "mine"


def test_an_error_behind_the_rename_does_not_deny_the_version(
    make_model: Callable[[str], Path], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def flush(handle: int) -> None:
        if present_versions(base):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", flush)
        with pytest.raises(BadInputError, match=r"version 1 is in .+ may still lose it"):
            push_model(make_model("w"), base)
    assert push_model(make_model("w"), base).new is False


def test_another_push_that_does_not_end_is_told(
    make_model: Callable[[str], Path], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.mkdir(parents=True)
    monkeypatch.setattr("components.push.model_base._LOCK_SECONDS", 0.1)
    with locked(base), pytest.raises(BadInputError, match="another process has been at work"):
        push_model(make_model("w"), base)
    assert (base / LOCK).exists()
    assert push_model(make_model("w"), base).version == 1


def run_processes(target: Callable[[int], None], count: int = 2) -> list[int | None]:
    """Runs a function in processes at once; returns their exit codes."""
    processes = [FORK.Process(target=target, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def push_and_stop_before_the_rename(model: Path, base: Path, ready: Connection) -> None:
    def stop(*_: Any) -> None:
        ready.send("copied")
        time.sleep(SECONDS)

    os.rename = stop  # type: ignore[assignment]
    push_model(model, base)


def test_a_push_that_is_killed_before_the_rename_leaves_no_version(
    make_model: Callable[[str], Path], base: Path
) -> None:
    push_model(make_model("old"), base)
    before = contents(base / "1")
    here, there = FORK.Pipe(duplex=False)
    child = FORK.Process(target=push_and_stop_before_the_rename, args=(make_model("new"), base, there))
    child.start()
    there.close()
    assert here.poll(SECONDS)
    assert here.recv() == "copied"
    os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert present_versions(base) == [1]
    assert len(leftovers(base)) == 1
    assert contents(base / "1") == before
    pushed = push_model(make_model("new"), base)
    assert pushed.version == 3, "the number of the killed push is not used again"
    assert present_versions(base) == [1, 3]
    assert removed_versions(base) == [2]
    assert leftovers(base) == []


def push_and_die(model: Path, base: Path, at: int) -> None:
    """Pushes, and kills itself before the step of that number: every copy, flush and rename is one."""
    count = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return do

    for module, name in ((shutil, "copyfile"), (os, "fsync"), (os, "replace"), (os, "rename")):
        setattr(module, name, counted(getattr(module, name)))
    push_model(model, base)
    os._exit(0)


def test_every_version_is_whole_wherever_a_push_is_killed(make_model: Callable[[str], Path], base: Path) -> None:
    seen: dict[int, str] = {}
    codes: list[int | None] = []
    while 0 not in codes:
        child = FORK.Process(target=push_and_die, args=(make_model(f"w{len(codes)}"), base, len(codes) + 1))
        child.start()
        child.join(SECONDS)
        codes.append(child.exitcode)
        for version in present_versions(base):
            verify(base / str(version))
            digest = read_manifest(base / str(version))["digest"]
            assert seen.setdefault(version, digest) == digest, "a number was used twice"
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    # Four files copied, eight places flushed and the ledger, two renames, and the base flushed.
    assert len(codes) - 1 == MODEL_FILES + 8 + 1 + 2 + 1
    # Killed at the last step, the version was there already.
    assert len(seen) == 2
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
    ready = FORK.Barrier(2)
    copyfile = shutil.copyfile

    def slow_copy(*args: Any, **options: Any) -> None:
        time.sleep(0.05)
        copyfile(*args, **options)

    def start(number: int) -> None:
        ready.wait(SECONDS)
        push_model(models[number], base)

    monkeypatch.setattr(shutil, "copyfile", slow_copy)
    assert run_processes(start) == [0, 0]
    assert present_versions(base) == given_versions(base) == versions
    held = [contents(base / str(version)) for version in versions]
    assert {files["variables/variables.data-00000-of-00001"].decode() for files in held} == set(weights)
    assert leftovers(base) == []


@pytest.mark.parametrize("change", ["content", "more", "less", "link", "copy"])
def test_a_model_that_changes_while_it_is_copied_is_not_pushed(
    make_model: Callable[[str], Path], base: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    model = make_model("w")
    later = model / "variables" / "variables.index"
    copyfile = shutil.copyfile

    def copy(source: Path, target: Path, **options: Any) -> None:
        copyfile(source, target, **options)
        if source.name != "saved_model.pb":
            return
        if change == "content":
            later.write_text("other")
        elif change == "more":
            (later.parent / "variables.more").write_text("more")
        elif change == "less":
            later.unlink()
        elif change == "link":
            later.unlink()
            later.symlink_to(model / "saved_model.pb")
        else:
            target.write_text("what the disk made of it")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy)
        with pytest.raises(BadInputError, match=r"changed while it was copied|holds variables/variables\.index, which"):
            push_model(model, base)
    assert present_versions(base) == given_versions(base) == []
    assert leftovers(base) == []


def link_to_a_file(model: Path) -> None:
    (model / "assets.extra" / "more.txt").symlink_to(model / "saved_model.pb")


def link_to_a_directory(model: Path) -> None:
    (model / "more").symlink_to(model / "variables")


def link_to_nothing(model: Path) -> None:
    (model / "more").symlink_to("nowhere")


def pipe(model: Path) -> None:
    os.mkfifo(model / "variables" / "more")


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (link_to_a_file, "assets.extra/more.txt"),
        (link_to_a_directory, "more"),
        (link_to_nothing, "more"),
        (pipe, "variables/more"),
    ],
)
def test_links_and_pipes_are_refused_by_name(
    make_model: Callable[[str], Path], base: Path, plant: Callable[[Path], None], name: str
) -> None:
    model = make_model("w")
    plant(model)
    with pytest.raises(BadInputError, match=f"holds {name}, which is no plain file: put the file itself there"):
        push_model(model, base)
    assert present_versions(base) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_directory_that_may_not_be_read_is_not_passed_over(make_model: Callable[[str], Path], base: Path) -> None:
    model = make_model("w")
    (model / "variables").chmod(0)
    try:
        with pytest.raises(BadInputError, match="Permission denied"):
            push_model(model, base)
    finally:
        (model / "variables").chmod(0o700)


def test_a_model_that_is_not_there_or_empty_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no model at"):
        push_model(tmp_path / "nowhere", base)
    (tmp_path / "empty" / "variables").mkdir(parents=True)
    with pytest.raises(BadInputError, match="holds no files"):
        push_model(tmp_path / "empty", base)
    assert present_versions(base) == []


def test_an_empty_directory_of_a_model_is_pushed_too(make_model: Callable[[str], Path], base: Path) -> None:
    model = make_model("w")
    (model / "assets").mkdir()
    assert (push_model(model, base).path / "assets").is_dir()


def test_another_user_can_read_every_file_whatever_the_umask(make_model: Callable[[str], Path], base: Path) -> None:
    model = make_model("w")
    (model / "saved_model.pb").chmod(0o600)
    (model / "variables").chmod(0o700)
    before = os.umask(0o077)
    try:
        pushed = push_model(model, base, {"MODEL_CARD.md": "card"})
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [base, pushed.path, *pushed.path.rglob("*")]}
    assert {path for path, mode in modes.items() if path.is_dir() and mode != 0o755} == set()
    assert {path for path, mode in modes.items() if path.is_file() and mode != 0o644} == set()
    assert len(modes) == 10


def test_the_mode_of_a_base_that_was_there_is_its_owners(make_model: Callable[[str], Path], base: Path) -> None:
    base.mkdir(parents=True)
    base.chmod(0o750)
    push_model(make_model("w"), base)
    assert stat.S_IMODE(base.stat().st_mode) == 0o750


def test_texts_beside_the_model_are_listed_and_make_no_other_model(
    make_model: Callable[[str], Path], base: Path
) -> None:
    model = make_model("w")
    pushed = push_model(model, base, {"MODEL_CARD.md": "# Größe\n"})
    manifest = read_manifest(pushed.path)
    assert (pushed.path / "MODEL_CARD.md").read_text(encoding="utf-8") == "# Größe\n"
    assert manifest["files"]["MODEL_CARD.md"] == hashlib.sha256("# Größe\n".encode()).hexdigest()
    assert manifest["extra"] == ["MODEL_CARD.md"]
    assert len(manifest["files"]) == MODEL_FILES + 1
    verify(pushed.path)
    again = push_model(model, base, {"MODEL_CARD.md": "another card"})
    assert (again.version, again.digest, again.new) == (1, pushed.digest, False)
    assert pushed.digest == push_model(model, base.parent / "other").digest


@pytest.mark.parametrize("name", ["", ".", "..", "../card", "a/card", "/card", ".tmp-card", MANIFEST])
def test_a_name_beside_the_model_that_is_more_than_a_name_is_refused(
    make_model: Callable[[str], Path], base: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="no name for a file"):
        push_model(make_model("w"), base, {name: "card"})
    assert present_versions(base) == []


@pytest.mark.parametrize("name", [MANIFEST, "MODEL_CARD.md"])
def test_a_model_with_a_name_that_is_needed_is_refused(
    make_model: Callable[[str], Path], base: Path, name: str
) -> None:
    model = make_model("w")
    (model / name).write_text("the model's own")
    with pytest.raises(BadInputError, match=f"holds a file {name}"):
        push_model(model, base, {"MODEL_CARD.md": "card"})
    assert present_versions(base) == []


def test_a_damaged_version_does_not_answer_for_its_model(make_model: Callable[[str], Path], base: Path) -> None:
    first = push_model(make_model("w"), base)
    (first.path / "variables" / "variables.index").write_text("rot")
    again = push_model(make_model("w"), base)
    assert (again.version, again.new) == (2, True)
    (again.path / MANIFEST).write_text("{half")
    assert push_model(make_model("w"), base).version == 3


def test_a_version_as_it_was_pushed_is_verified(make_model: Callable[[str], Path], base: Path) -> None:
    verify(push_model(make_model("w"), base).path)


def change_two(place: Path) -> None:
    (place / "saved_model.pb").unlink()
    (place / "assets.extra" / "classes.txt").write_text("World")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda place: (place / "saved_model.pb").write_text("graqh"), "(saved_model.pb has changed)"),
        (lambda place: (place / "variables/variables.index").unlink(), "(variables/variables.index is missing)"),
        (lambda place: (place / "assets.extra/new.txt").touch(), f"(assets.extra/new.txt is not in {MANIFEST})"),
        (lambda place: (place / MANIFEST).unlink(), f"({MANIFEST} is missing)"),
        (lambda place: (place / MANIFEST).write_text("[]"), f"{MANIFEST} is damaged"),
        (lambda place: (place / MANIFEST).write_bytes(b"\xff"), f"{MANIFEST} is damaged"),
        (lambda place: (place / "link").symlink_to("saved_model.pb"), "holds link, which is no plain file"),
        (change_two, "(assets.extra/classes.txt has changed)"),
    ],
    ids=["changed", "missing", "more", "no manifest", "other manifest", "bytes", "link", "first of two"],
)
def test_a_change_is_found_and_named(
    make_model: Callable[[str], Path], base: Path, change: Callable[[Path], None], told: str
) -> None:
    place = push_model(make_model("w"), base).path
    change(place)
    with pytest.raises(BadInputError) as caught:
        verify(place)
    assert str(place) in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["{half", "[]", "{}", '{"given": 3}', '{"given": ["1"]}', '{"given": [-1]}', ""])
def test_a_damaged_ledger_stops_a_push(make_model: Callable[[str], Path], base: Path, text: str) -> None:
    base.mkdir(parents=True)
    (base / LEDGER).write_text(text)
    with pytest.raises(BadInputError, match=r"versions\.json is damaged: write into it the numbers ever used"):
        push_model(make_model("w"), base)
    assert (base / LEDGER).read_text() == text


def test_a_lost_ledger_is_written_anew_from_what_stands_there(make_model: Callable[[str], Path], base: Path) -> None:
    for weights in ("a", "b"):
        push_model(make_model(weights), base)
    (base / LEDGER).unlink()
    assert push_model(make_model("c"), base).version == 3
    assert given_versions(base) == [1, 2, 3]


@pytest.mark.parametrize(("name", "version"), [("007", 8), ("12", 13), (str(2**63), 1), ("٣", 1)])
def test_a_number_that_stands_there_in_any_spelling_is_taken(
    make_model: Callable[[str], Path], base: Path, name: str, version: int
) -> None:
    (base / name).mkdir(parents=True)
    assert push_model(make_model("w"), base).version == version


def test_a_file_in_the_place_of_a_version_is_passed_over_and_kept(
    make_model: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    base.mkdir(parents=True)
    (base / "1").write_text("mine")
    (base / "2").symlink_to(tmp_path / "nowhere")
    assert push_model(make_model("w"), base).version == 3
    assert (base / "1").read_text() == "mine"


def test_there_is_a_last_version(make_model: Callable[[str], Path], base: Path) -> None:
    (base / str(MOST_VERSIONS)).mkdir(parents=True)
    with pytest.raises(BadInputError, match="the last there is"):
        push_model(make_model("w"), base)


def test_a_leftover_that_is_a_link_is_removed_and_what_it_leads_to_is_not(
    make_model: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    base.mkdir(parents=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (base / ".tmp-1-0123").symlink_to(tmp_path / "precious")
    push_model(make_model("w"), base)
    assert leftovers(base) == []
    assert (tmp_path / "precious" / "file").exists()


@pytest.fixture
def push_node(
    make_model: Callable[[str], Path], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs the node as the launcher does; returns its output. The keywords are what is known of the candidate."""

    registry = MemoryRegistry()
    registry.held = {"4": {SERVING_VERSION: "2"}, "5": {}}
    monkeypatch.setattr("components.pusher.Registry", lambda *_: registry)

    def run(rejected_by: str = "", champion: str | None = None, since: str | None = None, **known: Any) -> Any:
        registry.pointed = {CHAMPION: since} if since else {}
        model, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
        registration, card = Registration(), ModelCard()
        for artifact, name in ((model, "trained"), (registration, "registration"), (card, "card")):
            artifact.uri = str(tmp_path / name)
        shutil.copytree(make_model("w"), tmp_path / "trained" / "Format-Serving", dirs_exist_ok=True)
        (tmp_path / "registration").mkdir(exist_ok=True)
        record = RegistrationRecord("5", "0123", "digest", **{"status": "pending", "serving_version": None} | known)
        (tmp_path / "registration" / REGISTRATION_FILE).write_text(json.dumps(asdict(record)))
        (tmp_path / "card").mkdir(exist_ok=True)
        (tmp_path / "card" / CARD_FILE).write_text("# Größe\n", encoding="utf-8")
        inputs = {"model": [model], "registration": [registration], "card": [card]}
        for gate in GATES:
            verdict = Verdict()
            verdict.uri = str(tmp_path / gate.verdict_input)
            write_verdict(verdict.uri, gate.name, [Check("seen", "fail", gate.name != rejected_by, "bad")])
            inputs[gate.verdict_input] = [verdict]
        assert set(inputs) == set(PusherSpec.INPUTS)
        properties = {"base": str(base), "removed": "[]", "name": "ag_news", "store": "sqlite://", "code_digest": "x"}
        properties["registry"] = json.dumps({CHAMPION: champion})
        Executor().Do(inputs, {"pushed_model": [pushed]}, properties)
        return pushed

    return run


def test_the_node_says_where_the_model_went(
    push_node: Callable[..., Any], make_model: Callable[[str], Path], base: Path
) -> None:
    for _ in range(2):
        pushed = push_node()
        assert pushed.get_string_custom_property("pushed_destination") == str(base / "1")
        assert pushed.get_string_custom_property("pushed_version") == "1"
        assert pushed.get_int_custom_property("pushed") == 1
    assert contents(base / "1").keys() == {*contents(make_model("w")), MANIFEST, CARD_FILE}
    assert (base / "1" / CARD_FILE).read_text(encoding="utf-8") == "# Größe\n"
    assert present_versions(base) == [1]


def test_the_node_does_not_push_what_was_rolled_back(push_node: Callable[..., Any], base: Path) -> None:
    with pytest.raises(GateRejectedError, match="version 3, which was rolled back: newsdesk models promote 3"):
        push_node(status=Standing.ROLLED_BACK, serving_version="3")
    assert present_versions(base) == []


@pytest.mark.parametrize(("champion", "since"), [(None, "4"), ("4", None), ("3", "4")])
def test_the_node_does_not_push_what_was_compared_with_another_champion(
    push_node: Callable[..., Any], base: Path, champion: str | None, since: str | None
) -> None:
    with pytest.raises(
        GateRejectedError, match=r"was (none|version 2) when this run began and is (none|version 2) now"
    ):
        push_node(champion=champion, since=since)
    assert present_versions(base) == []


@pytest.mark.parametrize(("champion", "since"), [("4", "4"), ("4", "5"), (None, "5")])
def test_the_node_pushes_where_the_champion_stands_or_is_the_candidate(
    push_node: Callable[..., Any], base: Path, champion: str | None, since: str
) -> None:
    push_node(champion=champion, since=since)
    assert present_versions(base) == [1]


def test_the_node_waits_for_a_move_of_the_aliases(
    push_node: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.mkdir(parents=True)
    monkeypatch.setattr(model_base, "_LOCK_SECONDS", 0.1)
    with locked(base, ALIASES_LOCK), pytest.raises(BadInputError, match="another process has been at work"):
        push_node()
    assert present_versions(base) == []


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_the_node_does_not_push_what_any_gate_rejected(push_node: Callable[..., Any], base: Path, gate: Gate) -> None:
    """The launcher stops such a run; this is for an orchestrator that goes on behind a failed step."""
    with pytest.raises(GateRejectedError, match=f"{gate.name}: bad"):
        push_node(rejected_by=gate.name)
    assert present_versions(base) == []
