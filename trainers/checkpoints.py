"""A checkpoint after every epoch, so that a killed fit goes on where it stopped."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from safetensors.numpy import load, save

_HEADER_BYTES = 8
_DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoints:
    """One file, whole or not there: a SHA-256, then groups of arrays and a small state in the safetensors format."""

    def __init__(self, directory: str, *identity: Any):
        """Names the file.

        Args:
            directory: Where; made if missing. May be on an object store.
            identity: Everything that must be equal for a checkpoint to be resumed, as JSON values.
        """
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self._directory = directory
        self._path = f"{directory}/{digest}.checkpoint"

    def write(self, groups: dict[str, Sequence[np.ndarray]], state: dict[str, Any]) -> None:
        """Replaces the checkpoint."""
        tensors = {
            # Not ``ascontiguousarray``, which makes a vector of a number.
            f"{name}/{number:05d}": np.asarray(array, order="C")
            for name, arrays in groups.items()
            for number, array in enumerate(arrays)
        }
        content = save(tensors, {"state": json.dumps(state), "groups": json.dumps(list(groups))})
        tf.io.gfile.makedirs(self._directory)
        part = f"{self._path}.part"
        with tf.io.gfile.GFile(part, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        tf.io.gfile.rename(part, self._path, overwrite=True)

    def read(self) -> tuple[dict[str, list[np.ndarray]], dict[str, Any]] | None:
        """Returns groups and state of the newest checkpoint, or None if there is none.

        Raises:
            ValueError: The file is damaged.
        """
        if not tf.io.gfile.exists(self._path):
            return None
        with tf.io.gfile.GFile(self._path, "rb") as file:
            content = file.read()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"checkpoint {self._path} is damaged (its SHA-256 is another): delete it and run again")
        tensors = load(content)
        length = int.from_bytes(content[:_HEADER_BYTES], "little")
        metadata = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + length])["__metadata__"]
        groups: dict[str, list[np.ndarray]] = {name: [] for name in json.loads(metadata["groups"])}
        for name in sorted(tensors):
            groups[name.rpartition("/")[0]].append(tensors[name])
        return groups, json.loads(metadata["state"])

    def remove(self) -> None:
        """Deletes the checkpoint of a fit that is done."""
        if tf.io.gfile.exists(self._path):
            tf.io.gfile.remove(self._path)
