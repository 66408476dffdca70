"""Files of tables, on any file system that Beam knows: which there are, and what is in them."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.errors import BadInputError

CSV, JSON_LINES, PARQUET = "csv", "jsonl", "parquet"
FORMATS = (CSV, JSON_LINES, PARQUET)
SUFFIXES = {".csv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON_LINES, ".parquet": PARQUET}
MOST_LINE_BYTES = 4 << 20


def format_of(name: str) -> str | None:
    """Returns the format that a file's name says; Parquet compresses itself, so ``.parquet.gz`` is none."""
    lower = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.removesuffix(".gz").endswith(suffix)), None)
    if suffix is None or (suffix == ".parquet" and lower.endswith(".gz")):
        return None
    return SUFFIXES[suffix]


def find_files(pattern: str) -> list[str]:
    """Returns the files that a path or a pattern names, sorted.

    Raises:
        BadInputError: There is none, or one whose name says no format, or they are of several formats.
    """
    if FileSystems.exists(pattern):
        found = [pattern]
    else:
        try:
            found = list_files(pattern)
        except (OSError, ValueError) as error:
            raise BadInputError(f"{pattern} cannot be listed: {error}") from error
    if not found:
        raise BadInputError(f"there is no file {pattern}: name a file, or several by a pattern in quotes")
    formats = {format_of(path) for path in found}
    if None in formats:
        unknown = next(path for path in found if format_of(path) is None)
        raise BadInputError(
            f"{unknown} has no name of a known format: it must end in {', '.join(SUFFIXES)}, all but the last also "
            "with .gz"
        )
    if len(formats) > 1:
        raise BadInputError(
            f"{pattern} names files of several formats, {', '.join(sorted(map(str, formats)))}: one each"
        )
    return found


@contextmanager
def open_input(path: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading, uncompressed.

    Raises:
        BadInputError: It cannot be opened, or is no whole gzip file although its name says so.
    """
    try:
        raw = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except OSError as error:
        raise BadInputError(f"{path} cannot be opened: {error.strerror or error}") from error
    with raw:
        try:
            yield gzip.GzipFile(fileobj=raw) if path.lower().endswith(".gz") else raw  # type: ignore[misc]
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInputError(f"{path} is not a complete gzip file ({error}): compress it again") from error


def read_line(file: IO[bytes], number: int, path: str) -> bytes:
    """Returns the next line with its end, empty at the end of the file.

    Raises:
        BadInputError: It is longer than ``MOST_LINE_BYTES``.
    """
    line = file.readline(MOST_LINE_BYTES + 1)
    if len(line) > MOST_LINE_BYTES:
        raise BadInputError(
            f"line {number} of {path} is longer than {MOST_LINE_BYTES:,} bytes: is this the right file?"
        )
    return line


def digest_file(path: str) -> str:
    """Returns the SHA-256 of a file as it is stored, in hex digits."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(pattern: str) -> list[str]:
    """Returns the files that match, sorted; none is no error."""
    return sorted(item.path for item in FileSystems.match([pattern])[0].metadata_list)
