"""Finds the input files of a data directory and digests their content."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.errors import BadInputError
from components.features import AG_NEWS_CLASSES, CLASSES_FILE

TRAIN_FILE = "train.csv"
TEST_FILE = "test.csv"
SAMPLE_DIR = Path(__file__).parent / "sample"
"""The bundled sample: 800 items written for this project."""


@dataclass(frozen=True)
class Source:
    """The input files of one run.

    Attributes:
        directory: Where they are.
        train, test: File names, plain or with ``.gz``.
        classes: Class names in label-id order; the label ``"1"`` is the first.
        digest: SHA-256 over the content of all of them, independent of names, times and compression level.
    """

    directory: Path
    train: str
    test: str
    classes: tuple[str, ...]
    digest: str


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
    classes = _read_classes(directory / CLASSES_FILE)
    digest = hashlib.sha256("\n".join(classes).encode())
    for name in (train, test):
        digest.update(_file_digest(directory / name))
    return Source(directory.resolve(), train, test, classes, digest.hexdigest())


@contextmanager
def open_lines(path: str) -> Iterator[io.TextIOBase]:
    """Opens a plain or gzipped file for ``reader.read_records``; any path that Beam's filesystems know.

    Raises:
        BadInputError: The file is not a readable gzip archive although its name says so.
    """
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as raw:
        binary = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
        try:
            yield io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInputError(_damaged(path, error)) from error


def _find(directory: Path, name: str) -> str:
    for candidate in (name, f"{name}.gz"):
        path = directory / candidate
        if path.is_file():
            if path.stat().st_size == 0:
                raise BadInputError(f'{path} is empty: put rows of the form "label","title","description" in it')
            return candidate
    raise BadInputError(f"{directory} holds no {name} or {name}.gz: put the file there or name another with --data")


def _read_classes(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return AG_NEWS_CLASSES
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as UTF-8 text, one class name a line: {error}") from error
    if len(names) < 2 or len(set(names)) != len(names):
        raise BadInputError(f"{path} must name at least two classes, one a line and none twice; it names {list(names)}")
    return names


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInputError(_damaged(path, error)) from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    return digest.digest()


def _damaged(path: str | Path, error: Exception) -> str:
    return f"{path} is not a complete gzip file ({error}): fetch or compress it again"
