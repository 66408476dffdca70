"""Finds the input files of a data directory and digests their content."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from components.errors import BadInputError
from components.features import AG_NEWS_CLASSES
from components.file_names import CLASSES_FILE

TRAIN_FILE = "train.csv"
TEST_FILE = "test.csv"
SAMPLE_DIR = Path(__file__).parent / "sample"
"""The bundled sample: 800 items written for this project."""
MOST_LINE_CHARACTERS = 4 << 20
"""Of a file that is read; a longer line is a sign of another kind of file."""


@dataclass(frozen=True)
class Source:
    """The input files of one run.

    Attributes:
        directory: Where they are; text instead of a path for spans on an object store.
        train, test: File names, plain or with ``.gz``; those of the newest span where there are spans.
        classes: Class names in label-id order; the label ``"1"`` is the first.
        digest: SHA-256 over the content of all of them, independent of names, times and compression level.
        spans: Names of the spans that are read, oldest first; empty where the files stand in ``directory`` itself.
        files: Names of train and test file below ``directory``, a pair for each span; by default the one above.
        left_out: Spans that are not read, each with the reason, in words.
    """

    directory: Path | str
    train: str
    test: str
    classes: tuple[str, ...]
    digest: str
    spans: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


def find_source(directory: Path) -> Source:
    """Returns the input files of ``directory``.

    Raises:
        BadInputError: The directory or one of its files is missing, empty or unreadable, or
            ``classes.txt`` names fewer than two classes or one twice.
    """
    if not directory.is_dir():
        raise BadInputError(
            f"there is no data directory {directory}: name one that holds {TRAIN_FILE} and {TEST_FILE} with --data"
        )
    train, test = (_find(directory, name) for name in (TRAIN_FILE, TEST_FILE))
    classes = read_classes(directory / CLASSES_FILE)
    digest = combine(classes, [digest_file(directory / name)[0] for name in (train, test)])
    return Source(directory.resolve(), train, test, classes, digest, files=((train, test),))


def combine(classes: tuple[str, ...], digests: Iterable[bytes]) -> str:
    """Returns the digest of class names and of the files that ``digest_file`` has read, in order."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for part in digests:
        digest.update(part)
    return digest.hexdigest()


class _Hashed(io.RawIOBase):
    def __init__(self, file: IO[bytes] | gzip.GzipFile, digest: "hashlib._Hash"):
        self._file, self._digest = file, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(len(buffer))
        self._digest.update(block)
        buffer[: len(block)] = block
        return len(block)


@contextmanager
def open_lines(path: str, digest: "hashlib._Hash | None" = None) -> Iterator[Iterator[str]]:
    """Opens a plain or gzipped file for ``reader.read_records``; any path that Beam's filesystems know.

    ``digest`` is given what is read, unpacked: whoever took the file's digest before compares the two at the end.

    Raises:
        BadInputError: The file is not a readable gzip archive although its name says so, or it has a line that is too
            long to be held in memory.
    """
    with _open_bytes(path) as raw:
        binary = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
        try:
            hashed = io.BufferedReader(_Hashed(binary, digest or hashlib.sha256()))
            text = io.TextIOWrapper(hashed, encoding="utf-8-sig", errors="surrogateescape", newline="")
            yield _short_lines(text, path)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInputError(_damaged(path, error)) from error


def _short_lines(text: io.TextIOBase, path: str) -> Iterator[str]:
    number = 0
    while line := text.readline(MOST_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MOST_LINE_CHARACTERS:
            raise BadInputError(
                f"line {number} of {path} is longer than {MOST_LINE_CHARACTERS:,} characters: is this the right file?"
            )
        yield line


def _find(directory: Path, name: str) -> str:
    for candidate in (name, f"{name}.gz"):
        path = directory / candidate
        if path.is_file():
            if path.stat().st_size == 0:
                raise BadInputError(f'{path} is empty: put rows of the form "label","title","description" in it')
            return candidate
    raise BadInputError(f"{directory} holds no {name} or {name}.gz: put the file there or name another with --data")


def read_classes(path: Path | str) -> tuple[str, ...]:
    """Returns the class names of ``classes.txt`` in label-id order; AG News's where there is no such file.

    Raises:
        BadInputError: It cannot be read, or names fewer than two classes or one twice.
    """
    if not _exists(path):
        return AG_NEWS_CLASSES
    try:
        with _open_bytes(path) as file:
            names = tuple(line.strip() for line in file.read().decode("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as UTF-8 text, one class name a line: {error}") from error
    if len(names) < 2 or len(set(names)) != len(names):
        raise BadInputError(f"{path} must name at least two classes, one a line and none twice; it names {list(names)}")
    return names


def digest_file(path: Path | str) -> tuple[bytes, bool]:
    """Returns the SHA-256 of what a file holds when unpacked, and whether that is more than white space.

    Args:
        path: On a disk, or as text on any of Beam's file systems.

    Raises:
        BadInputError: It cannot be read, or is no complete gzip archive although its name says so.
    """
    digest, filled = hashlib.sha256(), False
    try:
        with _open_bytes(path) as raw, gzip.GzipFile(fileobj=raw) if str(path).endswith(".gz") else raw as file:
            while block := file.read(1 << 20):
                digest.update(block)
                filled = filled or bool(block.strip())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInputError(_damaged(path, error)) from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.digest(), filled


def _open_bytes(path: Path | str) -> IO[bytes]:
    if not is_remote(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.open(str(path), compression_type=CompressionTypes.UNCOMPRESSED)


def _exists(path: Path | str) -> bool:
    if not is_remote(path):
        return Path(path).exists()
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.exists(str(path))


def is_remote(path: Path | str) -> bool:
    """Tells the address of an object store, such as ``gs://bucket/feed``, from a path."""
    return isinstance(path, str) and "://" in path


def _damaged(path: str | Path, error: Exception) -> str:
    return f"{path} is not a complete gzip file ({error}): fetch or compress it again"
