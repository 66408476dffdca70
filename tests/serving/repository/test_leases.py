"""What a server says it holds, as those who delete versions read it."""

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.push.garbage import FOREIGN_LEASE_HOURS, kept_versions, read_leases
from components.push.manifest import MANIFEST
from serving.repository.leases import Leases

NAME = f"{socket.gethostname()}-{os.getpid()}.json"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base of three pushed versions."""
    for number in (1, 2, 3):
        (tmp_path / "ag_news" / str(number)).mkdir(parents=True)
        (tmp_path / "ag_news" / str(number) / MANIFEST).touch()
    return tmp_path / "ag_news"


def held(base: Path) -> list[tuple[int, ...]]:
    """Returns what leases say that count."""
    return [lease.versions for lease in read_leases(base) if lease.counts]


def test_a_lease_keeps_its_versions(base: Path, clock: Clock) -> None:
    leases = Leases(clock)
    leases.hold(base, {2, 1})
    (lease,) = read_leases(base)
    assert (lease.path.name, lease.counts, lease.versions) == (NAME, True, (1, 2))
    kept = kept_versions(base, 1, [lease])
    assert kept == {
        1: f"loaded by process {os.getpid()}",
        2: f"loaded by process {os.getpid()}",
        3: "among the newest 1",
    }


def test_a_lease_follows_what_is_held(base: Path, clock: Clock) -> None:
    leases = Leases(clock)
    for versions in ({1}, {1, 2}, {2}, {3}):
        leases.hold(base, versions)
        assert held(base) == [tuple(sorted(versions))]
    assert [path.name for path in (base / ".loaded").iterdir()] == [NAME]


def test_holding_nothing_is_no_lease(base: Path, clock: Clock) -> None:
    leases = Leases(clock)
    leases.hold(base, set())
    assert not (base / ".loaded").exists()
    leases.hold(base, {1})
    leases.hold(base, set())
    assert read_leases(base) == []


def test_the_time_has_a_zone_and_is_now(base: Path, clock: Clock) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    Leases(clock).hold(base, {1})
    at = datetime.fromisoformat(json.loads((base / ".loaded" / NAME).read_text())["at"])
    assert at.utcoffset() is not None
    assert before <= at <= datetime.now(UTC)


def written(base: Path) -> int:
    return (base / ".loaded" / NAME).stat().st_ino


def test_a_lease_is_renewed_well_within_its_day_and_not_at_every_look(base: Path, clock: Clock) -> None:
    leases = Leases(clock)
    leases.hold(base, {1})
    (base / ".loaded" / NAME).write_text("{}")
    for _ in range(3599):
        clock.now += 1
        leases.hold(base, {1})
    assert (base / ".loaded" / NAME).read_text() == "{}", "it is written at every look"
    clock.now += 1
    leases.hold(base, {1})
    assert held(base) == [(1,)]
    assert FOREIGN_LEASE_HOURS >= 2, "a lease of another host would run out between two renewals"


def test_a_lease_that_was_removed_is_written_again(base: Path, clock: Clock) -> None:
    leases = Leases(clock)
    leases.hold(base, {1})
    (base / ".loaded" / NAME).unlink()
    (base / ".loaded").rmdir()
    leases.hold(base, {1})
    assert held(base) == [(1,)]


def test_every_base_has_its_own(base: Path, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "other").mkdir()
    leases = Leases(clock)
    leases.hold(base, {1})
    leases.hold(tmp_path / "other", {7})
    assert (held(base), held(tmp_path / "other")) == ([(1,)], [(7,)])
    leases.release()
    assert (held(base), held(tmp_path / "other")) == ([], [])
    assert list((base / ".loaded").iterdir()) == []


def test_another_server_s_lease_is_left_alone(base: Path, clock: Clock) -> None:
    (base / ".loaded").mkdir()
    other = base / ".loaded" / "elsewhere-7.json"
    other.write_text(json.dumps({"versions": [3], "at": datetime.now(UTC).isoformat()}))
    leases = Leases(clock)
    leases.hold(base, {1})
    leases.release()
    assert held(base) == [(3,)]


def test_a_base_that_is_gone_is_not_made(tmp_path: Path, clock: Clock) -> None:
    leases = Leases(clock)
    with pytest.raises(FileNotFoundError):
        leases.hold(tmp_path / "gone", {1})
    assert not (tmp_path / "gone").exists()
    leases.release()


def refuse(error: OSError) -> Callable[..., None]:
    def raise_it(*_: object) -> None:
        raise error

    return raise_it


def test_a_lease_that_could_not_be_written_is_tried_again(
    base: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(clock)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            leases.hold(base, {1})
    assert list((base / ".loaded").iterdir()) == [], "half a lease is left"
    leases.hold(base, {1})
    assert held(base) == [(1,)]


def test_one_lease_that_cannot_be_removed_does_not_keep_the_others(base: Path, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "other").mkdir()
    leases = Leases(clock)
    leases.hold(base, {1})
    leases.hold(tmp_path / "other", {7})
    (base / ".loaded" / NAME).unlink()
    (base / ".loaded" / NAME).mkdir()
    with pytest.raises(OSError, match=NAME):
        leases.release()
    assert held(tmp_path / "other") == []
