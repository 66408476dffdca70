"""Reads the Examples artifacts that ingest writes."""

import os
from collections.abc import Iterator

import tensorflow as tf
from tfx.dsl.io import fileio

from components import features


def split_files(uri: str, split: str) -> list[str]:
    """Returns the TFRecord files of one split, in name order."""
    directory = os.path.join(uri, f"Split-{split}")
    return [os.path.join(directory, name) for name in sorted(fileio.listdir(directory))]


def read_texts(uri: str, split: str) -> Iterator[tuple[bytes, int]]:
    """Yields text and class id of every row of a split."""
    spec = {features.TEXT: tf.io.FixedLenFeature([], tf.string), features.LABEL: tf.io.FixedLenFeature([], tf.int64)}
    files = split_files(uri, split)
    compression = "GZIP" if files and files[0].endswith(".gz") else ""
    for batch in tf.data.TFRecordDataset(files, compression_type=compression).batch(4096):
        parsed = tf.io.parse_example(batch, spec)
        yield from zip(parsed[features.TEXT].numpy(), parsed[features.LABEL].numpy().tolist(), strict=True)
