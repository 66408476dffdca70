"""From a version's directory to a model that is warm, or to the reason why not."""

import os
from collections.abc import Callable
from pathlib import Path

from components.errors import BadInputError
from components.push.manifest import verify
from components.push.model_files import MOST_FILES, check_model_files
from serving.errors import Code, code_of, message_of
from serving.model.loaded import Model
from serving.repository.versions import Failure, Fingerprint

# What failed for want of memory, or of a disk that answers, may do better later; TensorFlow Serving waits as long.
_RETRY_SECONDS = 60.0


def load_version(directory: Path, load: Callable[[Path], Model], warm: Callable[[Model], None]) -> Model:
    """Returns a version in memory, warm.

    Args:
        directory: Where it stands.
        load: Is called only when the files are plain and as the manifest says.
        warm: Asks the model what no live request should be the first to ask.

    Raises:
        BadInputError: It is no plain SavedModel, not what was pushed, or was deleted meanwhile.
        Exception: Whatever ``load`` and ``warm`` raise.
    """
    check_model_files(directory)
    verify(directory)
    loaded = load(directory)
    warm(loaded)
    if not directory.is_dir():
        raise BadInputError(f"{directory} was deleted while it was loaded: use another version")
    return loaded


def judge(error: Exception, files: Fingerprint, now: float) -> Failure:
    """Returns what a failed load means.

    Args:
        error: What it raised.
        files: The version's files before it.
        now: By the clock that will tell when to try again.
    """
    cause: BaseException = error
    code, message = code_of(error), message_of(error)
    if isinstance(error, BadInputError):
        cause, code = error.__cause__ or error, Code.FAILED_PRECONDITION
    passing = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    if passing:
        code = Code.UNAVAILABLE
    if code is Code.RESOURCE_EXHAUSTED:
        passing, message = True, f"there is not enough memory for it ({message})"
    return Failure(code, message, files, now + _RETRY_SECONDS if passing else None)


def fingerprint(directory: Path) -> Fingerprint:
    """Returns what differs when a file of a version has changed; reads no content, and never fails.

    Names, sizes and times; of a directory that cannot be read, why.
    """
    found: list[str] = []
    try:
        waiting = [os.fspath(directory)]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    times = (status.st_mtime_ns, status.st_ctime_ns)
                    found.append(f"{entry.path} {status.st_ino} {status.st_size} {times}")
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    # With more it is refused, whatever they are.
                    if len(found) > MOST_FILES:
                        return tuple(found)
    except OSError as error:
        found.append(str(error))
    return tuple(sorted(found))
