"""The schedule that is kept here: what is missed, waits, one run at a time, a clean stop, and a restart."""

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import BadInputError
from pipeline.schedule import keeper
from pipeline.schedule.cron import Cron, ScheduleConfig
from pipeline.schedule.keeper import Clock, Keeper, Trigger, due

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)
DAILY = Cron("0 3 * * *", "UTC")


def test_nothing_is_missed_before_the_first_time_nor_between_two() -> None:
    assert due(DAILY, None, NOW, "once") == (None, None)
    assert due(DAILY, NOW - timedelta(hours=2), NOW, "once") == (None, None)
    # A clock that was set back has missed nothing.
    assert due(DAILY, NOW + timedelta(days=3), NOW, "once") == (None, None)


@pytest.mark.parametrize("days", [1, 2, 60])
def test_however_much_was_missed_one_run_makes_up_for_it(days: int) -> None:
    newest = datetime(2026, 3, 10, 3, tzinfo=UTC)
    assert due(DAILY, NOW - timedelta(days=days), NOW, "once") == (newest, None)
    assert due(DAILY, NOW - timedelta(days=days), NOW, "skip") == (None, newest)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3500), st.integers(1, 5000))
def test_each_instant_fires_once_after_its_wait_however_often_the_time_is_asked_for(jitter: int, first: int) -> None:
    trigger = Trigger(Cron("0 * * * *", "Europe/Paris"), jitter, NOW + timedelta(seconds=first))
    fired: list[datetime] = []
    previous = None
    for _ in range(30):
        previous = trigger.get_next_fire_time(previous, NOW)
        assert trigger.get_next_fire_time(fired[-1] if fired else None, NOW) == previous
        fired.append(previous)
    assert fired == sorted(set(fired))
    hours = {time.replace(minute=0, second=0, microsecond=0) for time in fired}
    assert len(hours) == 30
    assert all(
        timedelta(0) <= time - time.replace(minute=0, second=0, microsecond=0) <= timedelta(seconds=jitter)
        for time in fired
    )


def test_a_run_to_make_up_for_fires_at_once_and_then_the_schedule_goes_on() -> None:
    trigger = Trigger(DAILY, 0, NOW, at_once=True)
    assert trigger.get_next_fire_time(None, NOW) == NOW
    assert trigger.get_next_fire_time(NOW, NOW) == datetime(2026, 3, 11, 3, tzinfo=UTC)


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
        self.thread = threading.Thread(target=self.keeper.keep)

    def lines(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []

    def wait_for(self, count: int, line: str) -> None:
        deadline = time.monotonic() + 30
        while self.lines().count(line) < count:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_runs_follow_each_other_and_never_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, monkeypatch, seconds=0.4)
    kept.thread.start()
    kept.wait_for(3, "end")
    kept.keeper.stop()
    kept.thread.join(20)
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
    kept.thread.join(20)
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
    end = time.monotonic() + 20
    while Clock(tmp_path).read() == datetime.fromisoformat(before["last"]) and time.monotonic() < end:
        time.sleep(0.05)
    again.keeper.stop()
    again.thread.join(20)
    assert Clock(tmp_path).read() > datetime.fromisoformat(before["last"])


def test_a_run_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, monkeypatch, seconds=60, stubborn=True, stop_seconds=0.5)
    kept.thread.start()
    kept.wait_for(1, "begin")
    kept.keeper.stop()
    kept.thread.join(20)
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
    kept.thread.join(20)
    next_one = Kept(tmp_path, monkeypatch, seconds=0)
    next_one.keeper.stop()
    next_one.keeper.keep()
