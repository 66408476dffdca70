"""Keeps a schedule in this process: one run at a time, each in a process of its own, stopped cleanly."""

import json
import logging
import random
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.files import locked, undamaged, write_whole
from pipeline.schedule.cron import Cron, ScheduleConfig

# A busy machine starts a run late; what is later than this has been missed.
_GRACE = timedelta(seconds=60)
_LOOK_SECONDS = 0.5
_log = logging.getLogger("newsdesk.schedule")

Start = Callable[[], subprocess.Popen]


class Clock:
    """The moment up to which all runs of the schedule are done, kept in a file for the next process."""

    def __init__(self, directory: Path):
        self._path = directory / "schedule.json"

    def read(self) -> datetime | None:
        """Returns the moment; None before the first.

        Raises:
            BadInputError: The file is damaged.
        """
        try:
            with undamaged(self._path, "delete it, and the schedule begins anew"):
                last = datetime.fromisoformat(json.loads(self._path.read_bytes())["last"])
                if last.tzinfo is None:
                    raise ValueError("a moment without a time zone")
                return last
        except FileNotFoundError:
            return None

    def write(self, moment: datetime) -> None:
        """Replaces the moment."""
        write_whole(self._path, json.dumps({"last": moment.isoformat()}).encode())


class Keeper:
    """Starts a process at each instant of the schedule until it is told to stop.

    However many instants have passed since the last run there is one run for all of them, since each decision looks at
    all there is. This holds for instants during a run, during a machine's sleep and between two keepers.
    """

    def __init__(self, config: ScheduleConfig, directory: Path, start: Start):
        """Keeps its state in ``directory``, ``<workspace>/retrain``; ``start`` starts one retraining decision."""
        self.config = config
        self.directory = directory
        self._start = start
        self._cron = Cron(config.cron, config.time_zone)
        self._clock = Clock(directory)
        self._stopped = False

    def keep(self) -> None:
        """Returns when ``stop`` has been called and the run under way has ended.

        Raises:
            BadInputError: Another process keeps this schedule, or its state is damaged.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        busy = f"the schedule in {self.directory.parent} is kept by another process: stop that"
        with locked(self.directory / ".schedule.lock", lambda: busy):
            self._keep()

    def stop(self, *_: Any) -> None:
        """Ends ``keep``; may be called by a signal."""
        # Not an Event: its lock may be held by the very code that the signal interrupts.
        self._stopped = True

    def _keep(self) -> None:
        now = _now()
        done = self._clock.read()
        # Before the first start nothing was missed, nor where the machine's clock was set back.
        if done is None or done > now:
            self._clock.write(now)
            done = now
        while True:
            instant = self._cron.after(done)
            # Many machines with one schedule wait for different times.
            due = instant + timedelta(seconds=random.SystemRandom().uniform(0, self.config.jitter_seconds))
            if not self._wait_until(due):
                return
            try:
                if self._is_skipped(instant, due) or self._run():
                    # Not before the run has ended: one that was stopped or killed is made up for after the restart.
                    self._clock.write(_now())
            except OSError as error:
                _log.error("the run cannot be started or noted (%s): the schedule goes on with its next time", error)
            done = _now()

    def _wait_until(self, moment: datetime) -> bool:
        """Returns True at that time, and False as soon as the keeper is told to stop."""
        while not self._stopped:
            seconds = (moment - _now()).total_seconds()
            if seconds <= 0:
                return True
            # Never for long: a signal does not end a sleep, and a machine's sleep or a set clock changes what is left.
            time.sleep(min(seconds, _LOOK_SECONDS))
        return False

    def _is_skipped(self, instant: datetime, due: datetime) -> bool:
        if _now() - due <= _GRACE:
            return False
        skip = self.config.misfire == "skip"
        what = "what was missed is skipped (schedule.misfire)" if skip else "one run makes up for what was missed"
        _log.warning("no schedule was kept at %s: %s", instant.isoformat(), what)
        return skip

    def _run(self) -> bool:
        """Returns whether a run has ended without being told to."""
        process = self._start()
        _log.info("a decision of %s is under way, process %d", _now().isoformat(timespec="seconds"), process.pid)
        while process.poll() is None:
            if self._stopped:
                self._end(process)
            else:
                time.sleep(_LOOK_SECONDS)
        _log.info("it ended with exit code %d", process.returncode)
        # Ctrl-C reaches the run as well, and may have ended it before this process could.
        return not self._stopped

    def _end(self, process: subprocess.Popen) -> None:
        _log.info("the run under way is told to stop, and has %g s for it", self.config.stop_seconds)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.config.stop_seconds)
        except subprocess.TimeoutExpired:
            _log.warning("it did not stop and is killed; the next one goes on where it was")
            process.kill()
            process.wait()


def _now() -> datetime:
    return datetime.now(UTC)
