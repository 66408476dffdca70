"""Looks at the files of a model before anything of it is read: a model is a plain SavedModel directory, or none.

A SavedModel from elsewhere can bring more than a graph: a Keras archive whose layers are code, a pickle beside the
weights, a link to a file of this machine. What TensorFlow needs has few names; everything else is refused.
What the graph itself may do is for ``components.push.model_graph``.
"""

import os
import re
import stat
from collections.abc import Iterator, Set
from pathlib import Path

from components.errors import BadInputError
from components.file_names import CLASSES_FILE

MOST_FILES = 1_000
MOST_DEPTH = 8
MOST_BYTES = 8 << 30
"""Of all files together."""
MOST_GRAPH_BYTES = 256 << 20
"""TensorFlow parses the graph whole; weights belong into variables."""
_MOST_TEXT_BYTES = 16 << 20
_MOST_ASSET_BYTES = 1 << 30
_GRAPH = "saved_model.pb"
_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._+-]{0,200})"
_TEXT = r"(?:\.(?:txt|vocab|csv|tsv|json|jsonl|model|spm))?(?:_\d+)?"
# Place to the most bytes it may have. Keras's own metadata, which can carry code, is left out on purpose.
_ALLOWED = (
    (re.compile(r"saved_model\.pb"), MOST_GRAPH_BYTES),
    (re.compile(r"fingerprint\.pb"), _MOST_TEXT_BYTES),
    (re.compile(r"variables/variables\.index"), _MOST_TEXT_BYTES),
    (_SHARD, MOST_BYTES),
    (re.compile(rf"assets/(?:{_NAME}/)*[A-Za-z0-9_-]{{1,200}}{_TEXT}"), _MOST_ASSET_BYTES),
    (re.compile(r"assets\.extra/(?:classes\.txt|tf_serving_warmup_requests)"), _MOST_TEXT_BYTES),
    (re.compile(r"MANIFEST\.json|MODEL_CARD\.md"), _MOST_TEXT_BYTES),
)
# What code and archives begin with, and the place of it; a vocabulary begins with a word, a SentencePiece model with
# a line feed.
_SIGNATURES = (
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"1AY&SY", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (257, b"ustar\x00", "a tar archive"),
    (257, b"ustar  \x00", "a tar archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a numpy array"),
    *((0, bytes((0x80, protocol)), "a pickle") for protocol in range(2, 6)),
)
_HEAD_BYTES = 512


def check_model_files(directory: Path) -> None:
    """Refuses whatever is not a plain SavedModel directory, by names, kinds and sizes of its files.

    Of the files only the first bytes of assets are read, and those last. An archive is refused as it is; nothing is
    ever unpacked.

    Raises:
        BadInputError: Not a directory; a file that has no place in a SavedModel, a link or a device; more than
            ``MOST_FILES`` files, ``MOST_BYTES`` bytes, or one that is too large; no ``saved_model.pb``, or variables
            that are not whole; or an asset that is code or an archive.
    """
    name = str(directory)
    try:
        sizes = dict(_walk(directory, name))
        _check_sizes(sizes, name)
        _check_whole(sizes.keys(), name)
        for place in sizes:
            if place.startswith("assets/"):
                _check_content(directory / place, place, name)
    except OSError as error:
        raise BadInputError(f"{name} cannot be read ({error.strerror}): see to its owner and permissions") from error


def read_classes(directory: Path) -> tuple[str, ...]:
    """Returns the class names of a SavedModel, in label-id order.

    Raises:
        BadInputError: It carries none that can be read.
    """
    places = [directory / place / CLASSES_FILE for place in ("assets.extra", "assets")]
    try:
        return tuple(next(filter(Path.is_file, places), places[0]).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{directory} has no assets.extra/{CLASSES_FILE} that can be read: train it again"
        ) from error


def _walk(directory: Path, name: str) -> Iterator[tuple[str, int]]:
    """Yields place and size of each file."""
    try:
        mode = directory.lstat().st_mode
    except FileNotFoundError as error:
        raise BadInputError(f"{name} is not there: name the directory of a SavedModel") from error
    if not stat.S_ISDIR(mode):
        raise BadInputError(
            f"{name} is {_kind(mode)}, not a directory: a model is the directory of a SavedModel, archives and other "
            "formats are not opened"
        )
    waiting, seen = [("", 0)], 0
    while waiting:
        place, depth = waiting.pop()
        with os.scandir(directory / place) as entries:
            for entry in entries:
                seen += 1
                if seen > MOST_FILES or depth >= MOST_DEPTH:
                    raise _refused(name, f"it has more than {MOST_FILES:,} files, or directories {MOST_DEPTH} deep")
                inner, status = f"{place}{entry.name}", entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append((f"{inner}/", depth + 1))
                elif not stat.S_ISREG(status.st_mode):
                    raise _refused(name, f"{inner[:200]!a} in it is {_kind(status.st_mode)}")
                elif status.st_nlink > 1:
                    raise _refused(name, f"{inner[:200]!a} in it is a hard link to a file that has another name too")
                else:
                    yield inner, status.st_size


def _check_sizes(sizes: dict[str, int], name: str) -> None:
    for place, size in sizes.items():
        most = next((most for pattern, most in _ALLOWED if pattern.fullmatch(place)), None)
        if most is None:
            raise _refused(name, f"{place[:200]!a} has no place in a SavedModel")
        if size > most:
            raise _refused(name, f"{place} has {size:,} bytes, more than {most:,}")
    total = sum(sizes.values())
    if total > MOST_BYTES:
        raise _refused(name, f"its files have {total:,} bytes, more than {MOST_BYTES:,}")


def _check_whole(places: Set[str], name: str) -> None:
    if _GRAPH not in places:
        raise _refused(name, f"it has no {_GRAPH}")
    shards = {match.groups() for match in map(_SHARD.fullmatch, places) if match}
    # All of one set: the first of three is not whole, and neither are two sets.
    one_set = {(f"{number:05}", f"{len(shards):05}") for number in range(len(shards))}
    if shards != one_set or bool(shards) != (_INDEX in places):
        raise _refused(name, "its variables are not whole")


def _check_content(path: Path, place: str, name: str) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for offset, signature, what in _SIGNATURES:
        if head[offset:].startswith(signature):
            raise _refused(name, f"{place} is {what}")


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    return "a file" if stat.S_ISREG(mode) else "neither a file nor a directory"


def _refused(name: str, why: str) -> BadInputError:
    return BadInputError(f"{name} is no plain SavedModel: {why}; train it again, or choose another model")
