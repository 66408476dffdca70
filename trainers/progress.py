"""How far a long loop is, said now and then and never often."""

import logging
import time

_log = logging.getLogger("newsdesk.trainer")
_INTERVAL = 2.0
_WARM = 5


class Meter:
    """Counts rows and logs share, rate and the time that is left.

    Records carry ``passing``: a screen may show the newest only.
    """

    def __init__(self, what: str, rows: int, later_rows: int = 0):
        """Starts the clock.

        Args:
            what: Name of the loop.
            rows: Rows in the loop.
            later_rows: Rows of equal cost that follow it and belong to the time left.
        """
        self._what = what
        self._rows = rows
        self._later = later_rows
        self._done = self._counted = self._calls = 0
        self._started = self._said = time.perf_counter()

    def add(self, rows: int, note: str = "") -> None:
        """Counts rows that are done."""
        now = time.perf_counter()
        self._done += rows
        self._calls += 1
        if self._calls <= _WARM:
            # The first steps trace and compile: they say nothing about the rest.
            self._started, self._counted = now, self._done
            return
        if now - self._said < _INTERVAL:
            return
        self._said = now
        rate = (self._done - self._counted) / max(now - self._started, 1e-9)
        left = (self._rows - self._done + self._later) / rate
        duration = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
        _log.info(
            f"{self._what}: {self._done / self._rows:.0%}{note}, {rate:,.0f} rows/s, {duration} left",
            extra={"passing": True},
        )
