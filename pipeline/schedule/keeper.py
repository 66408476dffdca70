"""Keeps to a schedule in this process: one run at a time, each in a process of its own, stopped cleanly."""

import json
import logging
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import filelock
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from components.errors import BadInputError
from pipeline.schedule.cron import Cron, ScheduleConfig

# A machine that is busy starts a job late; what is later than this has been missed.
_GRACE_SECONDS = 60
_log = logging.getLogger("newsdesk.schedule")

Start = Callable[[], subprocess.Popen]


class Clock:
    """Up to when everything has been done, in a file: what is left to do after a restart."""

    def __init__(self, directory: Path):
        self._path = directory / "schedule.json"

    def read(self) -> datetime | None:
        """Returns the moment; None before the first.

        Raises:
            BadInputError: The file is damaged.
        """
        try:
            return datetime.fromisoformat(json.loads(self._path.read_text(encoding="utf-8"))["last"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInputError(f"{self._path} is damaged: delete it, and the schedule begins anew") from error

    def write(self, moment: datetime) -> None:
        """Replaces it."""
        temporary = self._path.with_name(f".tmp-{self._path.name}")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"last": moment.isoformat()}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)


def due(cron: Cron, last: datetime | None, now: datetime, misfire: str) -> tuple[datetime | None, datetime | None]:
    """Returns what is to be made up for, and what is passed over, of the instants since the last one.

    However many have passed there is one run, for the newest: each decision looks at all there is.

    Args:
        cron: The schedule.
        last: Up to when everything has been done; None before the first, and then nothing was missed.
        now: The time.
        misfire: ``once`` or ``skip``.
    """
    if last is None or last >= now:
        return None, None
    missed = cron.last_before(now, last)
    return (missed, None) if misfire == "once" else (None, missed)


class Trigger(BaseTrigger):
    """Fires at the instants of an expression, each after a random wait.

    APScheduler may ask for the same time more than once, so the wait of an instant is always the same.
    """

    def __init__(self, cron: Cron, jitter_seconds: float, start: datetime, at_once: bool = False):
        """Begins after ``start``; with ``at_once`` it fires once before."""
        self._cron, self._jitter, self._begin, self._at_once = cron, jitter_seconds, start, at_once
        # Many machines with one schedule wait for different times.
        self._seed = random.SystemRandom().random()

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Returns the first time to fire after the previous one."""
        if previous_fire_time is None and self._at_once:
            return now
        after = (previous_fire_time or self._begin).astimezone(UTC)
        times = (
            instant + self._wait(instant) for instant in self._cron.instants(after - timedelta(seconds=self._jitter))
        )
        return next(time for time in times if time > after)

    def _wait(self, instant: datetime) -> timedelta:
        chance = random.Random(f"{self._seed} {instant.isoformat()}").random()  # noqa: S311  no secret
        return timedelta(seconds=chance * self._jitter)


class Keeper:
    """Starts a process at each instant until it is told to stop."""

    def __init__(self, config: ScheduleConfig, directory: Path, start: Start):
        """Keeps what it works with.

        Args:
            config: When.
            directory: Where its state is kept, ``<workspace>/retrain``.
            start: Starts one retraining decision.
        """
        self.config = config
        self.directory = directory
        self._start = start
        self._cron = Cron(config.cron, config.time_zone)
        self._clock = Clock(directory)
        self._over = threading.Event()
        self._active: subprocess.Popen | None = None
        self._guard = threading.Lock()

    def keep(self) -> None:
        """Returns when ``stop`` has been called and the run under way has ended.

        Raises:
            BadInputError: Another process keeps this schedule, or its state is damaged.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.directory / ".schedule.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise BadInputError(
                f"the schedule in {self.directory.parent} is kept by another process: stop that"
            ) from error
        try:
            self._keep()
        finally:
            lock.release()

    def stop(self, *_: Any) -> None:
        """Ends ``keep``; may be called by a signal."""
        self._over.set()

    def _keep(self) -> None:
        now = datetime.now(UTC)
        last = self._clock.read()
        missed, passed = due(self._cron, last, now, self.config.misfire)
        if passed:
            _log.warning(
                "%s has passed while no schedule was kept: it is skipped (schedule.misfire)", passed.isoformat()
            )
        if missed:
            _log.warning("%s has passed while no schedule was kept: it is made up for now", missed.isoformat())
        else:
            self._clock.write(now)
        trigger = Trigger(self._cron, self.config.jitter_seconds, now, at_once=missed is not None)
        scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(1)}, timezone=UTC)
        scheduler.add_job(
            self._run,
            trigger,
            # What comes due while a run is under way is passed over: that run or the next looks at all there is.
            max_instances=1,
            # A machine that slept finds many times behind it, and runs for one of them or for none.
            coalesce=True,
            misfire_grace_time=None if self.config.misfire == "once" else _GRACE_SECONDS,
        )
        scheduler.start()
        try:
            # A wait without end would not let a signal through.
            while not self._over.wait(1):
                pass
        finally:
            scheduler.pause()
            self._end_run()
            scheduler.shutdown(wait=True)

    def _run(self) -> None:
        with self._guard:
            if self._over.is_set():
                return
            began = datetime.now(UTC)
            process = self._active = self._start()
        _log.info("a decision of %s is under way, process %d", began.isoformat(timespec="seconds"), process.pid)
        code = process.wait()
        _log.info("it ended with exit code %d", code)
        if not self._over.is_set():
            # Not before it has ended: a decision that was killed is made up for after the restart.
            self._clock.write(datetime.now(UTC))

    def _end_run(self) -> None:
        with self._guard:
            process = self._active
        if process is None or process.poll() is not None:
            return
        _log.info("the run under way is told to stop, and has %g s for it", self.config.stop_seconds)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.config.stop_seconds)
        except subprocess.TimeoutExpired:
            _log.warning("it did not stop and is killed; the next one goes on where it was")
            process.kill()
            process.wait()


def start_process(command: Sequence[str]) -> subprocess.Popen:
    """Starts a retraining; what it says goes where this process's words go."""
    return subprocess.Popen(list(command))  # noqa: S603  our own command line
