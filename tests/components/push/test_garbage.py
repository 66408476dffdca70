"""Which versions may go, and how they go."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.errors import BadInputError
from components.file_names import LEASES
from components.files import size_of
from components.push import garbage
from components.push.aliases import ALIASES_FILE
from components.push.garbage import GARBAGE, discard, kept_versions, read_leases
from components.push.manifest import MANIFEST

OLD_WORKSPACE = Path(__file__).parents[2] / "golden" / "old_workspace" / "2026-11-tfx-1.16.tar.xz"
HERE = socket.gethostname()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model base with six versions."""
    place = tmp_path / "serving" / "ag_news"
    for version in range(1, 7):
        (place / str(version)).mkdir(parents=True)
        (place / str(version) / MANIFEST).write_text('{"files": {}}')
    return place


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def zombie_pid() -> Iterator[int]:
    """The id of a process that has ended and that nobody has asked about yet."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def lease(base: Path, holder: str, versions: Any, at: Any = NOW) -> Path:
    path = base / LEASES / f"{holder}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"versions": versions, "at": at.isoformat() if isinstance(at, datetime) else at}))
    return path


def loaded(base: Path) -> set[int]:
    return {version for item in read_leases(base, now=NOW) for version in item.versions}


@pytest.mark.parametrize(("keep", "kept"), [(1, [6]), (2, [5, 6]), (6, list(range(1, 7))), (99, list(range(1, 7)))])
def test_the_newest_stay(base: Path, keep: int, kept: list[int]) -> None:
    assert list(kept_versions(base, keep, [])) == kept


def test_newest_is_by_number_and_not_by_letter(base: Path) -> None:
    for version in (10, 9):
        shutil.copytree(base / "1", base / str(version))
    assert list(kept_versions(base, 2, [])) == [9, 10]


@pytest.mark.parametrize("keep", [0, -1])
def test_to_keep_nothing_is_refused(base: Path, keep: int) -> None:
    with pytest.raises(ValueError, match="keep at least 1"):
        kept_versions(base, keep, [])


def test_versions_with_an_alias_stay(base: Path) -> None:
    (base / ALIASES_FILE).write_text('{"champion": 2, "previous": 1, "challenger": 4, "other": 77}')
    assert kept_versions(base, 1, []) == {1: "previous", 2: "champion", 4: "challenger", 6: "among the newest 1"}


def test_an_alias_on_one_of_the_newest_is_told_too(base: Path) -> None:
    (base / ALIASES_FILE).write_text('{"champion": 6}')
    assert kept_versions(base, 1, []) == {6: "among the newest 1, champion"}


def test_damaged_aliases_delete_nothing(base: Path) -> None:
    (base / ALIASES_FILE).write_text('{"champion": ')
    with pytest.raises(BadInputError, match=r"aliases\.json"):
        kept_versions(base, 1, [])


def test_what_a_living_process_has_loaded_stays(base: Path) -> None:
    lease(base, f"{HERE}-{os.getpid()}", [2, 3, 77], at=NOW - timedelta(days=400))
    kept = kept_versions(base, 1, read_leases(base, now=NOW))
    assert list(kept) == [2, 3, 6]
    assert kept[3] == f"loaded by process {os.getpid()}"


def test_what_a_dead_process_had_loaded_does_not(base: Path, dead_pid: int) -> None:
    path = lease(base, f"{HERE}-{dead_pid}", [2])
    (found,) = read_leases(base, now=NOW)
    assert (found.path, found.versions, found.counts) == (path, (), False)


def test_a_process_that_nobody_has_buried_is_dead(base: Path, zombie_pid: int) -> None:
    lease(base, f"{HERE}-{zombie_pid}", [2])
    assert loaded(base) == set()


def test_the_lease_of_a_dead_process_need_not_be_understood(base: Path, dead_pid: int) -> None:
    lease(base, f"{HERE}-{dead_pid}", []).write_text("{half")
    assert [item.counts for item in read_leases(base)] == [False]


@pytest.mark.parametrize(("hours", "counts"), [(-1, True), (0, True), (23.9, True), (24.1, False), (9_000, False)])
def test_the_lease_of_another_host_counts_for_a_day(base: Path, dead_pid: int, hours: float, counts: bool) -> None:
    lease(base, f"node-7.cluster-{dead_pid}", [2], at=NOW - timedelta(hours=hours))
    (found,) = read_leases(base, now=NOW)
    assert (found.counts, found.versions) == (counts, (2,) if counts else ())
    assert found.holder == f"process {dead_pid} on node-7.cluster"


@pytest.mark.parametrize(("at", "held"), [("2026-02-28T21:30:00+09:00", {2}), ("2026-02-28T20:30:00+09:00", set())])
def test_the_zone_of_a_lease_is_minded(base: Path, at: str, held: set[int]) -> None:
    """Noon in UTC is nine in the evening there."""
    lease(base, "other-7", [2], at=at)
    assert loaded(base) == held


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{half",
        "[]",
        "{}",
        '{"versions": [1]}',
        '{"versions": 1, "at": "2026-03-01T12:00:00+00:00"}',
        '{"versions": ["1"], "at": "2026-03-01T12:00:00+00:00"}',
        '{"versions": [true], "at": "2026-03-01T12:00:00+00:00"}',
        '{"versions": [1], "at": "yesterday"}',
        '{"versions": [1], "at": 7}',
        '{"versions": [1], "at": "2026-03-01T12:00:00"}',
    ],
)
def test_a_lease_that_counts_and_is_not_understood_stops_everything(base: Path, text: str) -> None:
    path = lease(base, f"{HERE}-{os.getpid()}", [])
    path.write_text(text)
    with pytest.raises(BadInputError, match="does not say which versions a server holds; stop that server") as caught:
        read_leases(base, now=NOW)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["nobody", "host-x", "host-0", "-7", "host-7.txt"])
def test_a_lease_of_nobody_stops_everything(base: Path, name: str) -> None:
    lease(base, name, [2])
    with pytest.raises(BadInputError, match="does not say"):
        read_leases(base)


def test_a_lease_that_is_being_written_is_none_yet(base: Path) -> None:
    lease(base, ".tmp-host-7", []).write_text("{half")
    assert read_leases(base) == []


def test_a_base_without_leases_has_none(tmp_path: Path) -> None:
    assert read_leases(tmp_path) == []
    assert kept_versions(tmp_path / "nowhere", 1, []) == {}


def test_what_was_not_pushed_is_not_ours(base: Path, tmp_path: Path) -> None:
    (base / "1" / MANIFEST).unlink()
    (base / "2").rename(tmp_path / "elsewhere")
    (base / "2").symlink_to(tmp_path / "elsewhere")
    kept = kept_versions(base, 1, [])
    assert kept == {1: "put there by hand", 2: "a link", 6: "among the newest 1"}


def test_a_directory_goes_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "variables" / "file").touch()
    discard(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_a_link_goes_and_what_it_leads_to_does_not(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "2").symlink_to(tmp_path / "precious")
    assert size_of(tmp_path / "1") < 1000
    discard(tmp_path / "1")
    discard(tmp_path / "2")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious" / "file").exists()


def test_a_deletion_that_is_stopped_leaves_nothing_half_deleted_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "a").touch()

    def stop(path: Path) -> None:
        (Path(path) / "a").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        discard(tmp_path / "1")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(GARBAGE)


def test_the_size_is_of_all_files_and_of_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "large").write_bytes(b"x" * 10_000)
    (tmp_path / "a" / "one").write_bytes(b"x" * 700)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 70)
    assert size_of(tmp_path / "a") == 770
    assert size_of(tmp_path / "large") == 10_000
    (tmp_path / "a" / "link").symlink_to(tmp_path / "large")
    assert 770 < size_of(tmp_path / "a") < 2_000


def test_a_version_whose_vocabulary_another_one_reads_stays_with_it(tmp_path: Path) -> None:
    """As an earlier newsdesk exported what was trained further: version 2 of the kept workspace reads version 1's."""
    with tarfile.open(OLD_WORKSPACE) as archive:
        archive.extractall(tmp_path, filter="data")
    (base,) = tmp_path.glob("*/serving/ag_news")
    (base / "aliases.json").write_text(json.dumps({"champion": 2}))
    assert kept_versions(base, 1, []) == {1: "version 2 reads its vocabulary", 2: "champion", 3: "among the newest 1"}
    (base / "aliases.json").write_text(json.dumps({"champion": 3}))
    assert kept_versions(base, 1, []) == {3: "among the newest 1, champion"}


def test_so_does_the_version_whose_vocabulary_that_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 2, 3):
        (tmp_path / str(version)).mkdir()
        (tmp_path / str(version) / MANIFEST).touch()
    monkeypatch.setattr(garbage, "_vocabularies_read", lambda base, version: {version - 1})
    kept = kept_versions(tmp_path, 1, [])
    assert kept == {1: "version 2 reads its vocabulary", 2: "version 3 reads its vocabulary", 3: "among the newest 1"}


def test_the_name_of_a_table_reads_nothing(base: Path) -> None:
    """A graph that carries its own vocabulary still has the path of the first in the name of its table."""
    (base / "6" / "saved_model.pb").write_bytes(b"hash_table_/w/serving/ag_news/1/assets/vocabulary_-2_-1")
    assert list(kept_versions(base, 1, [])) == [6]
