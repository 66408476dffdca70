"""The schedule that is kept here: what is missed, waits, one run at a time, a clean stop, and a restart."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_server import wait_until

from components.errors import BadInputError
from pipeline.schedule import keeper
from pipeline.schedule.cron import Cron, ScheduleConfig
from pipeline.schedule.keeper import Clock, Keeper

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)
DAILY = "0 3 * * *"


class World:
    """Time that passes only while the keeper sleeps.

    Attributes:
        now: The time.
        nap: How much longer the next sleep takes, since the machine sleeps too.
        seconds: How long a run takes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: datetime = NOW):
        self.now, self.nap, self.seconds = now, timedelta(0), 0.0
        monkeypatch.setattr(keeper, "_now", lambda: self.now)
        monkeypatch.setattr(keeper, "time", self)
        monkeypatch.setattr(keeper, "_LOOK_SECONDS", 600)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds) + self.nap
        self.nap = timedelta(0)

    def keep(self, directory: Path, runs: int, **config: Any) -> list[datetime]:
        """Keeps a schedule until so many runs have been started, and returns when each was."""
        began: list[datetime] = []

        def start() -> Any:
            began.append(self.now)
            if len(began) == runs:
                kept.stop()
            end = self.now + timedelta(seconds=self.seconds)
            return SimpleNamespace(
                pid=1, returncode=0, poll=lambda: 0 if self.now >= end else None, send_signal=int, wait=self.sleep
            )

        kept = Keeper(ScheduleConfig(**config), directory, start)
        kept.keep()
        return began


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_nothing_is_missed_before_the_first_time_nor_between_two(tmp_path: Path, world: World) -> None:
    # A clock that was set back has missed nothing either.
    for last in (None, NOW - timedelta(hours=2), NOW + timedelta(days=3)):
        world.now = NOW
        if last:
            Clock(tmp_path).write(last)
        assert world.keep(tmp_path, runs=1, cron=DAILY) == [datetime(2026, 3, 11, 3, tzinfo=UTC)]


@pytest.mark.parametrize("days", [1, 2, 60])
@pytest.mark.parametrize("misfire", ["once", "skip"])
def test_however_much_was_missed_one_run_makes_up_for_it(
    days: int, misfire: str, tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    Clock(tmp_path).write(NOW - timedelta(days=days))
    began = world.keep(tmp_path, runs=2, cron=DAILY, misfire=misfire)
    ahead = [datetime(2026, 3, day, 3, tzinfo=UTC) for day in (11, 12)]
    assert began == ([NOW, ahead[0]] if misfire == "once" else ahead)
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert ("one run makes up" if misfire == "once" else "is skipped") in warning


@pytest.mark.parametrize("misfire", ["once", "skip"])
def test_a_machine_that_slept_runs_once_for_all_that_it_slept_through(
    misfire: str, tmp_path: Path, world: World
) -> None:
    Clock(tmp_path).write(NOW)
    world.nap = timedelta(hours=10.5)
    began = world.keep(tmp_path, runs=2, cron="0 * * * *", misfire=misfire)
    woke = NOW + timedelta(hours=10.5, minutes=10)
    hours = [NOW.replace(hour=hour) for hour in (17, 18)]
    assert began == ([woke, hours[0]] if misfire == "once" else hours)


@pytest.mark.parametrize("misfire", ["once", "skip"])
def test_a_busy_machine_may_be_a_little_late(misfire: str, tmp_path: Path, world: World) -> None:
    Clock(tmp_path).write(NOW - timedelta(hours=1))
    late = world.now = NOW + timedelta(seconds=59)
    assert world.keep(tmp_path, runs=1, cron="0 * * * *", misfire=misfire) == [late]


def test_what_comes_due_during_a_run_is_passed_over(tmp_path: Path, world: World) -> None:
    world.seconds = 2.5 * 3600
    began = world.keep(tmp_path, runs=3, cron="0 * * * *")
    assert began == [NOW + timedelta(hours=hour) for hour in (1, 4, 7)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3500), st.integers(1, 3500))
def test_each_instant_is_followed_by_one_run_after_its_wait(jitter: int, first: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        world = World(patch, NOW + timedelta(seconds=first))
        began = world.keep(Path(directory), runs=10, cron="0 * * * *", time_zone="Europe/Paris", jitter_seconds=jitter)
    waits = [time - (NOW + timedelta(hours=hour)) for hour, time in enumerate(began, start=1)]
    assert all(timedelta(0) <= wait <= timedelta(seconds=jitter) for wait in waits)
    assert len(set(waits)) == (10 if jitter else 1)


@pytest.mark.parametrize(
    ("day", "times"),
    [
        ("2027-03-27", ["2027-03-28T01:00", "2027-03-29T00:30"]),
        ("2027-10-30", ["2027-10-31T00:30", "2027-11-01T01:30"]),
    ],
)
def test_a_time_that_the_clock_skips_or_shows_twice_is_followed_by_one_run(
    day: str, times: list[str], tmp_path: Path, world: World
) -> None:
    world.now = datetime.fromisoformat(f"{day}T12:00+00:00")
    began = world.keep(tmp_path, runs=2, cron="30 2 * * *", time_zone="Europe/Paris")
    assert began == [datetime.fromisoformat(f"{time}+00:00") for time in times]


def test_a_run_that_ends_as_the_keeper_is_stopped_is_made_up_for(tmp_path: Path, world: World) -> None:
    # Ctrl-C reaches both, and the run may be the first to end.
    Clock(tmp_path).write(NOW)
    assert len(world.keep(tmp_path, runs=1, cron=DAILY)) == 1
    assert Clock(tmp_path).read() == NOW


def test_a_run_that_cannot_be_started_or_noted_does_not_end_the_schedule(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Clock(tmp_path).write(NOW)
    written: list[datetime] = []

    def write(self: Clock, moment: datetime) -> None:
        written.append(moment)
        if len(written) == 1:
            raise OSError("No space left on device")

    monkeypatch.setattr(Clock, "write", write)
    began = world.keep(tmp_path, runs=3, cron=DAILY)
    assert [time.day for time in began] == [11, 12, 13]
    assert len(written) == 2
    assert "No space left on device" in caplog.text


def test_the_state_survives_and_damage_is_told(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    assert clock.read() is None
    clock.write(NOW)
    assert Clock(tmp_path).read() == NOW
    (tmp_path / "schedule.json").write_text("{}")
    with pytest.raises(BadInputError, match="delete it"):
        clock.read()


class Every(Cron):
    """Every tenth of a second: an expression that a test can wait for."""

    def instants(self, moment: datetime) -> Any:
        while True:
            moment += timedelta(milliseconds=100)
            yield moment


class Kept:
    """A keeper on a thread, whose runs are processes that sleep and note when they began and ended."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, **config: Any):
        monkeypatch.setattr(keeper, "Cron", Every)
        monkeypatch.setattr(keeper, "_LOOK_SECONDS", 0.02)
        self.notes = directory / "notes"
        self.started: list[subprocess.Popen] = []
        code = (
            "import signal,sys,time\n"
            f"note=open({str(self.notes)!r},'a',buffering=1)\n"
            f"{'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if config.pop('stubborn', False) else ''}\n"
            f"note.write('begin\\n'); time.sleep({seconds}); note.write('end\\n')"
        )

        def start() -> subprocess.Popen:
            self.started.append(subprocess.Popen([sys.executable, "-c", code]))
            return self.started[-1]

        self.keeper = Keeper(ScheduleConfig(cron="* * * * *", **config), directory, start)
        self.thread = threading.Thread(target=self.keeper.keep, daemon=True)

    def lines(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []

    def wait_for(self, count: int, line: str) -> None:
        wait_until(lambda: self.lines().count(line) >= count, 60)


def test_runs_follow_each_other_and_never_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, monkeypatch, seconds=0.4)
    kept.thread.start()
    kept.wait_for(3, "end")
    kept.keeper.stop()
    kept.thread.join(60)
    assert not kept.thread.is_alive()
    lines = kept.lines()
    assert lines[:6] == ["begin", "end"] * 3
    # Ten instants a second came due, and no run stood in line for them.
    assert len(kept.started) <= 5


def test_a_stop_tells_the_run_and_leaves_it_to_be_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, monkeypatch, seconds=60)
    kept.thread.start()
    kept.wait_for(1, "begin")
    before = json.loads((tmp_path / "schedule.json").read_text())
    kept.keeper.stop()
    kept.thread.join(60)
    assert not kept.thread.is_alive()
    assert [process.returncode for process in kept.started] == [-signal.SIGTERM]
    assert json.loads((tmp_path / "schedule.json").read_text()) == before
    again = Kept(tmp_path, monkeypatch, seconds=0)
    monkeypatch.setattr(
        Every, "instants", lambda self, moment: iter([moment + timedelta(seconds=1), NOW.replace(year=2400)])
    )
    time.sleep(1)
    again.thread.start()
    again.wait_for(1, "end")
    # What was done is noted after the process has ended, and a stop may come between.
    wait_until(lambda: Clock(tmp_path).read() != datetime.fromisoformat(before["last"]), 60)
    again.keeper.stop()
    again.thread.join(60)
    assert Clock(tmp_path).read() > datetime.fromisoformat(before["last"])


def test_a_run_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, monkeypatch, seconds=60, stubborn=True, stop_seconds=0.5)
    kept.thread.start()
    kept.wait_for(1, "begin")
    kept.keeper.stop()
    kept.thread.join(60)
    assert [process.returncode for process in kept.started] == [-signal.SIGKILL]


def test_a_second_keeper_is_turned_away_and_the_lock_goes_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path, monkeypatch, seconds=0)
    kept.thread.start()
    kept.wait_for(1, "end")
    with pytest.raises(BadInputError, match="kept by another process"):
        Kept(tmp_path, monkeypatch, seconds=0).keeper.keep()
    kept.keeper.stop()
    kept.thread.join(60)
    next_one = Kept(tmp_path, monkeypatch, seconds=0)
    next_one.keeper.stop()
    next_one.keeper.keep()
