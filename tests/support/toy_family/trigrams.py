"""Text to hashed character trigrams, in the graph."""

from typing import Any

import tensorflow as tf

from components import features


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Returns ``token_ids``, sparse int64 [N, (trigrams)] from 1 to the number of buckets, and the label."""
    characters = tf.strings.unicode_split(tf.strings.lower(tf.squeeze(inputs[features.TEXT], axis=1)), "UTF-8")
    trigrams = tf.strings.ngrams(characters, 3, separator="")
    hashed = tf.strings.to_hash_bucket_fast(trigrams.flat_values, custom_config["buckets"]) + 1
    return {features.TOKEN_IDS: trigrams.with_flat_values(hashed).to_sparse(), features.LABEL: inputs[features.LABEL]}
