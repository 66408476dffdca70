"""What a call costs, counted: the same on every machine, however busy, where its time is not.

What compiled code does is not among the lines; what it makes is among the bytes.
"""

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of(call: Callable[[], object]) -> int:
    """Returns how many lines of Python a call runs on this thread."""
    lines = 0

    def count(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def bytes_of(call: Callable[[], object]) -> int:
    """Returns the most bytes that a call takes at a time, beyond those that were taken before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
