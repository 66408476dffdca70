"""Batches of similar length from transformed examples.

AG News averages 45 words a row; padding every row to a fixed 256 spends most of the work on padding. Here
rows are held in memory as one flat array of ids (4 bytes a token), and each batch is padded to its own
longest row.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from components import features

_READ_BATCH = 4096
_LENGTH_JITTER = 3.0
_PREFETCH = 8


Spec: TypeAlias = "tf.TensorSpec | tuple[tf.TensorSpec, ...]"
Batch: TypeAlias = tuple[np.ndarray | tuple[np.ndarray, ...], np.ndarray]
"""Inputs, which a model takes as they are, and labels."""


class Split(Protocol):
    """Rows with labels that a model is fitted to; ``spec`` describes one batch of inputs."""

    spec: ClassVar[Spec]

    def __len__(self) -> int: ...

    def batches(self, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yields inputs and labels of one pass over all rows, shuffled by ``rng`` if there is one."""


@dataclass(frozen=True)
class Rows:
    """A split in memory: row ``i`` is ``ids[starts[i]:starts[i + 1]]``.

    Attributes:
        ids: int32 [tokens].
        starts: int64 [rows + 1].
        labels: int32 [rows].
    """

    spec: ClassVar[Spec] = tf.TensorSpec([None, None], tf.int32)

    ids: np.ndarray
    starts: np.ndarray
    labels: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, int64 [rows]."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yields ``pad``-ded batches of similar length."""
        for batch in length_batches(self.lengths, batch_size, rng):
            yield pad(self, batch)


@dataclass(frozen=True)
class Encoded:
    """A split that an encoder has run over.

    Attributes:
        vectors: float32 [rows, width].
        rows: What was encoded.
    """

    spec: ClassVar[Spec] = (tf.TensorSpec([None, None], tf.float32), Rows.spec)

    vectors: np.ndarray
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yields vectors with ``pad``-ded ids, batches of similar length."""
        for batch in length_batches(self.rows.lengths, batch_size, rng):
            ids, labels = pad(self.rows, batch)
            yield (self.vectors[batch], ids), labels


def read_rows(pattern: str) -> Rows:
    """Reads transformed examples with ``token_ids`` and ``label`` from TFRecord files.

    Args:
        pattern: Glob of the files, plain or with ``.gz``.

    Raises:
        FileNotFoundError: No file matches.
    """
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise FileNotFoundError(f"no transformed examples at {pattern}")
    spec = {features.TOKEN_IDS: tf.io.VarLenFeature(tf.int64), features.LABEL: tf.io.FixedLenFeature([], tf.int64)}
    compression = "GZIP" if files[0].endswith(".gz") else ""
    ids, lengths, labels = [], [], []
    for batch in tf.data.TFRecordDataset(files, compression_type=compression).batch(_READ_BATCH):
        parsed = tf.io.parse_example(batch, spec)
        tokens = parsed[features.TOKEN_IDS]
        ids.append(tokens.values.numpy().astype(np.int32))
        lengths.append(np.bincount(tokens.indices.numpy()[:, 0], minlength=len(batch)))
        labels.append(parsed[features.LABEL].numpy().astype(np.int32))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Rows(np.concatenate(ids), starts, np.concatenate(labels))


def split_pattern(uris: list[str], split: str) -> str:
    """Returns the glob of one split's files, taken from the globs of all splits TFX hands to a trainer."""
    (found,) = [uri for uri in uris if os.path.basename(os.path.dirname(uri)) == f"Split-{split}"]
    return found


def length_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Groups rows of similar length.

    Args:
        lengths: int [rows].
        batch_size: Rows per batch; only one batch may be smaller.
        rng: Shuffles batches, and rows between neighbouring lengths, anew on every call; None keeps the
            order of lengths.

    Returns:
        Row numbers per batch; every row is in exactly one.
    """
    jitter = rng.uniform(-_LENGTH_JITTER, _LENGTH_JITTER, len(lengths)) if rng else 0.0
    order = np.argsort(lengths + jitter, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng:
        rng.shuffle(batches)
    return batches


def pad(rows: Rows, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids, int32 [batch, longest row, at least 1], padded at the end with 0, and labels, int32 [batch]."""
    lengths = rows.lengths[batch]
    width = max(1, int(lengths.max()))
    padded = np.full((len(batch), width), features.PADDING_ID, np.int32)
    padded[np.arange(width) < lengths[:, None]] = np.concatenate(
        [rows.ids[start:end] for start, end in zip(rows.starts[batch], rows.starts[batch + 1], strict=True)]
    )
    return padded, rows.labels[batch]


def to_dataset(split: Split, batch_size: int, seed: int | None = None, epoch: int = 1) -> tf.data.Dataset:
    """Returns a dataset of a split's batches, reshuffled every epoch if there is a seed.

    Args:
        split: Rows.
        batch_size: Rows per batch.
        seed: Of the order.
        epoch: The first; every pass after it is the next.
    """
    epochs = itertools.count(epoch)

    def shuffled() -> Iterator[Batch]:
        return split.batches(batch_size, None if seed is None else np.random.default_rng([seed, next(epochs)]))

    signature = (split.spec, tf.TensorSpec([None], tf.int32))
    batches = -(-len(split) // batch_size)
    dataset = tf.data.Dataset.from_generator(shuffled, output_signature=signature)
    # There is nothing to tune, and an iterator that has run for a while waits up to twenty seconds at its end for the
    # tuner's thread to wake.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(_PREFETCH).with_options(options)
