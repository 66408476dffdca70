"""What stands in a directory of spans, on this machine or on any of Beam's file systems."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from components.errors import BadInputError
from components.example_gen.source import is_remote
from components.example_gen.window import PREFIX


@dataclass(frozen=True)
class File:
    """A file of a span; ``updated`` is in seconds since 1970, None where the file system does not tell."""

    updated: float | None


def list_spans(directory: Path | str) -> dict[str, dict[str, File]]:
    """Returns the files of each directory whose name begins like a span's; ``""`` stands for the directory itself.

    Args:
        directory: Of all spans: a path, or text for any of Beam's file systems.

    Raises:
        BadInputError: It cannot be read.
    """
    if is_remote(directory):
        return _list_remote(str(directory))
    found = {}
    try:
        for entry in os.scandir(directory):
            if entry.name.startswith(PREFIX) and entry.is_dir():
                found[entry.name] = {"": File(entry.stat().st_mtime)}
                for file in os.scandir(entry.path):
                    # A writer may take its temporary file away meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        if file.is_file():
                            found[entry.name][file.name] = File(file.stat().st_mtime)
    except OSError as error:
        raise BadInputError(f"{error.filename or directory} cannot be read: {error.strerror}") from error
    return found


def _list_remote(directory: str) -> dict[str, dict[str, File]]:
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    try:
        (matched,) = FileSystems.match([f"{directory.rstrip('/')}/{PREFIX}*/*"])
    except (BeamIOError, ValueError) as error:
        raise BadInputError(f"{directory} cannot be listed: {' '.join(str(error).split())[:200]}") from error
    found: dict[str, dict[str, File]] = {}
    for item in matched.metadata_list:
        *_, span, name = item.path.split("/")
        found.setdefault(span, {})[name] = File(item.last_updated_in_seconds or None)
    return found
