"""Which days of data a run reads, as the setting ``data.spans`` says."""

import re
from dataclasses import dataclass
from datetime import date

from components.errors import BadInputError

PREFIX = "span-"
"""What the name of a day's directory begins with."""
_DAY = re.compile(r"(?:span-)?([0-9]{4})-?([0-9]{2})-?([0-9]{2})")
_LAST = re.compile(r"last ([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Window:
    """Which of the whole spans a run reads: the last ``count``, or those of the days between two, both included."""

    count: int | None = None
    first: str = ""
    last: str = ""

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Reads ``all``, ``last N`` or ``FROM..TO``, days as ``YYYYMMDD`` or ``YYYY-MM-DD``.

        Raises:
            BadInputError: It is none of these, or ends before it begins.
        """
        text = text.strip()
        if text == "all":
            return cls()
        if found := _LAST.fullmatch(text):
            return cls(int(found[1]))
        first, dots, last = text.partition("..")
        if not dots:
            raise BadInputError(f"spans are all, last N or FROM..TO with days as YYYYMMDD, not {text!r}")
        window = cls(None, *(span_name(day) or _bad_day(day) for day in (first, last)))
        if window.last < window.first:
            raise BadInputError(f"the spans {text} end before they begin: exchange the two days")
        return window

    def __str__(self) -> str:
        if self.count is not None:
            return f"last {self.count}"
        return f"{self.first}..{self.last}" if self.first else "all"


def span_name(day: str) -> str | None:
    """Returns the name of a day's span, None if there is no such day."""
    found = _DAY.fullmatch(day.strip())
    try:
        return PREFIX + date(*map(int, found.groups())).isoformat().replace("-", "") if found else None
    except ValueError:
        return None


def _bad_day(day: str) -> str:
    raise BadInputError(f"{day!r} is no day: write it as YYYYMMDD")
