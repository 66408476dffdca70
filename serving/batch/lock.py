"""Keeps two runs from writing one output at once: their shards would mix."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from components.errors import BadInputError
from serving.batch.output import Output


@contextmanager
def exclusive(output: Output) -> Iterator[None]:
    """Holds an output for one run; the lock goes with the process, however it ends.

    An object store has no locks: there nothing keeps a second run off.

    Raises:
        BadInputError: Another run holds it, or there is no place for it.
    """
    if "://" in output.path:
        yield
        return
    path = Path(output.lock)
    lock = filelock.FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise BadInputError(
            f"another run is writing {output.path}: wait until it is done, or name another output"
        ) from error
    except OSError as error:
        raise BadInputError(f"{output.path} cannot be written ({error.strerror}): name another output") from error
    try:
        yield
    finally:
        # While it is held: whoever opened it meanwhile sees that it is gone, and makes another.
        path.unlink(missing_ok=True)
        lock.release()
