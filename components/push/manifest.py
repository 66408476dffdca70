"""The manifest of a pushed version: its files, each with its SHA-256."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import BadInputError
from components.files import sha256_of

MANIFEST = "MANIFEST.json"
_GRAPH = ("saved_model.pb", "fingerprint.pb")


def make_manifest(version: int, own: dict[str, str], extra: dict[str, str]) -> str:
    """Returns the text of a manifest, from the SHA-256 by name of a SavedModel's files and of what is put beside them.

    Its ``digest`` is of the SavedModel's ``own`` files alone.
    """
    manifest = {
        "version": version,
        "digest": digest_of(own),
        "files": own | extra,
        "extra": sorted(extra),
        "pushed_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(manifest, indent=1)


def read_manifest(version_dir: Path) -> dict[str, Any]:
    """Returns the manifest of a pushed version; empty for one that was put there by hand.

    Raises:
        BadInputError: It is damaged.
    """
    path = version_dir / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise BadInputError(f"{path} is damaged: push that model again, and delete the damaged version")
    return manifest


def verify(version_dir: Path) -> None:
    """Holds a pushed version against its manifest.

    Raises:
        BadInputError: A file is missing, changed or not listed, of which the first by name is told; there is no
            manifest, or a link; or something cannot be read.
    """
    try:
        problem = find_damage(version_dir)
    except OSError as error:
        raise BadInputError(f"{version_dir} cannot be read ({error.strerror}: {error.filename}): mend that") from error
    if problem:
        raise BadInputError(f"{version_dir} is not what was pushed ({problem}): use another version, or push again")


def find_damage(version_dir: Path) -> str | None:
    """Returns what is wrong with the first file that is not as the manifest says, or None.

    Raises:
        BadInputError: The manifest is damaged, or there is a link.
        OSError: Something cannot be read.
    """
    listed = read_manifest(version_dir).get("files")
    if listed is None:
        return f"{MANIFEST} is missing"
    found = {name: path for name, path in walk(version_dir) if name != MANIFEST and not path.is_dir()}
    for name in sorted({*listed, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in listed:
            return f"{name} is not in {MANIFEST}"
        if sha256_of(found[name]) != listed[name]:
            return f"{name} has changed"
    return None


def hash_model(model: Path, extra: Iterable[str] = ()) -> dict[str, str]:
    """Returns the SHA-256 of each of a SavedModel's files by name; ``extra`` are names that will stand beside them.

    Raises:
        BadInputError: There is no model, it holds a link, or a name that is needed.
        OSError: Something in it cannot be read.
        ValueError: A name in ``extra`` is more than a name.
    """
    for name in extra:
        if name != os.path.basename(name) or name.startswith(".") or name in ("", MANIFEST):
            raise ValueError(f"{name!r} is no name for a file beside a model")
    if not model.is_dir():
        raise BadInputError(f"there is no model at {model}: train one first")
    own = hash_files(model)
    if not own:
        raise BadInputError(f"the model at {model} holds no files: train it again")
    for name in (MANIFEST, *extra):
        if name in own:
            raise BadInputError(f"the model at {model} holds a file {name}, which every push adds: name it otherwise")
    return own


def hash_files(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a directory by its name from there. Errors are those of ``walk``."""
    return {name: sha256_of(path) for name, path in walk(directory) if not path.is_dir()}


def digest_of(files: dict[str, str]) -> str:
    """Returns one digest for the SHA-256 of many files by name."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def identity_of(files: dict[str, str]) -> str:
    """Returns one digest of what a model has learnt, from the SHA-256 of a SavedModel's files by name.

    That is all but its graph, whose bytes are others each time it is exported.
    """
    return digest_of({name: digest for name, digest in files.items() if name not in _GRAPH})


def walk(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yields every directory and file below a directory with its name from there; a directory before what it holds.

    ``Path.rglob`` passes over what it may not read: that would be missing from a copy and from its manifest alike.

    Raises:
        BadInputError: There is a link, a pipe or a device.
        OSError: Something cannot be read.
    """
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = Path(entry.path)
            name = path.relative_to(directory).as_posix()
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise BadInputError(f"{directory} holds {name}, which is no plain file: put the file itself there")
            yield name, path
