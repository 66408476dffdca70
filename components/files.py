"""Files that several processes share: replaced as a whole, and locked."""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from components.errors import BadInputError

TEMPORARY = ".tmp-"
"""Names that begin so are half written; whoever finds one after a kill may delete it."""


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of ``path`` once the block has ended without an error.

    A reader, or a kill at any moment, meets the old file or the new one.

    Args:
        path: What to replace; its directory is made if missing.
        mode: Permissions of the file; by default what the process's umask leaves.

    Raises:
        OSError: The file cannot be written; what stood there stands there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            # Before the rename: a power cut must not leave the new name on an empty file.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes, mode: int | None = None) -> None:
    """Replaces a file by ``content``, text in UTF-8; arguments and errors are those of ``replacing``."""
    with replacing(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def append_line(path: Path, line: str) -> None:
    """Adds a line, all of it or, if this is killed, a piece that has its line for itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, b"\n" * bool(torn) + line.encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def undamaged(path: Path, remedy: str, *also: type[Exception]) -> Iterator[None]:
    """Guards the reading of one of our files, and of what it holds; one that is missing stays ``FileNotFoundError``.

    ``also`` is what a format's own reader raises where the file is damaged.

    Raises:
        BadInputError: It cannot be read, or does not hold what it should; ``remedy`` says what to do.
    """
    damage: tuple[type[Exception], ...] = (ValueError, LookupError, TypeError, AttributeError, *also)
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except damage as error:
        raise BadInputError(f"{path} is damaged: {remedy}") from error


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, 64 hex digits in lower case."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files below a directory; links are not followed."""
    status = path.lstat()
    if not path.is_dir() or path.is_symlink():
        return status.st_size
    with os.scandir(path) as entries:
        return sum(size_of(Path(entry.path)) for entry in entries)


@contextmanager
def locked(path: Path, refusal: Callable[[], str], seconds: float = 0) -> Iterator[None]:
    """Holds a lock for the block; the lock goes with the process, however the process ends.

    Args:
        path: The lock's file.
        refusal: Returns the message of the error.
        seconds: How long to wait for another process.

    Raises:
        BadInputError: Another process holds the lock, and still did after ``seconds``.
    """
    # A command that takes no lock need not load it.
    import filelock

    lock = filelock.FileLock(path, timeout=seconds)
    try:
        held = lock.acquire()
    except filelock.Timeout as error:
        raise BadInputError(refusal()) from error
    with held:
        yield
