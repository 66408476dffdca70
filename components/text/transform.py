"""The Transform node's ``preprocessing_fn``: text to token ids of variable length."""

import hashlib
import os
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.io import fileio

from components import features
from components.errors import BadInputError
from components.text.words import tokenize

VOCABULARY = "vocabulary"


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Turns raw features into token ids and passes the label through.

    Args:
        inputs: ``text`` string [N, 1] and ``label`` int64 [N, 1].
        custom_config: ``vocab_size``, ids in all, padding and out-of-vocabulary included; ``min_count``,
            train rows' occurrences below which a word is out of vocabulary; ``max_tokens`` per text; ``clean``, whether
            entities are resolved and markup is dropped before;
            where a model is trained further, ``vocabulary``, the path of its own, and ``vocabulary_digest``.

    Returns:
        ``token_ids``, sparse int64 [N, (tokens)], without padding; ``label``, int64 [N, 1].
    """
    text = tf.squeeze(inputs[features.TEXT], axis=1)
    tokens = tokenize(text, custom_config["max_tokens"], custom_config["clean"]).to_sparse()
    if "vocabulary" in custom_config:
        vocabulary = _given_vocabulary(custom_config["vocabulary"], custom_config["vocabulary_digest"])
    else:
        vocabulary = tft.vocabulary(
            tokens,
            # With weights, here all one, tokens are counted per batch inside the graph; without, every single token
            # of the corpus goes through Beam.
            weights=tf.ones_like(tokens.values, tf.float32),
            top_k=custom_config["vocab_size"] - features.RESERVED_IDS,
            frequency_threshold=custom_config["min_count"] if custom_config["min_count"] > 1 else None,
            vocab_filename=VOCABULARY,
        )
    ids = tft.apply_vocabulary(tokens, vocabulary, default_value=features.OOV_ID - features.RESERVED_IDS)
    return {
        features.TOKEN_IDS: tf.SparseTensor(ids.indices, ids.values + features.RESERVED_IDS, ids.dense_shape),
        features.LABEL: inputs[features.LABEL],
    }


def _given_vocabulary(path: str, digest: str) -> str:
    """Returns the vocabulary of an earlier model, which becomes an asset of this graph under the name that it has.

    A path and no tensor of it: Transform copies the file beside the graph only if it is told where the file is while
    the graph is made. With a tensor the graph would read the earlier model's directory for ever.
    """
    with fileio.open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != digest:
        raise BadInputError(f"the vocabulary {path} changed after the run was configured: start the run again")
    tft.annotate_asset(VOCABULARY, os.path.basename(path))
    return path
