"""One process at a time brings one model into the cache."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import BadInputError
from trainers.bert.archives import TEMPORARY

_LOCK_SECONDS = 3600

Say = Callable[[str], None]
"""Called with one line per step."""


@contextmanager
def alone(target: Path, say: Say) -> Iterator[None]:
    """Holds the lock on a directory that is about to be made, and removes what a killed process left of it.

    Args:
        target: The directory; the one above it is made if missing.
        say: Told if another process is to be waited for.

    Raises:
        BadInputError: Another process holds the lock for more than an hour.
        OSError: The directory above cannot be written to.
    """
    import filelock

    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.lock")
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say(f"waiting for another process that fetches {target.name}")
            lock.acquire(timeout=_LOCK_SECONDS)
    except filelock.Timeout as error:
        raise BadInputError(f"another process holds {path}: end it, or name another directory with --cache") from error
    try:
        for leftover in target.parent.glob(f".{target.name}.*{TEMPORARY}"):
            shutil.rmtree(leftover)
        yield
    finally:
        lock.release()
