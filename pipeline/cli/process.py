"""What a command sets for its own process: how often memory is looked through, and how it ends when asked to."""

import gc
import signal
from types import FrameType
from typing import IO

import click

from components.clean import printable
from components.errors import StoppedError

_ALLOCATIONS = 100_000


def collect_seldom() -> None:
    """Makes Python's garbage collector run after 100,000 new objects instead of after 700.

    Imports of the stack leave some 700,000 objects behind, all of which stay; looking through them time and again is
    a third of what they take, and Beam's many small objects pay for it once more. Not for a server, which would keep
    what is dead for longer.
    """
    gc.set_threshold(_ALLOCATIONS)


def end_on_sigterm() -> None:
    """Makes SIGTERM end the process as Ctrl-C does: whatever is open is closed on the way out."""
    signal.signal(signal.SIGTERM, _stop)


def say(text: object, file: IO[str] | None = None, err: bool = False) -> None:
    """Shows one line, whatever labels, names and messages in it hold; what is JSON goes to ``click.echo``."""
    click.echo(printable(str(text)), file=file, err=err)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(number)
