"""Files that batch inference writes, on any file system that Beam knows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from uuid import uuid4

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.tables.files import list_files


@contextmanager
def replaced(path: str, temporary: str) -> Iterator[IO[bytes]]:
    """Opens a file that is there, whole, once the block is left without an error; until then it is elsewhere.

    Args:
        path: Of the file; one that is there is replaced at once.
        temporary: Directory on the same file system.
    """
    place = FileSystems.join(temporary, f".tmp-{uuid4().hex}")
    with FileSystems.create(place, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        yield file
    FileSystems.rename([place], [path])


def make_directory(path: str) -> None:
    """Makes a directory and those above it, where the file system has such and it is not there."""
    if not FileSystems.exists(path):
        FileSystems.mkdirs(path)


def read_json(path: str) -> dict[str, Any]:
    """Returns a marker's content; empty where there is none, or none that is ours."""
    if not FileSystems.exists(path):
        return {}
    with FileSystems.open(path) as file:
        try:
            found = json.loads(file.read())
        except ValueError:
            return {}
    return found if isinstance(found, dict) else {}


def size_of(path: str) -> int | None:
    """Returns how many bytes a file has, None where there is none."""
    return FileSystems.get_filesystem(path).size(path) if FileSystems.exists(path) else None


def remove(path: str) -> None:
    """Deletes a file, or a directory with all it holds, if it is there.

    Args:
        path: Without ``*``, ``?`` and ``[``, which Beam would take for a pattern.
    """
    # Object stores have no directories, only names that begin alike.
    inside = list_files(f"{path}/**")
    if inside:
        FileSystems.delete(inside)
    if FileSystems.exists(path):
        FileSystems.delete([path])
