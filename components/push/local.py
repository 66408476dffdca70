"""Pushes a model so that a server sees all of it or nothing.

Layout of a model base: ``<base>/<version>/`` with the SavedModel and ``MANIFEST.json``, and
``<base>/versions.json``, the numbers ever given out. Versions count up from 1 and are never used twice.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import BadInputError
from components.files import TEMPORARY, sha256_of
from components.push.manifest import (
    MANIFEST,
    digest_of,
    find_damage,
    hash_files,
    hash_model,
    make_manifest,
    read_manifest,
    walk,
)
from components.push.model_base import given_versions, locked, next_version, present_versions, record_versions, sweep

# Servers run as another user (KServe's is 1000), so everybody may read, whatever this process's umask.
_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
}


@dataclass(frozen=True)
class Pushed:
    """A model in a model base. ``new`` is False where the same model stood there already."""

    version: int
    path: Path
    digest: str
    new: bool


def push_model(model: Path, base: Path, extra: Mapping[str, str] | None = None) -> Pushed:
    """Copies a SavedModel to the next version of a model base.

    The copy is made beside its place, compared with the source, listed with a SHA-256 per file in a manifest,
    flushed to disk, and renamed. A model that is the newest version already, unharmed, is not pushed again.

    Args:
        model: SavedModel directory.
        base: Model base; made if missing.
        extra: Texts by file name that go beside the model, such as its card. They do not make it another model.

    Returns:
        The version that holds the model now.

    Raises:
        BadInputError: There is no model, it holds a link, it changes while it is copied, the disk is full or cannot
            be written to, or another push does not end. The versions that stood in the base still do, unchanged.
        ValueError: A name in ``extra`` is more than a name.
    """
    try:
        return _push(model, base, dict(extra or {}))
    except OSError as error:
        why = error.strerror or str(error)
        where = f" of {error.filename}" if error.filename else ""
        remedy = _REMEDIES.get(error.errno or 0, "see that it can be read and written")
        raise BadInputError(
            f"the model was not pushed to {base} ({why}{where}): {remedy} and run again; older versions are untouched"
        ) from error


def _push(model: Path, base: Path, extra: dict[str, str]) -> Pushed:
    if not base.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        base.chmod(_DIRECTORY_MODE)
    with locked(base):
        sweep(base)
        own = hash_model(model, extra)
        digest = digest_of(own)
        present = present_versions(base)
        if present and _holds(base / str(present[-1]), digest):
            return Pushed(present[-1], base / str(present[-1]), digest, new=False)
        version = next_version(base, [*present, *given_versions(base)])
        temporary = base / f"{TEMPORARY}{version}-{uuid.uuid4().hex}"
        try:
            _copy(model, temporary)
            if hash_files(temporary) != own:
                raise BadInputError(
                    f"the model at {model} changed while it was copied: push it again when nothing writes there"
                )
            for name, text in extra.items():
                (temporary / name).write_text(text, encoding="utf-8")
            beside = {name: sha256_of(temporary / name) for name in extra}
            (temporary / MANIFEST).write_text(make_manifest(version, own, beside), encoding="utf-8")
            _publish(temporary)
            # The versions that stand there too, should the ledger have been lost.
            record_versions(base, [*present, version])
            os.rename(temporary, base / str(version))
        except BaseException:
            # What cannot be removed now is removed by the next push, and the first error is the one to tell.
            with contextlib.suppress(OSError):
                sweep(base)
            raise
        try:
            _flush_directory(base)
        except OSError as error:
            raise BadInputError(
                f"version {version} is in {base}, but a power cut may still lose it ({error.strerror}): check that disk"
            ) from error
    return Pushed(version, base / str(version), digest, new=True)


def _holds(version_dir: Path, digest: str) -> bool:
    """Whether a version is the model with that digest, and still what was pushed."""
    try:
        return read_manifest(version_dir).get("digest") == digest and find_damage(version_dir) is None
    except BadInputError:
        # A damaged version does not answer for the model: it is pushed as the next one.
        return False


def _copy(model: Path, target: Path) -> None:
    target.mkdir()
    for name, path in walk(model):
        if path.is_dir():
            (target / name).mkdir()
        else:
            # A file that has become a link meanwhile is copied as one, and found when the copy is compared.
            shutil.copyfile(path, target / name, follow_symlinks=False)


def _publish(directory: Path) -> None:
    """Lets everybody read a directory, and brings it to the disk."""
    for _, path in walk(directory):
        if path.is_dir():
            path.chmod(_DIRECTORY_MODE)
            _flush_directory(path)
        else:
            path.chmod(_FILE_MODE)
            with path.open("rb") as file:
                os.fsync(file.fileno())
    directory.chmod(_DIRECTORY_MODE)
    _flush_directory(directory)


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
