"""A checkpoint after every epoch, so that a killed fit goes on where it stopped."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from safetensors import SafetensorError
from safetensors.numpy import load, save

_HEADER_BYTES = 8


class Checkpoints:
    """One file in the safetensors format: groups of arrays and a small JSON state. Written whole or not at all."""

    def __init__(self, directory: str, *identity: Any):
        """Names the file.

        Args:
            directory: Where; made if missing. May be on an object store.
            identity: Everything that must be equal for a checkpoint to be resumed, as JSON values.
        """
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self._directory = directory
        self._path = f"{directory}/{digest}.safetensors"

    def write(self, groups: dict[str, Sequence[np.ndarray]], state: dict[str, Any]) -> None:
        """Replaces the checkpoint."""
        tensors = {
            f"{name}/{number:05d}": np.ascontiguousarray(array)
            for name, arrays in groups.items()
            for number, array in enumerate(arrays)
        }
        tf.io.gfile.makedirs(self._directory)
        part = f"{self._path}.part"
        with tf.io.gfile.GFile(part, "wb") as file:
            file.write(save(tensors, {"state": json.dumps(state)}))
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
        try:
            tensors = load(content)
            length = int.from_bytes(content[:_HEADER_BYTES], "little")
            state = json.loads(json.loads(content[_HEADER_BYTES : _HEADER_BYTES + length])["__metadata__"]["state"])
        except (SafetensorError, ValueError, KeyError) as error:
            raise ValueError(f"checkpoint {self._path} is damaged ({error}): delete it and run again") from error
        groups: dict[str, list[np.ndarray]] = {}
        for name in sorted(tensors):
            groups.setdefault(name.rpartition("/")[0], []).append(tensors[name])
        return groups, state

    def remove(self) -> None:
        """Deletes the checkpoint of a fit that is done."""
        if tf.io.gfile.exists(self._path):
            tf.io.gfile.remove(self._path)
