"""Pushes a model to an object store, through TensorFlow's file systems (``gs://``, and others with their plugins).

An object store has no rename and no lock. So the manifest is written last of all, and a version without one does not
exist; a number is claimed by an object of its own in ``<base>/.claims/``, named by the number, the time in seconds
and a random part, which stays when the version is gone.
"""

import contextlib
import hashlib
import posixpath
import random
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from components.errors import BadInputError
from components.push.manifest import (
    MANIFEST,
    changed_while_copied,
    digest_of,
    hash_model,
    make_manifest,
    parse_manifest,
)
from components.push.model_base import parse_version

CLAIMS = ".claims"
# Another pusher may still be at work on what is younger.
ABANDONED_SECONDS = 3600.0
_CLAIM = re.compile(r"(?P<version>[0-9]{1,19})-(?P<seconds>[0-9]{1,12})-[0-9a-f]{32}")
_CLAIM_ATTEMPTS = 20
_MOST_PAUSE_SECONDS = 0.5
_CHUNK = 8 * 2**20
# TensorFlow Serving does not know of manifests: without this file it does not take a directory for a model.
_GRAPH = "saved_model.pb"
_REASON_CHARACTERS = 200
_ERRORS = (OSError, tf.errors.OpError)


@dataclass(frozen=True)
class RemotePushed:
    """A model in an object store. ``new`` is False where the same model stood there already."""

    version: int
    path: str
    digest: str
    new: bool


def push_remote(model: Path, base: str, extra: Mapping[str, str] | None = None) -> RemotePushed:
    """Copies a SavedModel to the next version of a model base in an object store.

    Args:
        model: SavedModel directory on this machine.
        base: Such as ``gs://bucket/models/ag_news``; the store must list at once what was written to it.
        extra: Texts by file name that go beside the model, such as its card. They do not make it another model.

    Returns:
        The version that holds the model now.

    Raises:
        BadInputError: There is no model, it holds a link or changes while it is copied, or the store is unknown,
            refuses or does not keep what it was given. What was pushed before is unchanged.
        ValueError: A name in ``extra`` is more than a name.
    """
    base = base.rstrip("/")
    with _told(base):
        own = hash_model(model, extra or {})
        digest = digest_of(own)
        _remove_abandoned(base)
        present = remote_versions(base)
        if present and _manifest(base, present[-1]).get("digest") == digest:
            return RemotePushed(present[-1], f"{base}/{present[-1]}", digest, new=False)
        version = _claim(base)
        place = f"{base}/{version}"
        try:
            _upload(model, place, own, dict(extra or {}), version)
        except BaseException:
            # Without its manifest it does not exist; what stays is removed by a later push.
            with contextlib.suppress(*_ERRORS):
                tf.io.gfile.rmtree(place)
            raise
    return RemotePushed(version, place, digest, new=True)


def remote_versions(base: str) -> list[int]:
    """Returns the versions in an object store that have a manifest, lowest first."""
    return [number for number in _numbers(base) if tf.io.gfile.exists(f"{base}/{number}/{MANIFEST}")]


def given_remote_versions(base: str) -> list[int]:
    """Returns every version ever claimed in an object store or standing there, lowest first."""
    return sorted({*_claims(base), *_numbers(base)})


def removed_remote_versions(base: str) -> list[int]:
    """Returns the versions that were given out once in an object store and are gone, lowest first.

    Raises:
        BadInputError: The store is unknown or refuses.
    """
    base = base.rstrip("/")
    with _told(base, "the models were not found at"):
        return sorted(set(given_remote_versions(base)) - set(remote_versions(base)))


def _claim(base: str) -> int:
    """Takes a number that nobody else has.

    Of two who claim one number, whoever wrote last sees the other's claim, since both write before they look. So
    nobody takes a number without being alone there, and whoever is not alone goes on to a higher one.
    """
    for _ in range(_CLAIM_ATTEMPTS):
        version = max(given_remote_versions(base), default=0) + 1
        tf.io.gfile.makedirs(f"{base}/{CLAIMS}")
        _write(f"{base}/{CLAIMS}/{version}-{int(time.time())}-{uuid.uuid4().hex}", b"")
        if len(_claims(base).get(version, [])) == 1:
            return version
        time.sleep(random.uniform(0, _MOST_PAUSE_SECONDS))  # noqa: S311  nothing secret
    raise BadInputError(f"{base} is claimed by other pushes again and again: run again when they are done")


def _claims(base: str) -> dict[int, list[int]]:
    """Returns the times, in seconds since 1970, at which each number was claimed."""
    found: dict[int, list[int]] = {}
    for name in _children(f"{base}/{CLAIMS}"):
        if match := _CLAIM.fullmatch(name):
            found.setdefault(int(match["version"]), []).append(int(match["seconds"]))
    return found


def _upload(model: Path, place: str, own: dict[str, str], extra: dict[str, str], version: int) -> None:
    sizes: dict[str, int] = {}
    for name in sorted(own, key=lambda name: (name == _GRAPH, name)):
        digest, sizes[name] = _copy(model / name, f"{place}/{name}")
        if digest != own[name]:
            raise changed_while_copied(model)
    if hash_model(model, extra) != own:
        raise changed_while_copied(model)
    for name, text in extra.items():
        sizes[name] = _write(f"{place}/{name}", text.encode())
    for name, size in sizes.items():
        found = tf.io.gfile.stat(f"{place}/{name}").length
        if found != size:
            raise BadInputError(f"{place}/{name} has {found:,} bytes and not the {size:,} that were sent: push again")
    beside = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in extra.items()}
    _write(f"{place}/{MANIFEST}", make_manifest(version, own, beside).encode())


def _copy(source: Path, target: str) -> tuple[str, int]:
    """Copies a file and returns SHA-256 and size of what was sent."""
    digest, size = hashlib.sha256(), 0
    tf.io.gfile.makedirs(posixpath.dirname(target))
    with source.open("rb") as file, tf.io.gfile.GFile(target, "wb") as out:
        while chunk := file.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _write(target: str, content: bytes) -> int:
    with tf.io.gfile.GFile(target, "wb") as out:
        out.write(content)
    return len(content)


def _remove_abandoned(base: str) -> None:
    """Removes what pushes left that began over an hour ago. A model that was put there by hand has no claim."""
    claims, whole = _claims(base), remote_versions(base)
    for version in _numbers(base):
        if version in claims and version not in whole and time.time() - max(claims[version]) > ABANDONED_SECONDS:
            tf.io.gfile.rmtree(f"{base}/{version}")


def _manifest(base: str, version: int) -> dict[str, Any]:
    place = f"{base}/{version}/{MANIFEST}"
    with tf.io.gfile.GFile(place, "rb") as file:
        return parse_manifest(file.read(), place)


def _numbers(base: str) -> list[int]:
    return sorted(version for name in _children(base) if (version := parse_version(name)) is not None)


def _children(place: str) -> list[str]:
    try:
        # Some stores end the name of a prefix with a slash.
        return [name.rstrip("/") for name in tf.io.gfile.listdir(place)]
    except tf.errors.NotFoundError:
        return []


@contextlib.contextmanager
def _told(base: str, what: str = "the model was not pushed to") -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        why = " ".join(str(getattr(error, "message", None) or error).split())[:_REASON_CHARACTERS]
        raise BadInputError(
            f"{what} {base} ({why}): see that the store is known to TensorFlow and lets you write"
        ) from error
