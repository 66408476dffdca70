"""How a command that runs for long ends when it is asked to."""

import signal
from types import FrameType

from components.errors import StoppedError


def end_on_sigterm() -> None:
    """Makes SIGTERM end the process as Ctrl-C does: whatever is open is closed on the way out."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(number)
