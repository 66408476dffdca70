"""The from-scratch transformer classifier."""

import tensorflow as tf
import tf_keras

from trainers.layers import MaskedPooling, WideNgrams
from trainers.transformer.config import TransformerConfig
from trainers.transformer.layers import EncoderBlock, TokenAndPositionEmbedding

TABLES = ("words", "positions", "ngrams")
"""Weights that are looked up by row; they take no weight decay."""
_WIDE_GAIN = 10.0


@tf.autograph.experimental.do_not_convert  # converting the source of Keras takes seconds and changes nothing
def build(config: TransformerConfig, vocab_size: int, max_tokens: int, classes: int) -> tf_keras.Model:
    """Builds the model.

    Args:
        config: Architecture.
        vocab_size: Number of token ids, padding and out-of-vocabulary included.
        max_tokens: Longest row.
        classes: Number of classes C.

    Returns:
        Model from token ids, int32 [N, T] with T up to ``max_tokens`` and 0 for padding, to logits,
        float32 [N, C].
    """
    ids = tf_keras.Input((None,), dtype=tf.int32, name="token_ids")
    states, mask = TokenAndPositionEmbedding(
        vocab_size, config.width, max_tokens, config.word_dropout, name="embedding"
    )(ids)
    states = tf_keras.layers.Dropout(config.dropout)(states)
    for number in range(config.blocks):
        states = EncoderBlock(
            config.width,
            config.heads,
            config.head_width,
            config.feed_forward,
            config.dropout,
            config.norm,
            name=f"block_{number}",
        )(states, mask)
    if config.norm == "pre":
        states = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="final_norm")(states)
    pooled = MaskedPooling(config.pooling, name="pooling")(states, mask)
    pooled = tf_keras.layers.Dropout(config.dropout)(pooled)
    if config.hidden:
        pooled = tf_keras.layers.Dense(config.hidden, activation="relu", name="hidden")(pooled)
        pooled = tf_keras.layers.Dropout(config.dropout)(pooled)
    logits = tf_keras.layers.Dense(classes, name="logits")(pooled)
    if config.wide_buckets:
        wide = WideNgrams(vocab_size, config.wide_buckets, classes, _WIDE_GAIN, config.wide_dropout, name="wide")(ids)
        logits = tf_keras.layers.Add()([logits, wide])
    return tf_keras.Model(ids, logits, name="transformer")
