"""Files of tables, on any file system that Beam knows: which there are, and what is in them."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.errors import BadInputError
from components.tables.encoding import UTF_8, in_utf_8

CSV, JSON_LINES, PARQUET = "csv", "jsonl", "parquet"
FORMATS = (CSV, JSON_LINES, PARQUET)
_SUFFIXES = ((CSV, ".csv .tsv .txt"), (JSON_LINES, ".jsonl .ndjson .json"), (PARQUET, ".parquet"))
SUFFIXES = {suffix: kind for kind, suffixes in _SUFFIXES for suffix in suffixes.split()}
MOST_LINE_BYTES = 4 << 20


def format_of(name: str) -> str | None:
    """Returns the format that a file's name says; Parquet compresses itself, so ``.parquet.gz`` is none."""
    found = SUFFIXES.get(suffix_of(name))
    return None if found == PARQUET and name.lower().endswith(".gz") else found


def suffix_of(name: str) -> str:
    """Returns how a file's name ends before ``.gz``, with the point and in lower case."""
    whole = name.lower().removesuffix(".gz")
    return whole[whole.rfind(".") :]


def find_files(pattern: str) -> list[str]:
    """Returns the files that a path or a pattern names, sorted.

    Raises:
        BadInputError: There is none, or a directory, or one whose name says no format, or they are of several formats.
    """
    if os.path.isdir(pattern):
        raise BadInputError(f"{pattern} is a directory: name its files, by a pattern in quotes")
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
        endings = f"{', '.join(SUFFIXES)}, all but the last also with .gz"
        raise BadInputError(f"{unknown} has no name of a known format: it must end in {endings}")
    if len(formats) > 1:
        several = ", ".join(sorted(map(str, formats)))
        raise BadInputError(f"{pattern} names files of several formats, {several}: one each")
    return found


@contextmanager
def open_input(path: str, encoding: str = UTF_8) -> Iterator[IO[bytes]]:
    """Opens a file for reading, uncompressed, and text in another encoding than UTF-8 as UTF-8.

    Raises:
        BadInputError: It cannot be opened, or is no whole gzip file although its name says so.
    """
    try:
        raw = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except OSError as error:
        raise BadInputError(f"{path} cannot be opened: {error.strerror or error}") from error
    with raw:
        try:
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if path.lower().endswith(".gz") else raw  # type: ignore
            with nullcontext(file) if encoding == UTF_8 else in_utf_8(file, encoding) as text:
                yield text
        except UnicodeError as error:
            raise BadInputError(f"{path} is not in {encoding} ({error}): say what it is in") from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInputError(f"{path} is not a complete gzip file ({error}): compress it again") from error


def read_line(file: IO[bytes], number: int, path: str) -> bytes:
    """Returns the next line with its end, empty at the end of the file.

    Raises:
        BadInputError: It is longer than ``MOST_LINE_BYTES``.
    """
    line = file.readline(MOST_LINE_BYTES + 1)
    if len(line) > MOST_LINE_BYTES:
        most = f"{MOST_LINE_BYTES:,} bytes"
        raise BadInputError(f"line {number} of {path} is longer than {most}: is this the right file?")
    return line


def digest_file(path: str) -> str:
    """Returns the SHA-256 of a file as it is stored, in hex digits."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(pattern: str) -> list[str]:
    """Returns the files that match, sorted; none is no error."""
    return sorted(item.path for item in FileSystems.match([pattern])[0].metadata_list)
