"""Pushes a model so that a server sees all of it or nothing.

Layout of a model base: ``<base>/<version>/`` with the SavedModel and ``MANIFEST.json``, and
``<base>/versions.json``, the numbers ever given out. Versions count up from 1 and are never used twice.
"""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import filelock
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Verdict

MANIFEST = "MANIFEST.json"
LEDGER = "versions.json"
_TEMPORARY = ".tmp-"
_LOCK_SECONDS = 60


@dataclass(frozen=True)
class Pushed:
    """A model in a model base. ``new`` is False where the same model stood there already."""

    version: int
    path: Path
    digest: str
    new: bool


def push_model(model: Path, base: Path) -> Pushed:
    """Copies a SavedModel to the next version of a model base.

    The copy is made beside its place, listed with a SHA-256 per file in a manifest, flushed to disk, and
    renamed. A model that is the newest version already is not pushed again.

    Args:
        model: SavedModel directory.
        base: Model base; made if missing.

    Returns:
        The version that holds the model now.
    """
    base.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(base / ".lock", timeout=_LOCK_SECONDS):
        for leftover in base.glob(f"{_TEMPORARY}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        files = {str(path.relative_to(model)): _sha256(path) for path in sorted(model.rglob("*")) if path.is_file()}
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        present = present_versions(base)
        if present and read_manifest(base / str(present[-1])).get("digest") == digest:
            return Pushed(present[-1], base / str(present[-1]), digest, new=False)
        given = given_versions(base)
        version = max([0, *present, *given]) + 1
        temporary = base / f"{_TEMPORARY}{version}-{uuid.uuid4().hex}"
        shutil.copytree(model, temporary)
        manifest = {
            "version": version,
            "digest": digest,
            "files": files,
            "pushed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _flush(temporary)
        _write_atomically(base / LEDGER, json.dumps({"given": sorted({*given, version})}))
        os.rename(temporary, base / str(version))
        _flush_directory(base)
    return Pushed(version, base / str(version), digest, new=True)


def present_versions(base: Path) -> list[int]:
    """Returns the versions that stand in a model base, lowest first."""
    return sorted(int(path.name) for path in base.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def given_versions(base: Path) -> list[int]:
    """Returns every version ever given out in a model base, lowest first."""
    ledger = base / LEDGER
    return json.loads(ledger.read_text(encoding="utf-8"))["given"] if ledger.exists() else []


def removed_versions(base: Path) -> list[int]:
    """Returns the versions that were pushed once and are gone, lowest first."""
    return sorted(set(given_versions(base)) - set(present_versions(base)))


def read_manifest(version_dir: Path) -> dict:
    """Returns the manifest of a pushed version; empty for one that was put there by hand."""
    path = version_dir / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@component
def Pusher(
    model: InputArtifact[standard_artifacts.Model],
    verdict: InputArtifact[Verdict],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    base: Parameter[str],
    removed: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Pushes the model that the gate let pass.

    ``verdict`` is an input because a model without one must not be pushed. ``removed`` lists versions that
    are gone from the base, so that an answer from the cache never names a directory that is no longer there.
    """
    pushed = push_model(Path(path_utils.serving_model_path(model.uri)), Path(base))
    pushed_model.set_string_custom_property("pushed_destination", str(pushed.path))
    pushed_model.set_string_custom_property("pushed_version", str(pushed.version))
    pushed_model.set_int_custom_property("pushed", 1)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    temporary.write_text(text, encoding="utf-8")
    _flush_file(temporary)
    os.replace(temporary, path)


def _flush(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_dir():
            _flush_directory(path)
        else:
            _flush_file(path)
    _flush_directory(directory)


def _flush_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
